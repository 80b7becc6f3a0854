/** The client as applications use it: the parts of this folder, put together. */

import { INBOX_ROOM } from "./addresses.js";
import { Answers } from "./answers.js";
import { Listeners, callListener } from "./application.js";
import { Connection } from "./connection.js";
import { BusClosed, ServerError } from "./errors.js";
import { Followings, RoomSubscription } from "./following.js";
import { isAppend, isOpening, isStreamEnd } from "./growth.js";
import { Line } from "./line.js";
import { Logs } from "./logs.js";
import { Memberships } from "./memberships.js";
import { Message } from "./message.js";
import { Requests } from "./requests.js";
import { SnapshotSubscription } from "./snapshots.js";
import { Subscription } from "./subscription.js";
import { Teamwork } from "./teamwork.js";

/** @import { ConnectOptions, FollowOptions, JoinOptions, Listener, SubscribeOptions } from "../arqonbus.d.ts" */
/** @import { ConnectionSettings } from "./connection.js" */
/** @import { Frame } from "./frames.js" */
/** @import { Identity } from "./identity.js" */
/** @import { Dial } from "./link.js" */
/** @import { SubscriptionHost } from "./listening.js" */

/**
 * @typedef {object} BusSettings
 * @property {number} timeout
 * @property {number} buffer
 * @property {number} maxUnacked
 * @property {ConnectOptions["onState"]} onState
 */

const SERVER_ID = "arqonbus_server";

/** A client of the bus: one identity that stays connected. `connect` makes it. */
export class Bus extends Teamwork {
  #listeners = new Listeners();
  /** @type {Answers} */
  #answers;
  #logs = new Logs((address) => this.#answers.leave(address));

