/** Types of arqonbus.js. All times are in milliseconds. */

export declare const VERSION: string;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: unknown };

/** A place in a channel's log: behind the message `seq` of the log `epoch`. Give it to `since` to go on from there. */
export interface Position {
  seq: number;
  /** Without it: the present log. Empty: the log is unknown, so its messages count as lost. */
  epoch?: string | null;
}

/** Where to start: behind a position, a seq (0: everything that is kept), or a time (Date or ISO text). */
export type Since = Position | number | string | Date | null;
/** `"mark"` is a place, too: behind what this client, or its user, has dealt with. The server remembers it. */
export interface Marked {
  room: string;
  channel: string;
  seq: number;
  epoch: string;
  /** How many messages lie behind the mark. */
  unread: number;
}

export type State = "connecting" | "connected" | "reconnecting" | "closed";

export declare class ArqonBusError extends Error {}
export declare class ConnectionFailed extends ArqonBusError {}
export declare class ConnectionLost extends ArqonBusError {}
export declare class TimedOut extends ArqonBusError {}
/** Another page of this browser is connected with the identity that was asked for. */
export declare class IdentityInUse extends ArqonBusError {}
export declare class BusClosed extends ArqonBusError {}
/** A new owner threw away the text of a streamed message. `message.text` is right, and reading can begin again. */
export declare class StreamReset extends ArqonBusError {}

export interface ErrorObject {
  code?: string;
  number?: number;
  message?: string;
  details?: unknown[];
  retry_after?: number;
}

/** The server refused one frame or command. */
export declare class ServerError extends ArqonBusError {
  constructor(error?: ErrorObject);
  /** Such as `FORBIDDEN`. The documentation of the protocol has the table. */
  readonly code: string;
  /** An HTTP status. */
  readonly number: number;
  /** The server's sentence, without the code. */
  readonly reason: string;
  /** Every fault, not only the first. */
  readonly details: unknown[];
  /** Milliseconds to wait before another attempt, if the server named them. */
  readonly retryAfter: number | null;
  /** Whether the same request may succeed later. */
  readonly retry: boolean;
}

/** The job belongs to another worker now, or to nobody. */
export declare class ClaimLost extends ServerError {
  constructor(error: ErrorObject);
  readonly claim: string;
  /** `expired`: out again; `taken`: another worker has it; `done`: done with this claim; `cancelled`: discarded, dead, or its channel is gone. */
  readonly why: string;
  /** The client that has the job. */
  readonly by: string | null;
  readonly seq: number | null;
}

/** The other side of a question has no answer. `reason` says why. */
export declare class AskFailed extends ArqonBusError {
  constructor(reply: Message);
  readonly reply: Message;
  readonly reason: string;
}

/** The server ended the connection for good. */
export declare class ClosedByServer extends ArqonBusError {
  constructor(closeCode: number, error?: ServerError | null);
  readonly closeCode: number;
  readonly error: ServerError | null;
}

export interface CloseKind {
  readonly meaning: string;
  readonly reconnect: boolean;
}
export declare const CLOSE_CODES: Readonly<Record<number, CloseKind>>;
/** Whether a client reconnects after this close code. */
export declare function comesBack(code: number): boolean;

/** Split `room:channel` into a pair. A room alone is the whole room, `room:*`. Throws TypeError for anything else. */
export declare function splitAddress(address: string): [room: string, channel: string];

/** Growing pauses with jitter. A `retry_after` of the server is obeyed, and the jitter is added to it. */
export declare class Backoff {
  constructor(options?: { first?: number; most?: number; factor?: number; jitter?: () => number });
  attempts: number;
  /** Milliseconds before the next attempt. Each call makes the following pause longer. */
  pause(retryAfter?: number | null): number;
  /** Start with a short pause again, because the connection is back. */
  reset(): void;
}

/** `text` grows by texts, `parts` by JSON objects. */
export type StreamMode = "text" | "parts";
export type EndState = "complete" | "aborted" | "stopped";
/** An open message still grows. */
export type StreamState = "open" | EndState;

