/** A message as applications see it. */

import { INBOX_ROOM } from "./addresses.js";
import { Growth, isStreamEnd } from "./growth.js";
import { isoTime } from "./positions.js";

/** @import { Frame } from "./frames.js" */

/**
 * @param {any} value
 * @returns {Record<string, any>} an empty object for anything but an object
 */
const objectOr = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});

/** One delivered message. A streamed one grows: see `state`, `text` and `parts`. */
export class Message {
  /**
   * @param {Frame} frame
   * @param {boolean} [afterGap]
   * @param {Growth | null} [growth] what grows of it
   */
  constructor(frame, afterGap = false, growth = Growth.in(frame)) {
    const end = isStreamEnd(frame);
    this._growth = growth;
    // An end whose opening was not seen stands for the whole answer.
    this.id = String((end ? frame.of : frame.id) ?? "");
    this.type = end ? "event" : String(frame.type ?? "event");
    /** The opening of this streamed message was not seen here, so its payload and metadata are not known. */
    this.late = end || frame.late === true;
    this.room = String(frame.room ?? "");
    this.channel = String(frame.channel ?? "");
    /** The sender's client id. The server vouches for it. */
    this.sender = String(frame.from ?? "");
    /**
     * The place in the channel's log. It is null on ephemeral channels and for notices of the server.
     * @type {number | null}
     */
    this.seq = Number.isInteger(frame.seq) ? frame.seq : null;
    this.payload = end ? {} : objectOr(frame.payload);
    /**
     * What the sender gave as `message`, nearly always a text.
     * @type {unknown}
     */
    this.content = frame.message ?? null;
    this.metadata = objectOr(frame.metadata);
    /** Messages before this one are lost to this reader: they were pruned, or their log was rebuilt. */
    this.afterGap = afterGap;
    /**
     * The state of the application, in a message of a subscription with `snapshot`.
     * @type {any}
     */
    this.snapshot = undefined;
    /** The frame as it arrived. */
    this.raw = frame;
    /** @type {((address: string, seq: number) => Promise<import("../arqonbus.d.ts").Marked>) | null} moves the mark */
    this._mark = null;
    /** @type {import("./bus.js").Bus | null} the bus that received it */
    this._bus = null;
    /** @type {Message | null | undefined} how it stands now, where its reader folds */
    this._folded = undefined;
  }

  /**
   * Tell the server that this message, and all before it in its log, are dealt with. A reader that starts with
   * `since: "mark"` goes on behind it.
   * @returns {Promise<import("../arqonbus.d.ts").Marked>}
   */
  async mark() {
    if (!this._mark || this.seq === null) throw new TypeError("Only a message of a log of this bus can be marked.");
    return this._mark(this.address, this.seq);
  }

  /** The server's time. */
  get timestamp() {
    const time = isoTime(this.raw.timestamp);
    return time === null ? null : new Date(time);
  }

  /** The message's text; of a streamed one, what has arrived of it. It is empty when there is none. */
  get text() {
    if (this._growth) return this._growth.text;
    if (typeof this.content === "string") return this.content;
    return typeof this.payload.message === "string" ? this.payload.message : "";
  }

  /** `room:channel`. */
  get address() {
    return `${this.room}:${this.channel}`;
  }

  /** `payload.event` of the server's notices, such as `client_joined`. */
  get event() {
    return this.type === "system" && typeof this.payload.event === "string" ? this.payload.event : null;
  }

  /** Whether the content of this message can no longer be read. `payload` is then empty. */
  get unreadable() {
    return this.raw.unreadable === true;
  }

  /** Whether it arrived through an inbox. */
  get private() {
    return this.room === INBOX_ROOM;
  }

  // --- amendments ---

  /** Of an amendment: the id of the message that it changes. Null for any other message. */
  get amends() {
    const amends = this.type === "amend" && typeof this.raw.of === "string" && Number.isInteger(this.raw.of_seq);
    return amends ? String(this.raw.of) : null;
  }

  /** The `seq`, `at` and `by` of the newest edit, or null. */
  get edited() {
    return objectOr(this.raw.edited) === this.raw.edited ? this.raw.edited : null;
  }