  /**
   * @param {Dial} dial
   * @param {Frame} registration
   * @param {ConnectionSettings & BusSettings} settings
   * @param {Identity | null} [identity] what is stored of this client beyond its life
   */
  constructor(dial, registration, settings, identity = null) {
    const line = new Line();
    const requests = new Requests(line, settings.timeout, (problem) => {
      // It does not say which frame was refused.
      if (problem.code === "RATE_LIMITED") this._streams.goOn(problem.retryAfter ?? 1_000);
      this._emit("error", problem);
    });
    const answers = new Answers((growth) => this.#folded(growth));
    const echoes = (/** @type {string | null | undefined} */ address) =>
      this.#logs.subscriptionsOf(address || this.address).some((each) => each.echo);
    const onError = (/** @type {unknown} */ problem) => this._emit("error", problem);
    super({ line, requests, answers }, settings, {
      echoes,
      onError,
      connections: () => this.connections,
      inbox: (options) => this.inbox(options),
    });
    this.#answers = answers;
    this._line = line;
    this._buffer = settings.buffer;
    this._identity = identity;
    const connection = new Connection(
      dial,
      registration,
      settings,
      { line, requests, identity },
      {
        positions: () => this.#logs.positions(memberships.wanted()),
        onRegistered: (answer, asked) => {
          for (const [address, place] of Object.entries(answer.marks ?? {})) this._marks.learn(address, place);
          memberships.registered(answer.channels ?? {}, asked);
        },
        onFrame: (frame) => this.#receive(frame),
        onConnected: () => {
          memberships.reconcile();
          if (connection.connections > 1) followings.reconnected();
          this._streams.goOn();
          this.#answers.reconnected();
          if (connection.connections > 1) this._resumeTeamwork();
        },
        onState: (state) => {
          callListener(settings.onState, state);
          this._emit("state", state);
        },
        onEnd: (error) => this.#end(error),
      },
    );
    const { _marks: marks, _asks: asks } = this;
    const memberships = new Memberships(
      { line, connection, requests, commands: this, logs: this.#logs, marks },
      onError,
    );
    const followings = new Followings({ line, requests, logs: this.#logs });
    this._followings = followings;
    this._connection = connection;
    this._memberships = memberships;
    /** @type {SubscriptionHost} */
    this._host = {
      answers: this.#answers,
      marks,
      mark: (address, seq) => this.mark(address, seq),
      takesReply: (frame) => asks.take(frame),
      get clientId() {
        return connection.clientId;
      },
      get closed() {
        return connection.state === "closed";
      },
      attach: (subscription) => memberships.attach(subscription),
      detach: (subscription) => memberships.detach(subscription),
      historyFrames: (address, after, limit) => this._historyFrames(address, after, limit),
      onError: (problem, subscription) => this._emit("error", problem, subscription),
      bus: this,
    };
    /** @type {SubscriptionHost} */
    this._roomHost = Object.create(this._host, {
      attach: { value: (/** @type {Subscription} */ subscription) => followings.attach(subscription) },
      detach: { value: (/** @type {Subscription} */ subscription) => followings.detach(subscription) },
    });
  }

  // --- state ---

  /** The id that the server gave or confirmed. */
  get clientId() {
    return this._connection.clientId;
  }

  /** The registration's answer: role, initial room and channel. */
  get registered() {
    return this._connection.registered;
  }

  /** How many connections there were. */
  get connections() {
    return this._connection.connections;
  }

  /** `connecting`, `connected`, `reconnecting` or `closed`. */
  get state() {
    return this._connection.state;
  }

  /** Whether it is connected and registered at this moment. */
  get connected() {
    return this._line.connected;
  }

  /** The initial channel: a message without an address goes there. */
  get address() {
    return this._connection.address;
  }

  /** How the server regards this client: `admin`, `user` or `anonymous`. */
  get role() {
    return String(this.registered.role ?? "");
  }

  /** What ended the bus for good, or null. */
  get failure() {
    return this._line.failure;
  }

  /** The proof of this client's identity, for another connection under the same `clientId`. It is a secret. */
  get resumeToken() {
    return this._connection.resumeToken;
  }

  /** Whether the `identity` outlives this page or process; null without an `identity`. */
  get identityKept() {
    return this._identity && this._identity.kept;
  }

  // --- life ---

  async _open() {
    await this._connection.open();
    return this;
  }

  /** Close the connection. Iterators end, and requests without an answer fail with BusClosed. */
  close() {
    this._connection.end(new BusClosed("The bus is closed."));
    this._line.link?.close();
  }

  /** Wait until it is connected. Throws what ended the bus for good. */
  whenConnected() {
    return this._line.whenUp();
  }

  /** Try at once instead of waiting for the end of the pause. */
  reconnectNow() {
    this._connection.reconnectNow();
  }

  /**
   * Listen to `state` (name), `error` (a ServerError that answers no request, or what ended a listener's subscription)
   * or `notice` (frame). Returns a function that removes the listener.
   * @param {string} event
   * @param {(...values: any[]) => unknown} listener
   */
  on(event, listener) {
    return this.#listeners.add(event, listener);
  }

  /**
   * @param {string} event
   * @param {unknown[]} values
   */
  _emit(event, ...values) {
    this.#listeners.emit(event, ...values);
  }

  /** @param {Error} error */
  #end(error) {
    this._streams.fail(error);
    this.#answers.leave();
    this._endTeamwork(error);
    for (const subscription of this.#logs.all) {
      if (error instanceof BusClosed) subscription._finish();
      else subscription._fail(error);
    }
  }

  // --- frames in ---

  /** @param {Frame} frame */
  #receive(frame) {
    const { type, room, channel, seq } = frame;
    if (type === "error") this._asks.refused(frame);
    if (type === "ack" || (["command_response", "error"].includes(type) && seq === undefined)) {
      this._requests.answered(frame);
      return;
    }
    const notice = type === "system" && frame.from === SERVER_ID && seq === undefined;
    if (notice && this._streams.notice(frame.payload ?? {})) return;
    if (typeof room !== "string" || typeof channel !== "string") return;
    const address = `${room}:${channel}`;
    if (notice) this.#notice(address, frame);
    else if (isAppend(frame)) this.#append(address, frame);
    else this.#message(address, frame);
  }

  /**
   * @param {string} address
   * @param {Frame} frame a message of a log
   */
  #message(address, frame) {
    if (Number.isInteger(frame.seq)) {
      this.#logs.advance(address, frame.seq);
      if (isOpening(frame) || isStreamEnd(frame)) this.#answers.take(frame);
      this._asks.take(frame);
    }
    for (const subscription of this.#logs.receivers(address)) subscription._deliver(address, frame);
  }

  /**
   * @param {string} address
   * @param {Frame} frame a part of a streamed message, or a snapshot of its parts
   */
  #append(address, frame) {
    const known = this.#answers.get(frame.of);
    const growth = this.#answers.append(address, frame);
    if (!growth.sender && this._streams.owns(frame.of)) growth.sender = this.clientId;
    if (known && !frame.snapshot) return;
    for (const subscription of this.#logs.receivers(address)) subscription._grows(growth);
  }

  /**
   * The folded message of an answer that is not known well. Null if it is gone.
   * @param {import("./growth.js").Growth} growth
   * @returns {Promise<Frame | null>}
   */
  async #folded({ of, seq, address }) {
    try {
      const [frame] = await this._historyFrames(address, Number(seq) - 1, 1, true);
      return frame?.id === of ? frame : null;
    } catch (problem) {
      if (problem instanceof ServerError && problem.number === 404) return null;
      throw problem;
    }
  }

  /**
   * A message of the history. If it is open and reaches this client, it grows.
   * @override
   * @param {Frame} frame
   */
  _kept(frame) {
    const grows =
      isOpening(frame) && frame.stream.state === "open" && this.#logs.live.has(`${frame.room}:${frame.channel}`);
    const message =
      grows || this.#answers.get(frame.id) ? new Message(frame, false, this.#answers.take(frame)) : super._kept(frame);
    message._mark = this._host.mark;
    message._bus = this;
    return message;
  }

  /**
   * @param {string} address
   * @param {Frame} frame
   */
  #notice(address, frame) {
    if (frame.payload?.event === "unsubscribed") {
      const error =
        frame.payload.reason === "DELETED"
          ? { code: "CHANNEL_NOT_FOUND", number: 404, message: `${address} was deleted.` }
          : { code: "REVOKED", number: 403, message: `Your access to ${address} was withdrawn.` };
      this._memberships.ended(address, new ServerError(error));
    } else if (!this._followings.notice(address, frame.payload)) {
      const readers = [...this.#logs.subscriptionsOf(address), ...this.#logs.followersOf(address)];
      for (const subscription of readers) subscription._deliverNotice(frame);
    }
    this._emit("notice", frame);
  }

  // --- channels and subscriptions ---

  /**
   * The messages of `room:channel`, each once and in order, also across reconnects. Iterate with `for await`, or give a
   * function that is called with each message. `since` starts behind a seq (0: everything that is kept), a position or
   * a time.
   * @param {string} address
   * @param {SubscribeOptions | Listener} [options]
   * @param {Listener | null} [listener]
   */
  subscribe(address, options = {}, listener = null) {
    if (typeof options === "function") [options, listener] = [{}, options];
    const settings = { buffer: this._buffer, ...options };
    const { snapshot } = settings;
    const subscription = snapshot
      ? new SnapshotSubscription(this._host, address, { ...settings, snapshot })
      : new Subscription(this._host, address, settings);
    if (listener) subscription._listen(listener);
    return subscription;
  }

  /**
   * The messages of all channels of a room that this client may join, also of those to come. Nobody sees it there.
   * `since` are the `positions` of an earlier subscription; a channel that it lacks starts now. A channel that comes
   * into being starts with its first message.
   * @param {string} room
   * @param {FollowOptions | Listener} [options]
   * @param {Listener | null} [listener]
   */
  follow(room, options = {}, listener = null) {
    if (typeof options === "function") [options, listener] = [{}, options];
    const subscription = new RoomSubscription(this._roomHost, room, { buffer: this._buffer, ...options });
    if (listener) subscription._listen(listener);
    return subscription;
  }

  /**
   * The private messages to this client. With `since: 0` it starts with those that wait in the inbox.
   * @param {SubscribeOptions | Listener} [options]
   * @param {Listener | null} [listener]
   */
  inbox(options = {}, listener = null) {
    if (typeof options === "function") [options, listener] = [{}, options];
    return this.subscribe(`${INBOX_ROOM}:${this.clientId}`, { ...options, broadcasts: false }, listener);
  }

  /**
   * Become a member and stay one across reconnects. `subscribe` does that by itself.
   * @param {string} address
   * @param {JoinOptions} [options]
   */
  join(address, options = {}) {
    return this._memberships.join(address, options);
  }

  /**
   * End a membership, and the subscriptions that need it. Returns the addresses of the memberships that are left.
   * @param {string} address
   */
  async leave(address) {
    return this._memberships.leave(address);
  }
}