/** One delivered message. A streamed one grows while it is open. */
export declare class Message {
  constructor(frame: JsonObject, afterGap?: boolean);
  readonly id: string;
  readonly type: string;
  readonly room: string;
  readonly channel: string;
  /** `room:channel`. */
  readonly address: string;
  /** The sender's client id. The server vouches for it. */
  readonly sender: string;
  /** The server's time. */
  readonly timestamp: Date | null;
  /** The place in the channel's log. It is null on ephemeral channels and for notices of the server. */
  readonly seq: number | null;
  readonly payload: JsonObject;
  /** What the sender gave as `message`, nearly always a text. */
  readonly content: unknown;
  /** The message's text. It is empty when there is none. */
  readonly text: string;
  readonly metadata: JsonObject;
  /** `payload.event` of the server's notices, such as `client_joined`. */
  readonly event: string | null;
  /** Whether it arrived through an inbox. */
  readonly private: boolean;
  /** Whether the content of this message can no longer be read. `payload` is then empty. */
  readonly unreadable: boolean;
  /** Messages before this one are lost to this reader: they were pruned, or their log was rebuilt. */
  readonly afterGap: boolean;
  /** The state of the application, in a message of a subscription with `snapshot`; undefined in any other. */
  readonly snapshot: any;
  /** The frame as it arrived. */
  readonly raw: JsonObject;
  /** Of an amendment: the id of the message that it changes. `raw.do` says how. Null for any other message. */
  readonly amends: string | null;
  /** The newest edit, or null. */
  readonly edited: AmendmentMark | null;
  /** The deletion, or null. */
  readonly deleted: AmendmentMark | null;
  /** The client ids of each reaction. */
  readonly reactions: Record<string, string[]>;
  /** Whether the content was erased for good. */
  readonly erased: boolean;
  /**
   * The message with its amendments up to here; of an amendment, the message that it changes. A subscription with `fold`
   * knows it. It is null for an amendment of a message that did not come. Elsewhere it is the message itself.
   */
  readonly folded: Message | null;
  /** Replace the text, or with an object the payload. See `Bus.edit`. */
  edit(content: string | JsonObject): Promise<Receipt>;
  /** Delete this message for its readers. See `Bus.delete`. */
  delete(): Promise<Receipt>;
  react(reaction: string): Promise<Receipt>;
  /** Take the own reaction back. */
  unreact(reaction: string): Promise<Receipt>;

  /** Whether the sender waits for a reply: see `bus.reply`. */
  readonly question: boolean;
  /** Of a question: who asks. */
  readonly replyTo: string | null;
  /** Of a question and its reply: what connects them. */
  readonly correlation: string | null;
  /** Of a reply: why the other side has no answer. */
  readonly error: string | null;
  /** Tell the server that this message, and all before it in its log, are dealt with. */
  mark(): Promise<Marked>;

  /** Of a streamed message. Null for any other. */
  readonly state: StreamState | null;
  readonly mode: StreamMode | null;
  /** What has arrived in mode `parts`. */
  readonly parts: any[];
  /** The number of the last part that has arrived. */
  readonly have: number;
  /** Resolves with the state in which it ends; `open` if this client stops to receive it before. */
  readonly ended: Promise<StreamState | null>;
  /** The payload of the end, and its place. Null before. */
  readonly endPayload: JsonObject | null;
  readonly endSeq: number | null;
  /** The ids of the steers that the owner had not taken. */
  readonly untaken: string[];
  /** The opening was not seen here, so payload and metadata are not known. */
  readonly late: boolean;
  /** The id of the streamed message that this message steers. */
  readonly steer: string | null;
  /**
   * What has arrived, and then what arrives: texts, or in mode `parts` the parts. Throws StreamReset when a new owner
   * throws the text away.
   */
  deltas(): AsyncGenerator<any, void, undefined>;
}

/** The end of a streamed message is durable. */
export interface StreamEnd {
  of: string;
  /** The place of the end. Null if the server ended the message. */
  seq: number | null;
  /** `stopped` if somebody asked to stop, whatever was asked for. */
  state: StreamState;
  have: number;
  duplicate: boolean;
  /** The ids of the steers that were not taken. */
  untaken: string[];
}

/** A message that steers a streamed one, for its owner. */
export declare class Steer extends Message {
  private constructor();
  /** The model has this message. The next part, or the end, says so. */
  took(): void;
}

