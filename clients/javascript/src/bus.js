/** The client as applications use it: the parts of this folder, put together. */

import { ALL, INBOX_ROOM, splitAddress } from "./addresses.js";
import { Listeners, callListener } from "./application.js";
import { Commands } from "./commands.js";
import { Connection } from "./connection.js";
import { BusClosed, ServerError } from "./errors.js";
import { newId } from "./frames.js";
import { Line } from "./line.js";
import { Logs } from "./logs.js";
import { Memberships } from "./memberships.js";
import { Semaphore } from "./pacing.js";
import { Requests } from "./requests.js";
import { Subscription } from "./subscription.js";

/** @import { ConnectOptions, Listener, PublishOptions, Receipt, SubscribeOptions } from "../arqonbus.d.ts" */
/** @import { ConnectionSettings } from "./connection.js" */
/** @import { Frame } from "./frames.js" */
/** @import { Identity } from "./identity.js" */
/** @import { Dial } from "./link.js" */
/** @import { SubscriptionHost } from "./subscription.js" */

/**
 * @typedef {object} BusSettings
 * @property {number} timeout
 * @property {number} buffer
 * @property {number} maxUnacked
 * @property {ConnectOptions["onState"]} onState
 */

const SERVER_ID = "arqonbus_server";

/**
 * The frame of a new message.
 * @param {string} type
 * @param {unknown} message a text, or an object, which is the payload
 * @param {PublishOptions} options
 * @returns {Frame}
 */
function messageFrame(type, message, { payload, metadata, id = newId() }) {
  /** @type {Frame} */
  const frame = { type, id };
  if (message !== null && typeof message === "object") {
    if (payload !== undefined) throw new TypeError("Give the payload once: as `message` or as `payload`.");
    frame.payload = message;
  } else {
    if (message !== undefined && message !== null) frame.message = message;
    if (payload !== undefined) frame.payload = payload;
  }
  if (metadata !== undefined) frame.metadata = metadata;
  return frame;
}

/** A client of the bus: one identity that stays connected. `connect` makes it. */
export class Bus extends Commands {
  #listeners = new Listeners();
  #logs = new Logs();

  /**
   * @param {Dial} dial
   * @param {Frame} registration
   * @param {ConnectionSettings & BusSettings} settings
   * @param {Identity | null} [identity] what is stored of this client beyond its life
   */
  constructor(dial, registration, settings, identity = null) {
    const line = new Line();
    const requests = new Requests(line, settings.timeout, (problem) => this._emit("error", problem));
    super(requests);
    this._line = line;
    this._settings = settings;
    this._identity = identity;
    this._unacked = new Semaphore(settings.maxUnacked);
    const connection = new Connection(
      dial,
      registration,
      settings,
      { line, requests, identity },
      {
        positions: () => this.#logs.positions(memberships.wanted()),
        onRegistered: (answer, asked) => memberships.registered(answer.channels ?? {}, asked),
        onFrame: (frame) => this.#receive(frame),
        onConnected: () => memberships.reconcile(),
        onState: (state) => {
          callListener(settings.onState, state);
          this._emit("state", state);
        },
        onEnd: (error) => this.#endSubscriptions(error),
      },
    );
    const memberships = new Memberships({ line, connection, requests, commands: this, logs: this.#logs }, (problem) =>
      this._emit("error", problem),
    );
    this._connection = connection;
    this._memberships = memberships;
    /** @type {SubscriptionHost} */
    this._host = {
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
    };
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
  #endSubscriptions(error) {
    for (const subscription of this.#logs.all) {
      if (error instanceof BusClosed) subscription._finish();
      else subscription._fail(error);
    }
  }

  // --- frames in ---

  /** @param {Frame} frame */
  #receive(frame) {
    const { type, room, channel, seq } = frame;
    if (type === "ack" || (["command_response", "error"].includes(type) && seq === undefined)) {
      this._requests.answered(frame);
      return;
    }
    if (typeof room !== "string" || typeof channel !== "string") return;
    const address = `${room}:${channel}`;
    if (type === "system" && frame.from === SERVER_ID && seq === undefined) {
      this.#notice(address, frame);
      return;
    }
    if (Number.isInteger(seq)) this.#logs.advance(address, seq);
    for (const subscription of this.#logs.receivers(address)) subscription._deliver(address, frame);
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
    } else for (const subscription of this.#logs.subscriptionsOf(address)) subscription._deliverNotice(frame);
    this._emit("notice", frame);
  }

  // --- publishing ---

  /**
   * Publish to `room:channel`, to `room` for everybody in it, or with null to the initial channel.
   *
   * `message` is a text, or an object, which is the payload. With `ack` it resolves when the message is durable. The
   * message is sent again under the same id after a break, so it is published exactly once. Without `ack` it resolves
   * when the frame is on the wire.
   * @param {string | null | undefined} address
   * @param {unknown} [message]
   * @param {PublishOptions} [options]
   * @returns {Promise<Receipt>}
   */
  async publish(address, message, options = {}) {
    const frame = messageFrame(options.type ?? "event", message, options);
    if (address !== null && address !== undefined) {
      const [room, channel] = splitAddress(address);
      if (room === INBOX_ROOM) return this.private(channel, message, options);
      frame.room = room;
      if (channel !== ALL) frame.channel = channel;
    }
    const subscriptions = this.#logs.subscriptionsOf(address || this.address);
    if (options.echo ?? subscriptions.some((each) => each.echo)) frame.echo = true;
    return this.#publish(frame, options);
  }

  /**
   * Send to the inboxes of one client or several. It resolves when the message is durable. Throws TARGET_NOT_FOUND.
   * @param {string | string[]} to client ids
   * @param {unknown} [message]
   * @param {PublishOptions} [options]
   * @returns {Promise<Receipt>}
   */
  async private(to, message, options = {}) {
    const frame = messageFrame("private", message, options);
    frame.to = Array.isArray(to) ? to : [to];
    return this.#publish(frame, { ...options, ack: true });
  }

  /**
   * @param {Frame} frame
   * @param {PublishOptions} options
   * @returns {Promise<Receipt>}
   */
  async #publish(frame, { ack = true, timeout = this._settings.timeout }) {
    await this._unacked.acquire();
    try {
      if (!ack) {
        await this._requests.send(this._requests.encode(frame), timeout);
        return { id: frame.id, room: frame.room ?? "", channel: frame.channel ?? ALL, seq: null, duplicate: false };
      }
      const answer = await this._requests.request({ ...frame, ack: true }, { repeat: true, timeout });
      const { room, channel, seq = null, duplicate = false } = answer;
      return { id: frame.id, room, channel, seq, duplicate };
    } finally {
      this._unacked.release();
    }
  }

  /**
   * Send a frame of your own as it is. Nothing waits for its answer. Throws BusClosed, TimedOut and the like.
   * @param {Frame | string} frame
   */
  async send(frame) {
    await this._requests.send(this._requests.encode(frame));
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
    const subscription = new Subscription(this._host, address, { buffer: this._settings.buffer, ...options });
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
   */
  join(address) {
    return this._memberships.join(address);
  }

  /**
   * End a membership, and the subscriptions that need it. Returns the addresses of the memberships that are left.
   * @param {string} address
   */
  async leave(address) {
    return this._memberships.leave(address);
  }
}
