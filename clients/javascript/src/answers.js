/** The streamed messages that grow at this client, by the id of their opening message. */

import { Growth, isOpening, isStreamEnd } from "./growth.js";

/** @import { StreamState } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */

/** How long the server has to send what is missing, before the history is read instead. In milliseconds. */
const PATIENCE = 3_000;

/** Every open answer that reaches the client. All messages that show an answer share its growth. */
export class Answers {
  /** @type {Map<string, Growth>} */
  #open = new Map();
  /** @type {Set<Growth>} those that are about to be read from the history */
  #mending = new Set();

  /**
   * @param {(growth: Growth) => Promise<Frame | null>} read the folded message of an answer, or null if it is gone.
   *   Throws what the server says.
   */
  constructor(read) {
    this.read = read;
  }

  /** @param {string} of */
  get(of) {
    return this.#open.get(of) ?? null;
  }

  /**
   * The open answers of one log.
   * @param {string} address
   */
  in(address) {
    return [...this.#open.values()].filter((growth) => growth.address === address);
  }

  // --- frames in ---

  /**
   * The growth of a kept message, or null for an ordinary one.
   * @param {Frame} frame
   * @param {boolean} [fromHistory] whether parts of it may have passed before
   */
  take(frame, fromHistory = false) {
    if (isStreamEnd(frame)) return this.#end(frame);
    if (!isOpening(frame)) return null;
    const known = this.#open.get(frame.id);
    if (known) {
      known.seq ??= frame.seq;
      known.fold(frame);
      this.#settle(known);
      return known;
    }
    const growth = /** @type {Growth} */ (Growth.in(frame));
    if (growth.over) return growth;
    this.#open.set(growth.of, growth);
    // Its end may stand in the same page.
    if (fromHistory) queueMicrotask(() => this.#mend(growth, 0));
    return growth;
  }

  /** @param {Frame} frame */
  #end(frame) {
    const growth = this.#open.get(frame.of);
    if (!growth) return Growth.in(frame);
    growth.end(frame);
    this.#settle(growth);
    return growth;
  }

  /**
   * A part or a snapshot arrived.
   * @param {string} address
   * @param {Frame} frame
   */
  append(address, frame) {
    let growth = this.#open.get(frame.of);
    if (!growth) {
      const { mode = "part" in frame ? "parts" : "text", of_seq: seq, from: sender } = frame;
      growth = new Growth(frame.of, { address, mode, seq, sender });
      this.#open.set(frame.of, growth);
    }
    growth.append(frame);
    if (growth.behind) this.#mend(growth, PATIENCE);
    return growth;
  }

  /** @param {Growth} growth */
  #settle(growth) {
    if (growth.over && this.#open.get(growth.of) === growth) this.#open.delete(growth.of);
  }

  /**
   * This client ended its own answer. The server sends no copy of that to it.
   * @param {string} of
   * @param {{ have: number, state: StreamState, seq: number | null, untaken: string[] }} end
   * @param {Record<string, any>} payload
   */
  ended(of, { have, state, seq, untaken }, payload) {
    const growth = this.#open.get(of);
    if (!growth) return;
    if (growth.have === have && !growth.behind) {
      growth.finish(state, seq, payload, untaken);
      this.#settle(growth);
    } else this.#mend(growth, 0); // It was adopted, and its beginning did not reach this client.
  }

  // --- what is missing ---

  /** Connected again: the server sends a snapshot of each open answer. What it does not mention is looked up. */
  reconnected() {
    for (const growth of this.#open.values()) this.#mend(growth, PATIENCE);
  }

  /**
   * Read an answer from the history, unless more of it arrives meanwhile.
   * @param {Growth} growth
   * @param {number} patience milliseconds
   */
  #mend(growth, patience) {
    if (growth.over || this.#mending.has(growth)) return;
    this.#mending.add(growth);
    const { frames } = growth;
    const timer = setTimeout(async () => {
      try {
        if (!growth.over && (growth.behind || growth.frames === frames)) await this.#look(growth);
      } finally {
        this.#mending.delete(growth);
      }
    }, patience);
    /** @type {any} */ (timer).unref?.();
  }

  /** @param {Growth} growth */
  async #look(growth) {
    if (growth.seq === null) return;
    let frame;
    try {
      frame = await this.read(growth);
    } catch {
      return; // Without the right to read, or without a connection, the end will bring everything.
    }
    if (frame) growth.fold(frame);
    else growth.leave();
    this.#settle(growth);
  }

  // --- the end of reading ---

  /**
   * Nothing more of a log arrives.
   * @param {string} [address] all logs without one
   */
  leave(address) {
    for (const growth of [...this.#open.values()]) {
      if (address !== undefined && growth.address !== address) continue;
      growth.leave();
      this.#settle(growth);
    }
  }
}