/** The owner's side of a streamed message. */
export declare class OutStream {
  private constructor();
  /** The id of the message. */
  readonly of: string;
  readonly address: string;
  readonly mode: StreamMode;
  readonly state: StreamState;
  /** The number of the last part that the server has. */
  readonly have: number;
  /** Counts the owners. */
  readonly attempt: number;
  /** Aborts when somebody asks to stop, and when the stream is lost or over. */
  readonly stopRequested: AbortSignal;
  /** Add text. The first goes at once, and then texts of 40 ms go together. It waits while the server is far behind. */
  write(text: string): Promise<void>;
  /** Add a part, in mode `parts`. */
  part(part: JsonObject): Promise<void>;
  /** Send what was written now, and wait until the server has it. */
  flush(): Promise<void>;
  /** Write everything that a source gives: texts, bytes or parts. A stop ends it early, and a fault aborts. */
  pipe(source: AsyncIterable<unknown> | Iterable<unknown> | ReadableStream<unknown>): Promise<void>;
  /** End it behind what was written. */
  end(state?: EndState, payload?: JsonObject): Promise<StreamEnd>;
  /** The messages that steer this one, until it ends. Call `took()` of each that the model has. */
  steers(): AsyncGenerator<Steer, void, undefined>;
}

export interface StreamOptions {
  /** A name of your own, which becomes the id. The same run again goes on with its message: see `have`. */
  run?: string;
  /** `text` by default. */
  mode?: StreamMode;
  payload?: JsonObject;
  metadata?: JsonObject;
  type?: string;
  /** Also deliver the message to this client. */
  echo?: boolean;
  timeout?: number;
}

/** The server confirms that a message is durable. `duplicate`: this id had been published before. */
export interface Receipt {
  id: string;
  room: string;
  channel: string;
  /** null without `ack` and on ephemeral channels. */
  seq: number | null;
  duplicate: boolean;
  /** Of a steer: whether the streamed message was still open. */
  steered?: boolean;
  /** False if a gate of the project swallowed the message, which nobody gets. */
  kept?: false;
}

export interface Page {
  messages: Message[];
  /** The cursor of the following page. It is null at the end. */
  next: number | string | null;
}

/** Which amendment changed a message, when, and whose it is. */
export interface AmendmentMark {
  seq: number;
  at: string;
  by: string;
}

/** What can be amended: a message, the receipt of one, or its address and id. */
export type Amended = Message | Receipt | { address: string; id: string };

export interface AmendOptions {
  /** An id of your own. A repeat with the same id changes nothing. */
  id?: string;
  /** Milliseconds to wait for the answer. */
  timeout?: number;
}

/** A message with its amendments, which are frames in any order. */
export declare function fold(frame: JsonObject, amendments: Iterable<JsonObject>): JsonObject;

/** The messages of channels as they stand now. Hand every received message to `take`. */
export declare class Fold {
  /** `keep` is the number of messages that it remembers. 10,000 by default. */
  constructor(options?: { keep?: number });
  readonly keep: number;
  /** The remembered messages as they stand now, in the order in which they came. */
  readonly messages: Message[];
  /** The message as it stands now, or for an amendment the message that it changes. Null if that is not remembered. */
  take(message: Message): Message | null;
  /** Drop the content of erased messages. `notice` is the server's frame that names them (the event `notice`). It returns what changed. */
  erase(notice: JsonObject): Message[];
}

/** A state of the application, and the position at which the later messages begin. */
export interface Snapshot {
  state: unknown;
  position: Position;
}

export interface SubscribeOptions {
  since?: Since;
  /**
   * Called at first, and whenever messages are lost. Each state comes as a message of its own (`message.snapshot`), and
   * the messages that it does not know of follow.
   */
  snapshot?: () => Snapshot | Promise<Snapshot>;
  /** Begin with so many of the newest messages, at most 100. They come with the answer to the join. Not with `since`. */
  last?: number | null;
  /** Let `message.folded` show each message with its amendments. It implies `echo`. */
  fold?: boolean;
  /** Move the mark behind each message when the next one is asked for. A listener is waited for. */
  autoMark?: boolean;
  /** Also deliver this client's own messages. */
  echo?: boolean;
  /** Also deliver messages to the whole room or to everybody. True by default. */
  broadcasts?: boolean;
  /** Also deliver the server's notices about members who join and leave. */
  presence?: boolean;
  /** Receive the parts of streamed messages. True by default. Without them a message is empty until it ends. */
  parts?: boolean;
  /** How many messages wait for a slow reader. The others are read from the history later. */
  buffer?: number;
}

/**
 * Called with each message. What it throws is reported like an uncaught error, and changes nothing else. That holds for
 * every function of yours.
 */
export type Listener = (message: Message, subscription: Subscription) => void;

