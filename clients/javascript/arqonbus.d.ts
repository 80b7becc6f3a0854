/** Types of arqonbus.js. All times are in milliseconds. */

export declare const VERSION: string;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: unknown };

/** A place in a channel's log: after the message `seq` of the log `epoch`. Give it to `since` to go on from there. */
export interface Position {
  seq: number;
  /** Absent: the log that is there. Empty: it is not known which log it was, so that its messages count as lost. */
  epoch?: string | null;
}

/** Where to begin: a position, a seq (0: everything that is kept), or a time (Date or ISO text). */
export type Since = Position | number | string | Date | null;

export type State = "connecting" | "connected" | "reconnecting" | "closed";

export declare class ArqonBusError extends Error {}
export declare class ConnectionFailed extends ArqonBusError {}
export declare class ConnectionLost extends ArqonBusError {}
export declare class TimedOut extends ArqonBusError {}
/** Another page of this browser is connected with the identity that was asked for. */
export declare class IdentityInUse extends ArqonBusError {}
export declare class BusClosed extends ArqonBusError {}

export interface ErrorObject {
  code?: string;
  number?: number;
  message?: string;
  details?: unknown[];
  retry_after?: number;
}

/** The server's refusal of one frame or command. */
export declare class ServerError extends ArqonBusError {
  constructor(error?: ErrorObject);
  /** Such as `FORBIDDEN`; the table is in the documentation. */
  readonly code: string;
  /** An HTTP status by design. */
  readonly number: number;
  /** The server's sentence, without the code. */
  readonly reason: string;
  /** Every fault, not just the first. */
  readonly details: unknown[];
  readonly retryAfter: number | null;
  /** Whether the same request may succeed later. */
  readonly retry: boolean;
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

/** `room:channel` as a pair; a room alone is the whole room, `room:*`. */
export declare function splitAddress(address: string): [room: string, channel: string];

/** Growing pauses with jitter. */
export declare class Backoff {
  constructor(options?: { first?: number; most?: number; factor?: number; jitter?: () => number });
  attempts: number;
  pause(retryAfter?: number | null): number;
  reset(): void;
}

/** One delivered message. */
export declare class Message {
  constructor(frame: JsonObject, afterGap?: boolean);
  readonly id: string;
  readonly type: string;
  readonly room: string;
  readonly channel: string;
  /** `room:channel`. */
  readonly address: string;
  /** The sender's true client id. */
  readonly sender: string;
  /** The server's time. */
  readonly timestamp: Date | null;
  /** The place in the channel's log; null on ephemeral channels and for notices of the server. */
  readonly seq: number | null;
  readonly payload: JsonObject;
  /** What the sender gave as `message`: nearly always a text. */
  readonly content: unknown;
  /** The message's text; empty when it has none. */
  readonly text: string;
  readonly metadata: JsonObject;
  /** `payload.event` of the server's notices, such as `client_joined`. */
  readonly event: string | null;
  readonly private: boolean;
  /** Whether there was a message here whose content nobody can read any more; `payload` is empty. */
  readonly unreadable: boolean;
  /** Messages before this one are lost to this reader: pruned, or their log was rebuilt. */
  readonly afterGap: boolean;
  /** The frame as it came. */
  readonly raw: JsonObject;
}

/** The server's word that a message is durable. `duplicate`: this id had been published before. */
export interface Receipt {
  id: string;
  room: string;
  channel: string;
  /** null without `ack` and on ephemeral channels. */
  seq: number | null;
  duplicate: boolean;
}

export interface Page {
  messages: Message[];
  /** The cursor of the following page, null at the end. */
  next: number | string | null;
}

export interface SubscribeOptions {
  since?: Since;
  /** This client's own messages too. */
  echo?: boolean;
  /** Also what is sent to the whole room or to everybody; true by default. */
  broadcasts?: boolean;
  /** Also the server's notices of who joined and left. */
  presence?: boolean;
  /** Messages held for a slow reader; what does not fit is read from the history later. */
  buffer?: number;
}

/** What it throws is reported as an uncaught error is, and changes nothing else; so with every function that you give. */
export type Listener = (message: Message, subscription: Subscription) => void;

/** Messages of one channel, each exactly once and in order, however often the connection breaks. */
export declare class Subscription implements AsyncIterableIterator<Message> {
  readonly address: string;
  readonly room: string;
  readonly channel: string;
  /** Whether it stands for a membership: an inbox and a whole room's log come by themselves. */
  readonly joinable: boolean;
  readonly closed: boolean;
  /** Messages in the buffer. */
  readonly waiting: number;
  /** Messages of ephemeral channels that found no room in the buffer. */
  readonly dropped: number;
  /** How often messages were lost because the log did not reach back far enough. */
  readonly gaps: number;
  /** After the last message that was handed out. */
  readonly position: Position | null;
  /** Join the channel now instead of with the first `next`. */
  open(): Promise<this>;
  close(): Promise<void>;
  next(): Promise<IteratorResult<Message, undefined>>;
  return(value?: undefined): Promise<IteratorResult<Message, undefined>>;
  [Symbol.asyncIterator](): this;
}

export interface PublishOptions {
  payload?: JsonObject;
  /** `event` by default; `system` is for admins. */
  type?: string;
  metadata?: JsonObject;
  /** Your own id: a repeat with it is not published twice. */
  id?: string;
  /** Wait until the message is durable; true by default. */
  ack?: boolean;
  /** The message comes back to this client too; by default when one of its subscriptions asked for that. */
  echo?: boolean;
  timeout?: number;
}

export interface CommandOptions {
  /** Sent again after a break of the connection, as doing it twice does no harm. */
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
  participants: number;
  description: string;
  created_at: string;
  created_by: string;
  type: string;
  hardcoded: boolean;
  ephemeral: boolean;
  /** Messages ever published to it: the seq of its head. */
  messages: number;
  last_activity: string | null;
}

export interface Participant {
  client_id: string;
  client_type: string;
  screen_name: string | null;
  avatar: string | null;
  joined_at: string;
  last_activity: string | null;
}

export interface ChannelInfo {
  room: string;
  channel: string;
  participants: Participant[];
  participant_count: number;
  metadata: JsonObject;
  epoch: string;
  seq: number;
}

export interface Joined {
  room: string;
  channel: string;
  created: boolean;
  participants: number;
  epoch: string;
  seq: number;
  recovered: boolean | null;
  /** Where the logs that come with it stand, the room's own too. */
  positions: Record<string, { epoch: string; seq: number }>;
  /** Where it is not recovered: the first message that is left. */
  first_seq?: number;
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
}

/** A client of the bus: one identity that stays connected. Made by `connect`. */
export declare class Bus {
  /** The id that the server gave or confirmed. */
  readonly clientId: string;
  readonly state: State;
  /** Whether it is connected and registered at this moment. */
  readonly connected: boolean;
  /** The initial channel: where a message without an address goes. */
  readonly address: string;
  /** What the server takes this client for: `admin`, `user` or `anonymous`. */
  readonly role: string;
  /** The registration's answer. */
  readonly registered: JsonObject;
  /** How many connections there were. */
  readonly connections: number;
  /** What ended the bus for good, or null. */
  readonly failure: Error | null;
  /** The proof that one is this client, for another connection under the same `clientId`. A secret. */
  readonly resumeToken: string | null;
  /** Whether the `identity` outlives this page or process; null without one. */
  readonly identityKept: boolean | null;

