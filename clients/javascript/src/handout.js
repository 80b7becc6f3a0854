/** What waits for the reader of a subscription, and the place behind what it was given. */

import { splitAddress } from "./addresses.js";
import { Message } from "./message.js";

/** @import { Growth } from "./growth.js" */
/** @import { Place } from "./positions.js" */

/**
 * A message that waits, with its place if that is one of the subscription's own log. The end of a streamed message is
 * only a place.
 * @typedef {{ message: Message | null, seq: number | null, epoch: string | null }} Waiting
 */

/** The messages that wait for one reader. */
export class Handout {
  /** @type {Waiting[]} */
  #queue = [];
  /** @type {Set<string>} the streamed messages that are in the queue or were given, and whose end has not passed */
  #growing = new Set();

  /** @param {string} address that of the subscription's own log */
  constructor(address) {
    this.address = address;
    /** @type {Place | null} the place behind the last message that was given */
    this.taken = null;
  }

  get length() {
    return this.#queue.length;
  }

  /** The next message for the reader, or null. */
  next() {
    const next = this.#queue.shift();
    if (!next) return null;
    this.#pass(next);
    while (this.#queue.length && !this.#queue[0].message) this.#pass(/** @type {Waiting} */ (this.#queue.shift()));
    return next.message;
  }

  /**
   * @param {Message} message
   * @param {string | null} epoch that of its log
   */
  put(message, epoch) {
    const { seq } = message.raw;
    const own = message.address === this.address && Number.isInteger(seq);
    this.#queue.push({ message, seq: own ? seq : null, epoch });
  }

  /** Forget the messages of the subscription's own log that wait. */
  dropOwn() {
    for (const { message, seq } of this.#queue) if (message && seq !== null) this.#growing.delete(message.id);
    this.#queue = this.#queue.filter(({ seq }) => seq === null);
  }

  /**
   * The server named the log that was read up to here.
   * @param {string} epoch
   */
  nameLog(epoch) {
    for (const each of [...this.#queue, this.taken]) if (each && each.epoch === null) each.epoch = epoch;
  }

  /** @param {Waiting} waiting */
  #pass({ seq, epoch }) {
    if (seq !== null) this.taken = { seq, epoch };
  }

  // --- streamed messages ---

  /**
   * Whether the reader has a streamed message, or will have it.
   * @param {string} of
   */
  hasGrowing(of) {
    return this.#growing.has(of);
  }

  /** @param {string} of a streamed message that was put here */
  addGrowing(of) {
    this.#growing.add(of);
  }

  /**
   * A streamed message whose opening the reader will not get: what has arrived of it stands for it.
   * @param {Growth} growth
   */
  putLate(growth) {
    const { of, seq, address, sender, mode } = growth;
    const [room, channel] = splitAddress(address);
    const frame = { id: of, type: "event", room, channel, from: sender, seq, stream: { mode }, late: true };
    this.#growing.add(of);
    // Its place lies before what was read, so it does not count.
    this.#queue.push({ message: new Message(frame, false, growth), seq: null, epoch: null });
  }

  /**
   * A streamed message ended. Returns whether the reader has it. Then only the place of the end is left, behind what
   * waits before it.
   * @param {string} of
   * @param {string} address that of the end's log
   * @param {{ seq: number, epoch: string | null }} place
   */
  passEnd(of, address, place) {
    if (!this.#growing.delete(of)) return false;
    const waiting = { message: null, ...place };
    if (address !== this.address) return true;
    if (this.#queue.length) this.#queue.push(waiting);
    else this.#pass(waiting);
    return true;
  }
}