/** Messages of one channel, each exactly once and in order, however often the connection breaks. */
export declare class Subscription implements AsyncIterableIterator<Message> {
  readonly address: string;
  readonly room: string;
  readonly channel: string;
  /** Whether it needs a membership. Messages of an inbox or a whole room arrive without one. */
  readonly joinable: boolean;
  readonly closed: boolean;
  /** How many messages wait in the buffer. */
  readonly waiting: number;
  /** Messages of ephemeral channels that did not fit into the buffer. */
  readonly dropped: number;
  /** How often messages were lost because the log did not reach back far enough. */
  readonly gaps: number;
  /** The place behind the last message that was handed out. */
  readonly position: Position | null;
  /** Join the channel now instead of with the first `next`. */
  open(): Promise<this>;
  close(): Promise<void>;
  next(): Promise<IteratorResult<Message, undefined>>;
  return(value?: undefined): Promise<IteratorResult<Message, undefined>>;
  [Symbol.asyncIterator](): this;
}

export interface FollowOptions {
  /** The `positions` of an earlier subscription to the room. */
  since?: Record<string, Position>;
  echo?: boolean;
  presence?: boolean;
  parts?: boolean;
  fold?: boolean;
  buffer?: number;
}

/** Messages of all channels of a room, each exactly once and in the order of its channel. */
export declare class RoomSubscription extends Subscription {
  /** Whether the room has more channels than one connection may follow. */
  readonly truncated: boolean;
  /** The names of the channels that are followed now. `*` is the log of the whole room. */
  readonly channels: string[];
  /** The places behind the last messages that were handed out, by the name of the channel. Each followed channel has one. */
  readonly positions: Record<string, Position>;
}

export interface PublishOptions {
  payload?: JsonObject;
  /** `event` by default; `system` is for admins. */
  type?: string;
  metadata?: JsonObject;
  /** An id of your own. A repeat with the same id is not published twice. */
  id?: string;
  /** Wait until the message is durable. True by default. */
  ack?: boolean;
  /** Also deliver the message to this client. By default that is so when one of its subscriptions asked for it. */
  echo?: boolean;
  /** The streamed message that this message steers, or its id. */
  steer?: string | Message | null;
  /** In a work channel: when the job is out. */
  deliverAt?: Date | string | null;
  timeout?: number;
}

/** The rule of a work channel. Times are in seconds, as everywhere on the server. */
export interface WorkRule {
  /** How long a job belongs to a worker that does not renew it. */
  lease?: number;
  /** How often a job is tried before it is dead. */
  attempts?: number;
  /** How long a worker may have a job at most. */
  hold?: number;
  /** The channel that gets dead jobs. */
  dead?: string | null;
}

/** A claim as the server sends it. */
export interface ClaimedJob {
  claim: string;
  attempt: number;
  /** Seconds. */
  lease: number;
  hold?: number;
  message: JsonObject;
}

export interface JobDone {
  claim: string;
  seq: number | null;
  state: string;
  /** Whether the job was a question, and its asker got the result. */
  replied?: boolean;
}

export interface JobReturned {
  claim: string;
  seq: number | null;
  /** `ready` or `dead`. */
  state: string;
}

/** One claimed job of a work channel. */
export declare class Job {
  private constructor();
  /** The name of this acquisition. It is a secret. */
  readonly claim: string;
  /** How often the job was claimed, this time included. */
  readonly attempt: number;
  /** How long the job is this worker's without a renewal, in milliseconds. */
  readonly lease: number;
  readonly address: string;
  readonly message: Message;
  readonly payload: JsonObject;
  readonly text: string;
  readonly seq: number | null;
  readonly state: "claimed" | "done" | "released" | "rejected" | "lost";
  /** Aborts when the job is no longer this worker's. `lost.reason` is the error. */
  readonly lost: AbortSignal;
  /** The job is done. If it is a question, `result` becomes its reply. Throws ClaimLost. */
  done(result?: unknown): Promise<JobDone>;
  /** Give it back: it is out again after `delay` milliseconds. Throws ClaimLost. */
  release(options?: { delay?: number; error?: string | null }): Promise<JobReturned>;
  /** It can never be done: it is dead at once. Throws ClaimLost. */
  reject(error?: string | null): Promise<JobReturned>;
  /** Ask whether it is still this worker's. Throws ClaimLost. */
  renew(): Promise<void>;
}

/**
 * Works on one job. What it returns is the result. If it throws, the job is out again after a growing pause. It may
 * also call `done`, `release` or `reject` itself.
 */
export type JobHandler = (job: Job, worker: JobWorker) => unknown;

