/** The messages of one channel, for one reader. */

import { ALL, INBOX_ROOM, isJoinable, splitAddress } from "./addresses.js";
import { report } from "./application.js";
import { MAX_PAGE, catchUp } from "./catch-up.js";
import { Cursor } from "./cursor.js";
import { BusClosed, isTransient } from "./errors.js";
import { isStreamEnd } from "./growth.js";
import { Fold, erasures, isErasure } from "./folding.js";
import { Handout } from "./handout.js";
import { listen } from "./listening.js";
import { Message } from "./message.js";
import { sleep } from "./timing.js";

/** @import { Listener, Position, Since, SubscribeOptions } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */
/** @import { Growth } from "./growth.js" */
/** @import { SubscriptionHost } from "./listening.js" */
/** @import { MarkReader } from "./marks.js" */
/** @import { Place } from "./positions.js" */

/**
 * Messages of one channel, each exactly once and in order, however often the connection breaks. `bus.subscribe` makes
 * them.
 *
 * A subscription remembers the last message of every log that it receives, and skips what the server sends again after
 * a break. Memory is bounded: when `buffer` messages wait, it takes no live ones. As soon as the reader has caught up,
 * it reads the omitted messages from the channel's history.
 */
export class Subscription {
  /**
   * @param {SubscriptionHost} host
   * @param {string} address
   * @param {SubscribeOptions & { buffer: number }} options
   */
  constructor(
    host,
    address,
    {
      since = null,
      last = null,
      echo = false,
      broadcasts = true,
      presence = false,
      parts = true,
      autoMark = false,
      fold = false,
      buffer,
    },
  ) {
    if (!(buffer >= 1)) throw new RangeError("`buffer` must be 1 or more.");
    if (last !== null && since !== null) throw new TypeError("Give either `since` or `last`.");
    const [room, channel] = splitAddress(address);
    this.room = room;
    this.channel = channel;
    this.address = `${this.room}:${this.channel}`;
    /** @type {Since} */
    this.since = since;
    this.last = last;
    // A message can only be folded with the amendments of this client, too.
    this.echo = echo || fold;
    this._fold = fold ? new Fold() : null;
    this.broadcasts = broadcasts;
    this.presence = presence;
    this.parts = parts;
    this.autoMark = autoMark;
    this.buffer = buffer;
    /** Messages of ephemeral channels that did not fit into the buffer. No other message is ever dropped. */
    this.dropped = 0;
    /** How often messages were lost because the log did not reach back far enough. */
    this.gaps = 0;
    this._host = host;
    /** @type {MarkReader | null} moves the mark behind what was read */
    this._marker = null;
    /** @type {Promise<void> | undefined} the server has the mark of an ended subscription */
    this._marked = undefined;
    this._handout = new Handout(this.address);
    /** @type {Map<string, Cursor>} */
    this._cursors = new Map();
    /** @type {unknown} */
    this._error = null;
    this._opened = false;
    /** @type {Promise<unknown> | null} */
    this._opening = null;
    this._closed = false;
    /** @type {() => void} */
    this._end = () => {};
    /** @type {Promise<void>} */
    this._over = new Promise((resolve) => (this._end = resolve));
    /** @type {((value?: unknown) => void) | null} */
    this._wake = null;
    /** @type {Promise<unknown>} */
    this._reading = Promise.resolve();
  }

  get joinable() {
    return isJoinable(this.address);
  }

  get closed() {
    return this._closed;
  }

  /** How many messages wait in the buffer. */
  get waiting() {
    return this._handout.length;
  }

  /**
   * The place behind the last message that was handed out. Store it, and give it to `since` later to go on from there.
   * @returns {Position | null}
   */
  get position() {
    // An empty epoch says that the log was unknown. As `since` it is never taken for a place in another log.
    const { taken } = this._handout;
    return taken && { seq: taken.seq, epoch: taken.epoch ?? "" };
  }

  /** Join the channel. Messages from now on (or from `since` on) wait for the reader. Throws ServerError. */
  async open() {
    if (!this._opened && !this._closed) {
      this._opening ??= this._host
        .attach(this)
        .then(() => (this._opened = true))
        .finally(() => (this._opening = null));
      // Closing does not wait for an answer that nothing needs any more.
      await Promise.race([this._opening, this._over]);
    }
    return this;
  }

  /** End it. The iteration ends, and the channel is left unless something else of this bus needs it. */
  async close() {
    if (this._closed) return;
    this._finish();
    // Without a mark it leaves at once: a subscription that is opened after this call joins after it.
    if (this._marked) await this._marked;
    await this._host.detach(this);
  }