  /** The `seq`, `at` and `by` of the deletion, or null. */
  get deleted() {
    return objectOr(this.raw.deleted) === this.raw.deleted ? this.raw.deleted : null;
  }

  /** The client ids of each reaction. */
  get reactions() {
    return /** @type {Record<string, string[]>} */ (objectOr(this.raw.reactions));
  }

  /** Whether the content was erased for good. */
  get erased() {
    return this.raw.erased === true;
  }

  /**
   * The message with its amendments up to here; of an amendment, the message that it changes. A subscription with
   * `fold` knows it. It is null for an amendment of a message that did not come. Elsewhere it is the message itself.
   * @returns {Message | null}
   */
  get folded() {
    if (this._folded !== undefined) return this._folded;
    return this.amends === null ? this : null;
  }

  /**
   * Replace the text, or with an object the payload. See `bus.edit`.
   * @param {string | import("../arqonbus.d.ts").JsonObject} content
   */
  async edit(content) {
    return this.#owner.edit(this, content);
  }

  /** Delete this message for its readers. See `bus.delete`. */
  async delete() {
    return this.#owner.delete(this);
  }

  /**
   * React to this message.
   * @param {string} reaction
   */
  async react(reaction) {
    return this.#owner.react(this, reaction);
  }

  /**
   * Take the own reaction back.
   * @param {string} reaction
   */
  async unreact(reaction) {
    return this.#owner.unreact(this, reaction);
  }

  get #owner() {
    if (!this._bus) throw new TypeError("This message was not received by a bus. Use the methods of the bus.");
    return this._bus;
  }

  // --- questions and replies ---

  /** Whether the sender waits for a reply. */
  get question() {
    return typeof this.raw.reply_to === "string" && objectOr(this.raw.ask) === this.raw.ask;
  }

  /** Of a question: the client id of who asks. Null for any other message. */
  get replyTo() {
    return this.question ? String(this.raw.reply_to) : null;
  }

  /** Of a question and its reply: what connects them. Null for any other message. */
  get correlation() {
    return typeof this.raw.correlation === "string" ? this.raw.correlation : null;
  }

  /** Of a reply: why the other side has no answer. Null for any other message. */
  get error() {
    return this.type === "reply" && typeof this.raw.error === "string" ? this.raw.error : null;
  }

  // --- streamed messages ---

  /** Of a streamed message: `open`, `complete`, `aborted` or `stopped`. Null for any other message. */
  get state() {
    return this._growth && this._growth.state;
  }

  /** Of a streamed message: whether it is a `text`, or a list of `parts`. */
  get mode() {
    return this._growth && this._growth.mode;
  }

  /** What has arrived of a streamed message in mode `parts`. */
  get parts() {
    return this._growth ? this._growth.parts : [];
  }

  /** The number of the last part that has arrived. */
  get have() {
    return this._growth ? this._growth.have : 0;
  }

  /** The payload that its owner gave at the end, such as figures; null before the end. */
  get endPayload() {
    return this._growth && this._growth.endPayload;
  }

  /** The place of the end in the channel's log. */
  get endSeq() {
    return this._growth && this._growth.endSeq;
  }

  /** The ids of the steers that its owner had not taken when it ended. */
  get untaken() {
    return this._growth ? this._growth.untaken : [];
  }

  /** The id of the streamed message that this message steers, or null. */
  get steer() {
    return typeof this.raw.steer === "string" ? this.raw.steer : null;
  }

  /**
   * Resolves with the state in which a streamed message ends. It is `open` if this client stops to receive it before.
   * It is null for an ordinary message.
   * @returns {Promise<import("../arqonbus.d.ts").StreamState | null>}
   */
  get ended() {
    return this._growth ? this._growth.ended() : Promise.resolve(null);
  }

  /**
   * What has arrived of a streamed message, and then what arrives: texts, or in mode `parts` the parts. Several parts
   * of a text may come as one. Throws StreamReset when a new owner throws the text away. Then call it again.
   * @returns {AsyncGenerator<any, void, undefined>}
   */
  async *deltas() {
    if (this._growth) yield* this._growth.deltas();
    else if (this.text) yield this.text;
  }
}