export interface WorkOptions {
  /** How many jobs at once. One by default. */
  concurrency?: number;
  /** How long the server waits for a job before it answers, at most 25,000 (the default). */
  wait?: number;
}

/** A handler at work on one channel. */
export declare class JobWorker {
  private constructor();
  readonly address: string;
  readonly concurrency: number;
  /** How many handlers are running. */
  readonly running: number;
  readonly closed: boolean;
  /** What ended it, or null. */
  readonly failure: unknown;
  /** Resolves when it claims no more, and its last handler has ended. */
  readonly ended: Promise<void>;
  /** Claim no more, and wait for the handlers that are running. */
  close(): Promise<void>;
}

/** What is in a work channel. */
export interface WorkOverview {
  room: string;
  channel: string;
  work: WorkRule;
  ready: number;
  delayed: number;
  claimed: { seq: number; by: string | null; attempt: number; since: string; lease_until: string }[];
  claimed_count: number;
  /** Since when the oldest ready job waits. */
  oldest: string | null;
  dead: { seq: number; attempts: number; errors: JsonObject[]; at: string }[];
  dead_count: number;
  /** Whether you may retry and discard. */
  manage?: boolean;
}

/** What a person may answer. */
export type DecisionAnswer = "approve" | "edit" | "reject" | "respond";
export type DecisionState = "pending" | "approved" | "edited" | "rejected" | "responded" | "expired" | "cancelled";

/** A question to people, as the server has it. */
export interface Decision {
  /** Its name. */
  decision: string;
  room: string;
  channel: string;
  key: string;
  title: string;
  action: string;
  /** After an `edit` those of the person. */
  args: JsonObject;
  /** Those that were asked for. */
  asked_args: JsonObject;
  allow: DecisionAnswer[];
  schema: JsonObject | null;
  state: DecisionState;
  answer: DecisionAnswer | null;
  comment: string;
  /** The client that asks. */
  asker: string;
  /** Who decided. */
  by: string | null;
  created_at: string;
  expires_at: string;
  ended_at: string | null;
  consumed_at: string | null;
  may_decide?: boolean;
}

export interface DecisionOptions {
  /** Names the question among your own. */
  key: string;
  /** What people read. */
  title: string;
  /** What you will do, with `args`. */
  action: string;
  args?: JsonObject;
  /** `["approve", "reject"]` by default. */
  allow?: DecisionAnswer[];
  /** A JSON schema of edited args. */
  schema?: JsonObject;
  /** After how many milliseconds it ends without an answer. An hour by default. */
  expires?: number;
  /** How it ends then. `"reject"` by default. */
  onExpiry?: "reject" | "approve" | "none";
}

export interface DecisionFilter {
  address?: string;
  room?: string;
  state?: DecisionState;
  /** Only your own questions. */
  mine?: boolean;
  /** Only those that you may decide now. */
  toDecide?: boolean;
}

export interface AskOptions extends Pick<PublishOptions, "payload" | "metadata" | "id" | "type"> {
  /** How long the other side has. 30,000 by default. */
  timeout?: number;
  /** The other side may be away now. */
  durable?: boolean;
}

/**
 * Answers a question. An object that it returns is the payload of the reply; of any other value it is `{result: value}`.
 * If it throws, the asker gets AskFailed.
 */
export type AnswerHandler = (question: Message) => unknown;

export interface AnswersOptions {
  /** `"mark"` by default: durable questions that came while this client was away are answered, too. */
  since?: Since;
  /** How many questions at once. 16 by default. */
  concurrency?: number;
}

/** A handler that answers. */
export declare class Responder {
  private constructor();
  /** Wait until questions reach the handler. */
  open(): Promise<this>;
  /** Resolves when it answers no more. */
  readonly ended: Promise<void>;
  /** Take no more questions, and wait for the handlers that are running. */
  close(): Promise<void>;
}

/** What a client is doing. */
export interface StatusOptions {
  /** A word, at most 32 characters. */
  status?: string | null;
  /** At most 200 characters. */
  task?: string | null;
  /** At most 500 characters. */
  text?: string | null;
  tokens?: number | null;
  /** When it ends, in milliseconds. Without it the status ends with the connection. */
  ttl?: number | null;
}

export interface ClientStatus {
  status?: string;
  task?: string;
  text?: string;
  tokens?: number;
  [key: string]: unknown;
}

/** Who a client is and what it can do. */
export interface Card {
  name?: string;
  description?: string;
  skills?: string[];
}