  /** End without an error. The reader still gets what is in the buffer. */
  _finish() {
    this._closed = true;
    const marker = this._marker;
    if (marker) this._marked = marker.marks.settled(this.address).then(() => marker.close());
    this._end();
    this._wake?.();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /**
   * The next message. Simultaneous calls are answered in their order.
   * @returns {Promise<IteratorResult<Message, undefined>>}
   */
  next() {
    const mine = this._reading.then(() => this.#read());
    this._reading = mine.catch(() => {});
    return mine;
  }

  /**
   * End it. A `break` in `for await` calls this.
   * @param {undefined} [value]
   * @returns {Promise<IteratorResult<Message, undefined>>}
   */
  async return(value) {
    await this.close();
    return { done: true, value };
  }

  /** @returns {Promise<IteratorResult<Message, undefined>>} */
  async #read() {
    this.#markRead();
    for (;;) {
      try {
        if (!this._opened && !this._closed) await this.open();
      } catch (problem) {
        if (!(problem instanceof BusClosed && this._host.closed)) throw problem;
        this._finish();
      }
      const message = this._handout.next();
      if (message) return { done: false, value: message };
      if (this._closed) return { done: true, value: undefined };
      if (this._error) throw this._error;
      const behind = [...this._cursors].find(([, cursor]) => cursor.lagging);
      if (behind) await this.#tryCatchUp(...behind);
      else {
        await new Promise((resolve) => (this._wake = resolve));
        this._wake = null;
      }
    }
  }

  /** The reader asks for the next message, so it has dealt with those before, and with its own. */
  #markRead() {
    if (!this.autoMark || !this._opened || this._closed) return;
    this._marker ??= this._host.marks.reader(this.address);
    const { last, lagging, epoch } = this.#cursor(this.address);
    const all = !this._handout.length && !lagging && last !== null;
    const place = all ? { seq: last, epoch } : this._handout.taken;
    if (place && place.seq > 0) this._marker.reached(place);
  }

  /**
   * Put a page of the history into the empty buffer. While the server is away or busy this is repeated, and any other
   * error ends the subscription.
   * @param {string} address
   * @param {Cursor} cursor
   */
  async #tryCatchUp(address, cursor) {
    try {
      const limit = Math.min(MAX_PAGE, this.buffer);
      const page = (/** @type {number} */ after) => this._host.historyFrames(address, after, limit);
      if (await catchUp(cursor, limit, page, (frame) => this.#accept(address, frame, cursor, true))) this.gaps += 1;
    } catch (problem) {
      if (this._closed || this._error) return;
      if (isTransient(problem)) await this._pause(problem);
      else {
        this._fail(problem);
        this._host.detach(this).catch(report);
      }
    }
  }

  /** @param {any} problem an error after which another attempt is worthwhile */
  async _pause(problem) {
    await Promise.race([sleep(problem.retryAfter ?? 1_000), this._over]);
  }

  // --- what the logs tell a subscription ---

  /** @param {string} address */
  #cursor(address) {
    const cursor = this._cursors.get(address) ?? new Cursor();
    this._cursors.set(address, cursor);
    return cursor;
  }

  /**
   * Receive the messages of a log behind `place`.
   * @param {string} address
   * @param {Place} place
   * @param {boolean} [gap] whether messages before it are lost
   */
  _startAt(address, place, gap = false) {
    const cursor = this.#cursor(address);
    cursor.startAt(place);
    if (gap) this.#lose(cursor);
    for (const growth of this._host.answers.in(address)) this._grows(growth);
  }

  /**
   * A log goes on behind `place` for everything that receives it.
   * @param {string} address
   * @param {Place} place
   * @param {{ lost: boolean, silent: boolean }} news `lost`: what lies before is gone; `silent`: it did not reach the
   *   client up to now
   */
  _continueAt(address, place, { lost, silent }) {
    const cursor = this.#cursor(address);
    if (cursor.last === null) this._startAt(address, place);
    else if (lost || cursor.isAnotherLog(place)) this._startAt(address, place, true);
    // What was published meanwhile is not sent, as nobody asked for it. A reader that lags finds it in the history.
    else if (silent && place.seq > cursor.last && !cursor.lagging) this._startAt(address, place, true);
    else if (cursor.epoch === null && place.epoch) {
      cursor.epoch = place.epoch;
      if (address === this.address) this._handout.nameLog(place.epoch);
    }
  }