  close(): void;
  whenConnected(): Promise<void>;
  /** Try at once instead of waiting for the end of the pause. */
  reconnectNow(): void;
  on(event: "state", listener: (state: State) => void): () => boolean;
  on(event: "error", listener: (error: Error, subscription?: Subscription) => void): () => boolean;
  on(event: "notice", listener: (frame: JsonObject) => void): () => boolean;

  publish(address: string | null, message?: unknown, options?: PublishOptions): Promise<Receipt>;
  private(to: string | string[], message?: unknown, options?: PublishOptions): Promise<Receipt>;
  subscribe(address: string, listener: Listener): Subscription;
  subscribe(address: string, options?: SubscribeOptions, listener?: Listener | null): Subscription;
  inbox(listener: Listener): Subscription;
  inbox(options?: SubscribeOptions, listener?: Listener | null): Subscription;
  join(address: string): Promise<Joined>;
  /** End a membership, and the subscriptions that need it. */
  leave(address: string): Promise<string[]>;

  command(name: string, parameters?: JsonObject, options?: CommandOptions): Promise<any>;
  /** Send a frame of your own as it is; nothing waits for its answer. */
  send(frame: JsonObject | string): Promise<void>;
  status(options?: { limit?: number; after?: string }): Promise<Status>;
  clients(): AsyncGenerator<ClientRow, void, undefined>;
  ping(echo?: unknown): Promise<{ pong: true; timestamp: string; echo?: unknown }>;
  help(command?: string | null): Promise<CommandDescription[]>;
  createChannel(
    address: string,
    options?: {
      description?: string;
      metadata?: JsonObject;
      ephemeral?: boolean;
      retention?: { count?: number; age?: number };
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

/** Keeps one text for a client, such as a file. */
export interface IdentityStore {
  /** What `set` was given last, perhaps by a process before this one; nothing for a new client. */
  get(): string | null | undefined | Promise<string | null | undefined>;
  set(text: string): unknown;
}

export interface ConnectOptions {
  clientId?: string;
  /**
   * Keeps the client's id and resume token, so that after a reload or a restart it is the same client: a name, under which a
   * browser keeps it for the page's origin, or a store of your own. A second page with that name gets IdentityInUse.
   */
  identity?: string | IdentityStore | null;
  /** The `resumeToken` of an earlier Bus with this `clientId`, where you keep it yourself. */
  resumeToken?: string | null;
  /** `app` by default; any word, such as `human`, `dashboard`, `ai-agent`, `service`. */
  clientType?: string;
  /** The initial room and channel, `science:general` by default; `room` may be `"science:explore"`. */
  room?: string;
  channel?: string;
  screenName?: string;
  avatar?: string;
  personality?: JsonObject;
  /** An access token, or a function that gives a fresh one for each connection. Sent as a sub-protocol. */
  token?: string | null | (() => string | null | Promise<string | null>);
  /** For pages of another site: fetches a single-use ticket for each connection, from the page's own back end. */
  ticket?: (() => string | Promise<string>) | null;
  reconnect?: boolean;
  /** How long a broken connection is tried again; null (the default): for ever. */
  giveUpAfter?: number | null;
  /** How long the server may take to appear; 0 (the default): one attempt, null: for ever. */
  wait?: number | null;
  /** How long a request may take, breaks of the connection included. */
  timeout?: number;
  openTimeout?: number;
  /** How many messages a subscription holds for a slow reader. */
  buffer?: number;
  /** How many publishes wait for their acks at once; further ones wait for a place. */
  maxUnacked?: number;
  /** Silence after which the line is tried; after twice that it counts as dead. */
  heartbeat?: number;
  backoff?: Backoff;
  /** A WebSocket class, where the runtime has none of its own: `(await import("ws")).WebSocket`. */
  WebSocket?: new (url: string, protocols?: string | string[]) => any;
  onState?: (state: State) => void;
  /** Sees every frame as text: `"in"` also parsed. For debugging. */
  onFrame?: (direction: "in" | "out", text: string, frame?: JsonObject) => void;
}

/** Connect to a bus; resolves with a `Bus` that is registered. */
export declare function connect(url?: string | URL, options?: ConnectOptions): Promise<Bus>;