export interface ClientFilter {
  type?: string;
  status?: string;
  skill?: string;
}

export interface JoinOptions {
  /** Receive the parts of streamed messages. True by default. */
  parts?: boolean;
}

export interface CommandOptions {
  /** Send it again after a break of the connection, because doing it twice does no harm. */
  repeat?: boolean;
  timeout?: number;
  id?: string;
}

export interface ClientRow {
  client_id: string;
  client_type: string;
  screen_name: string | null;
  avatar: string | null;
  channels: string[];
  connected_at: string | null;
  last_activity: string | null;
  personality?: JsonObject;
  card?: Card | null;
  status?: ClientStatus | null;
}

export interface Status {
  server: { version: string; protocol: string; started_at: string; uptime_seconds: number };
  stats: {
    total_connections: number;
    active_connections: number;
    active_rooms: number;
    active_channels: number;
    total_messages: number;
  };
  channels: { room: string; channel: string; participants: number }[];
  next_channel: string | null;
  clients: ClientRow[];
  next: string | null;
}

export interface ChannelRow {
  room: string;
  channel: string;
  participants: number | null;
  description: string;
  created_at: string;
  created_by: string;
  type: string;
  hardcoded: boolean;
  ephemeral: boolean;
  /** How many messages were ever published to it: the seq of its head. */
  messages: number;
  last_activity: string | null;
  /** How many messages lie behind your mark, if you have one. */
  unread?: number;
  /** The rule of a work channel. */
  work?: WorkRule | null;
}

export interface Participant {
  client_id: string;
  client_type: string;
  screen_name: string | null;
  avatar: string | null;
  joined_at: string;
  last_activity: string | null;
  card?: Card | null;
  status?: ClientStatus | null;
}

export interface ChannelInfo {
  room: string;
  channel: string;
  participants: Participant[];
  participant_count: number | null;
  metadata: JsonObject;
  epoch: string;
  seq: number;
}

export interface Joined {
  room: string;
  channel: string;
  created: boolean;
  participants: number | null;
  epoch: string;
  seq: number;
  recovered: boolean | null;
  /** The heads of the logs that come with it, including the log of the whole room. */
  positions: Record<string, { epoch: string; seq: number }>;
  /** If it is not recovered: the first message that is left. */
  first_seq?: number;
  /** With `since: "mark"`: the mark. */
  mark?: number;
  /** With `last`: the newest messages as they were sent; null without the right to history. */
  messages?: JsonObject[] | null;
}

export interface CommandDescription {
  command: string;
  summary: string;
  who: string;
  parameters: Record<string, JsonObject>;
  required: string[];
  errors: string[];
}

export interface HistoryOptions {
  limit?: number;
  before?: number | string | Date | null;
  after?: number | string | Date | null;
  type?: string;
  sender?: string;
  /** A streamed message is one message. True by default; with false its opening and its end are two. */
  fold?: boolean;
}

/** A client of the bus: one identity that stays connected. `connect` makes it. */
export declare class Bus {
  /** The id that the server gave or confirmed. */
  readonly clientId: string;
  readonly state: State;
  /** Whether it is connected and registered at this moment. */
  readonly connected: boolean;
  /** The initial channel: a message without an address goes there. */
  readonly address: string;
  /** How the server regards this client: `admin`, `user` or `anonymous`. */
  readonly role: string;
  /** The registration's answer. */
  readonly registered: JsonObject;
  /** How many connections there were. */
  readonly connections: number;
  /** What ended the bus for good, or null. */
  readonly failure: Error | null;
  /** The proof of this client's identity, for another connection under the same `clientId`. It is a secret. */
  readonly resumeToken: string | null;
  /** Whether the `identity` outlives this page or process. It is null without an `identity`. */
  readonly identityKept: boolean | null;

  close(): void;
  whenConnected(): Promise<void>;
  /** Try at once instead of waiting for the end of the pause. */
  reconnectNow(): void;
  on(event: "state", listener: (state: State) => void): () => boolean;
  on(event: "error", listener: (error: Error, subscription?: Subscription) => void): () => boolean;
  on(event: "notice", listener: (frame: JsonObject) => void): () => boolean;