  /**
   * Read what is behind the cursor from the history, at least up to `head`, before any live message.
   * @param {string} address
   * @param {number} head
   */
  _catchUpTo(address, head) {
    this.#cursor(address).lagTo(head);
    this._wake?.();
  }

  /**
   * Whether messages of this log are for this subscription.
   * @param {string} address
   */
  _receives(address) {
    if (address === this.address) return true;
    const [room, channel] = splitAddress(address);
    return this.broadcasts && channel === ALL && [this.room, ALL].includes(room) && this.room !== INBOX_ROOM;
  }

  /**
   * A live frame arrived. It may have been sent before.
   * @param {string} address
   * @param {Frame} frame
   */
  _deliver(address, frame) {
    const own = frame.from === this._host.clientId && !this.echo;
    const full = this._handout.length >= this.buffer;
    if (!Number.isInteger(frame.seq)) {
      if (own) return;
      if (full) this.dropped += 1;
      else this.#put(new Message(frame), null);
      return;
    }
    const cursor = this.#cursor(address);
    if (cursor.last !== null && frame.seq <= cursor.last) return;
    if (cursor.lagging) cursor.head = Math.max(cursor.head, frame.seq);
    else if (!full || own) this.#accept(address, frame, cursor, false);
    else if (address.endsWith(`:${ALL}`)) {
      // The log of a whole room cannot be read by seq. Its messages are few, and must not be lost silently.
      cursor.last = frame.seq;
      this.#lose(cursor);
    } else cursor.lagBefore(frame.seq);
  }

  /**
   * Take a message into the buffer, unless it was taken before.
   * @param {string} address
   * @param {Frame} frame
   * @param {Cursor} cursor
   * @param {boolean} fromHistory
   */
  #accept(address, frame, cursor, fromHistory) {
    if (cursor.last !== null) {
      if (frame.seq <= cursor.last) return;
      // A hole among live messages is a message of this client. The history is complete, so a hole there was pruned.
      if (fromHistory && frame.seq > cursor.last + 1 && cursor.last > 0) this.#lose(cursor);
    }
    cursor.last = frame.seq;
    const growth = this._host.answers.take(frame, fromHistory);
    const ends = isStreamEnd(frame);
    if (ends && this._handout.passEnd(frame.of, address, { seq: frame.seq, epoch: cursor.epoch })) return;
    if (growth && !ends && this._handout.hasGrowing(growth.of)) return;
    if (frame.from === this._host.clientId && !this.echo) return;
    if (address.startsWith(`${INBOX_ROOM}:`) && this._host.takesReply(frame)) return;
    if (growth && !ends) this._handout.addGrowing(growth.of);
    this.#put(new Message(frame, cursor.gap, growth), cursor.epoch);
    cursor.gap = false;
  }

  /**
   * A streamed message grows. If this reader will not get its opening, it gets what has arrived of it.
   * @param {Growth} growth
   */
  _grows(growth) {
    if (!this.parts || growth.over || this._handout.hasGrowing(growth.of)) return;
    if (growth.sender === this._host.clientId && !this.echo) return;
    const { last } = this.#cursor(growth.address);
    if (growth.seq !== null && (last === null || growth.seq > last)) return;
    this._handout.putLate(growth);
    this._wake?.();
  }

  /**
   * A notice of the server arrived: about presence, or about erased messages.
   * @param {Frame} frame
   */
  _deliverNotice(frame) {
    if (this._fold && isErasure(frame)) for (const each of erasures(this._fold, frame)) this.#put(each, null);
    else if (this.presence && this._handout.length < this.buffer) this.#put(new Message(frame), null);
  }

  /** @param {Cursor} cursor the log whose messages are lost to the reader */
  #lose(cursor) {
    cursor.gap = true;
    this.gaps += 1;
  }

  /**
   * @param {Message} message
   * @param {string | null} epoch
   */
  #put(message, epoch) {
    message._mark = this._host.mark;
    message._bus = this._host.bus;
    if (this._fold) message._folded ??= this._fold.take(message);
    this._handout.put(message, epoch);
    this._wake?.();
  }

  /**
   * End with an error, which the reader gets after what is in the buffer.
   * @param {unknown} error
   */
  _fail(error) {
    this._error = error;
    this._wake?.();
  }

  /**
   * Call `listener` with each message, instead of iterating.
   * @param {Listener} listener
   */
  _listen(listener) {
    return listen(this, listener, (problem) => this._host.onError(problem, this));
  }
}