  publish(address: string | null, message?: unknown, options?: PublishOptions): Promise<Receipt>;
  /** Open a message that grows. */
  stream(address: string | null, options?: StreamOptions): Promise<OutStream>;
  /**
   * Become the owner of a streamed message. With `keep: false` its text is thrown away. With an `address`, a message of
   * another channel is refused.
   */
  adoptStream(
    stream: string | Message | OutStream,
    options?: { keep?: boolean; address?: string | null },
  ): Promise<OutStream>;
  /** Ask the owner of a streamed message to stop. */
  stopStream(
    stream: string | Message | OutStream,
  ): Promise<{ of: string; state: StreamState; have: number; stopping: boolean }>;
  /**
   * Call `callback` with the text of a message, and what is new of it, each time it grows. The second value is null
   * when the text is thrown away. Resolves with the state in which it ends.
   */
  streamText(
    message: Message,
    callback: (text: string, delta: any, message: Message) => unknown,
  ): Promise<StreamState | null>;
  private(to: string | string[], message?: unknown, options?: PublishOptions): Promise<Receipt>;
  /** Follow all channels of a room that this client may join, also those to come. Nobody sees it there. */
  follow(room: string, listener: Listener): RoomSubscription;
  follow(room: string, options?: FollowOptions, listener?: Listener | null): RoomSubscription;
  /** Replace the text of a message, with an object its payload, or with `payload` too both. */
  edit(
    message: Amended,
    content: string | JsonObject,
    options?: AmendOptions & { payload?: JsonObject },
  ): Promise<Receipt>;
  /** Delete a message for its readers. */
  delete(message: Amended, options?: AmendOptions): Promise<Receipt>;
  /** React to a message, with an emoji or another short text. */
  react(message: Amended, reaction: string, options?: AmendOptions): Promise<Receipt>;
  /** Take the own reaction back. */
  unreact(message: Amended, reaction: string, options?: AmendOptions): Promise<Receipt>;
  /** Erase what a message and its amendments say, for good (managers only). */
  eraseMessage(address: string, seq: number): Promise<JsonObject>;
  subscribe(address: string, listener: Listener): Subscription;
  subscribe(address: string, options?: SubscribeOptions, listener?: Listener | null): Subscription;
  inbox(listener: Listener): Subscription;
  inbox(options?: SubscribeOptions, listener?: Listener | null): Subscription;
  join(address: string, options?: JoinOptions): Promise<Joined>;
  /** End a membership, and the subscriptions that need it. */
  leave(address: string): Promise<string[]>;

  /** Tell the server that everything up to `seq` is dealt with. With `back` it also moves backwards. */
  mark(address: string, seq: number, options?: { back?: boolean; epoch?: string | null }): Promise<Marked>;
  /** Run a handler for each job of a work channel. */
  work(address: string, handler: JobHandler, options?: WorkOptions): JobWorker;
  /** Claim jobs yourself. Call `done`, `release` or `reject` of each. */
  claim(address: string, options?: { max?: number; wait?: number }): Promise<Job[]>;
  workOverview(address: string): Promise<WorkOverview>;
  /** Let a dead job out again. */
  retryJob(address: string, seq: number): Promise<JsonObject>;
  /** Take a job out of the queue. */
  discardJob(address: string, seq: number): Promise<JsonObject>;
  /** Ask a client, or a work channel, and wait for the reply. */
  ask(to: string, message?: unknown, options?: AskOptions): Promise<Message>;
  /** Answer the questions to this client. */
  answers(handler: AnswerHandler, options?: AnswersOptions): Responder;
  /** Reply to a question yourself. */
  reply(
    question: string | Message,
    payload?: JsonObject,
    options?: { error?: string | null; id?: string },
  ): Promise<Receipt>;
  /** Ask people to decide, and wait until one of them has, also across breaks and restarts. */
  decideByHuman(address: string, options: DecisionOptions & { timeout?: number | null }): Promise<Decision>;
  /** Ask people to decide. Resolves with the pending decision. */
  requestDecision(address: string, options: DecisionOptions): Promise<Decision>;
  /** A decision once it has ended, or as it is after `wait` milliseconds, at most 25,000. */
  awaitDecision(decision: string | Decision, options?: { wait?: number }): Promise<Decision>;
  /** The first answer counts. */
  decide(
    decision: string | Decision,
    answer: DecisionAnswer,
    options?: { args?: JsonObject; comment?: string },
  ): Promise<Decision>;
  /** Withdraw a question. */
  cancelDecision(decision: string | Decision): Promise<Decision>;
  /** Use a decision of your own, once. */
  consumeDecision(decision: string | Decision): Promise<Decision>;
  /** The decisions that you may see, the newest first. */
  listDecisions(filter?: DecisionFilter): AsyncGenerator<Decision, void, undefined>;
  /** Say what this client is doing. What is not given is cleared. */
  setStatus(options?: StatusOptions): Promise<void>;

  command(name: string, parameters?: JsonObject, options?: CommandOptions): Promise<any>;
  /** Send a frame of your own as it is. Nothing waits for its answer. */
  send(frame: JsonObject | string): Promise<void>;
  status(options?: { limit?: number; after?: string }): Promise<Status>;
  clients(filter?: ClientFilter): AsyncGenerator<ClientRow, void, undefined>;
  ping(echo?: unknown): Promise<{ pong: true; timestamp: string; echo?: unknown }>;
  help(command?: string | null): Promise<CommandDescription[]>;
  createChannel(
    address: string,
    options?: {
      description?: string;
      metadata?: JsonObject;
      ephemeral?: boolean;
      retention?: { count?: number; age?: number };
      work?: WorkRule;
      /** How much members learn of one another. */
      presence?: "names" | "counts" | "none";
      type?: string;
    },
  ): Promise<JsonObject>;
  deleteChannel(address: string): Promise<JsonObject>;
  listChannels(room?: string | null): Promise<ChannelRow[]>;
  channelInfo(address: string): Promise<ChannelInfo>;
  historyPage(address: string, options?: HistoryOptions): Promise<Page>;
  history(
    address: string,
    options?: { since?: Since; until?: string | Date | null; type?: string; sender?: string },
  ): AsyncGenerator<Message, void, undefined>;
}

/** Stores one text for a client, for example in a file. */
export interface IdentityStore {
  /** The text that `set` stored last, perhaps in an earlier process. A new client has none. */
  get(): string | null | undefined | Promise<string | null | undefined>;
  set(text: string): unknown;
}

export interface ConnectOptions {
  clientId?: string;
  /**
   * Stores the client's id and resume token, so that it is the same client after a reload or a restart. A name: the
   * browser stores them under it, for the page's origin. Or a store of your own. A second page with the same name gets
   * IdentityInUse.
   */
  identity?: string | IdentityStore | null;
  /** The `resumeToken` of an earlier Bus with this `clientId`, if you store it yourself. */
  resumeToken?: string | null;
  /** Any word, such as `human`, `dashboard`, `ai-agent` or `service`. `app` by default. */
  clientType?: string;
  /** The initial room and channel, `science:general` by default. `room` may be `"science:explore"`. */
  room?: string;
  channel?: string;
  screenName?: string;
  avatar?: string;
  personality?: JsonObject;
  /** Who this client is and what it can do. `bus.clients({ skill })` finds it. */
  card?: Card;
  /** An access token, or a function that returns one for each connection. It is sent as a sub-protocol. */
  token?: string | null | (() => string | null | Promise<string | null>);
  /** For pages of another site: gets a single-use ticket for each connection from the page's own back end. */
  ticket?: (() => string | Promise<string>) | null;
  /** Reconnect after a break. True by default. */
  reconnect?: boolean;
  /** How long to try after a break. For ever with null, which is the default. */
  giveUpAfter?: number | null;
  /** How long to try the first connection: once with 0, which is the default, and for ever with null. */
  wait?: number | null;
  /** How long a request may take, breaks of the connection included. */
  timeout?: number;
  /** How long a handshake may take, and each of your functions before it. */
  openTimeout?: number;
  /** How many messages of a subscription wait for a slow reader. */
  buffer?: number;
  /** How many publishes may wait for their acks at once. Further ones wait for their turn. */
  maxUnacked?: number;
  /** Silence after which the client pings the server. After twice that the connection counts as dead. */
  heartbeat?: number;
  /** The pauses between attempts. */
  backoff?: Backoff;
  /** A WebSocket class, if the runtime has none of its own: `(await import("ws")).WebSocket`. */
  WebSocket?: new (url: string, protocols?: string | string[]) => any;
  onState?: (state: State) => void;
  /** Gets every frame as text, and those of the server (`"in"`) also parsed. For debugging. */
  onFrame?: (direction: "in" | "out", text: string, frame?: JsonObject) => void;
}

/**
 * Connect to a bus. It resolves with a `Bus` that is registered.
 *
 * Throws ConnectionFailed when no server answers, ClosedByServer or ServerError when the server refuses.
 */
export declare function connect(url?: string | URL, options?: ConnectOptions): Promise<Bus>;
