/** A streamed message as its readers see it: numbered parts, snapshots of all parts so far, and the end. */

import { StreamReset } from "./errors.js";

/** @import { StreamMode, StreamState } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */

/** So many parts may wait for an earlier one. A snapshot or the end brings more than that. */
const MOST_EARLY = 4096;
/** The type of the message that ends a streamed one. */
export const STREAM_END = "stream_end";

/** @param {any} value */
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * Whether a kept message opens a stream.
 * @param {Frame} frame
 */
export const isOpening = (frame) => isObject(frame.stream) && frame.type !== STREAM_END;

/**
 * Whether a kept message is the end of a stream.
 * @param {Frame} frame
 */
export const isStreamEnd = (frame) => frame.type === STREAM_END && typeof frame.of === "string";

/**
 * Whether a frame brings members parts of a streamed message.
 * @param {Frame} frame
 */
export const isAppend = (frame) => frame.type === "append" && typeof frame.of === "string" && frame.seq === undefined;

/** The present text or parts of one streamed message. All messages that show it share this object. */
export class Growth {
  /** @type {Set<() => void>} */
  #watchers = new Set();
  /** @type {Map<number, any>} parts that arrived before an earlier one, by their numbers */
  #early = new Map();

  /**
   * @param {string} of the id of the opening message
   * @param {{ address?: string, mode?: unknown, seq?: unknown, sender?: unknown }} [known]
   */
  constructor(of, { address = "", mode = "text", seq = null, sender = "" } = {}) {
    this.of = of;
    this.address = address;
    /** @type {StreamMode} */
    this.mode = mode === "parts" ? "parts" : "text";
    /** @type {number | null} the place of the opening message, if it is known */
    this.seq = Number.isInteger(seq) ? /** @type {number} */ (seq) : null;
    this.sender = String(sender ?? "");
    /** @type {StreamState} */
    this.state = "open";
    /** The number of the last part. */
    this.have = 0;
    /** Counts the owners. A later one may have thrown away what was there. */
    this.attempt = 1;
    this.text = "";
    /** @type {any[]} */
    this.parts = [];
    /**
     * The text as it came. Cutting what is new out of the whole text would copy all of it each time.
     * @type {string[]}
     */
    this.pieces = [];
    /** How often what was there was replaced by something else. */
    this.resets = 0;
    /** How many frames arrived. */
    this.frames = 0;
    /** Whether nothing more of it reaches this client, although it is open. */
    this.left = false;
    /** @type {number | null} */
    this.endSeq = null;
    /** @type {Record<string, any> | null} */
    this.endPayload = null;
    /** @type {string[]} */
    this.untaken = [];
  }

  /**
   * The growth that a kept message begins, or that a folded or ending one contains. Null for an ordinary message.
   * @param {Frame} frame
   */
  static in(frame) {
    const address = `${frame.room}:${frame.channel}`;
    if (isStreamEnd(frame)) {
      const { of, of_seq: seq, stream, from: sender } = frame;
      const growth = new Growth(of, { address, mode: stream?.mode, seq, sender });
      growth.end(frame);
      return growth;
    }
    if (!isOpening(frame)) return null;
    const { id, seq, stream, from: sender } = frame;
    const growth = new Growth(String(id ?? ""), { address, mode: stream.mode, seq, sender });
    growth.fold(frame);
    return growth;
  }

  /** Whether it will not change any more. */
  get over() {
    return this.left || this.state !== "open";
  }

  /** Whether parts were missed, so that only a snapshot or the history helps. */
  get behind() {
    return !this.over && this.#early.size > 0;
  }

  // --- what comes ---

  /**
   * A part or a snapshot arrived. It may have been sent before.
   * @param {Frame} frame
   */
  append(frame) {
    if (this.over) return;
    this.frames += 1;
    if (frame.snapshot === true) this.#snapshot(frame);
    else {
      const { n } = frame;
      if (!(n > this.have)) return;
      if (this.#early.size >= MOST_EARLY) this.#early.clear();
      this.#early.set(n, this.mode === "parts" ? frame.part : frame.delta);
      if (this.#takeEarly()) this.#changed();
    }
  }

  /** Add the parts that are next. Returns whether there were any. */
  #takeEarly() {
    const { have } = this;
    while (this.#early.has(this.have + 1)) {
      this.have += 1;
      const piece = this.#early.get(this.have);
      this.#early.delete(this.have);
      if (this.mode === "parts") this.parts.push(piece);
      else this.#add(piece);
    }
    return this.have > have;
  }

  /** @param {string} piece */
  #add(piece) {
    if (!piece) return;
    this.text += piece;
    this.pieces.push(piece);
  }

  /** @param {Frame} frame */
  #snapshot({ upto, attempt = this.attempt, mode, text, parts, of_seq: seq, from }) {
    if (mode === "parts" || mode === "text") this.mode = mode;
    this.seq ??= Number.isInteger(seq) ? seq : null;
    this.sender = this.sender || String(from ?? "");
    // Parts of the same attempt may have overtaken it.
    if (attempt < this.attempt || (attempt === this.attempt && upto < this.have)) return;
    // Those of an earlier owner do not fit.
    if (attempt > this.attempt) this.#early.clear();
    this.attempt = attempt;
    this.#replace(upto, text ?? "", parts ?? []);
    this.#changed();
  }

  /**
   * The message that ends it arrived, with all of it.
   * @param {Frame} frame
   */
  end({ stream, message, parts, payload, untaken, seq }) {
    if (this.state !== "open") return;
    this.#early.clear();
    this.#replace(stream?.parts ?? this.have, message ?? "", parts ?? []);
    this.finish(stream?.state ?? "complete", seq ?? null, payload ?? {}, untaken);
  }

  /**
   * It has ended with what is there.
   * @param {StreamState} state
   * @param {number | null} seq the place of the end
   * @param {Record<string, any>} payload
   * @param {string[]} [untaken]
   */
  finish(state, seq, payload, untaken = []) {
    if (this.state !== "open") return;
    this.state = state;
    this.endSeq = seq;
    this.endPayload = payload;
    this.untaken = untaken;
    this.#changed();
  }

  /**
   * A message of the folded history: the opening with everything that is known of the answer.
   * @param {Frame} frame
   */
  fold({ stream, message, parts, end_payload: payload, untaken }) {
    if (typeof stream.state !== "string" || this.over) return;
    this.frames += 1;
    if (stream.parts >= this.have || stream.state !== "open") {
      this.#replace(stream.parts, message ?? "", parts ?? []);
    }
    if (stream.state === "open") this.#changed();
    else this.finish(stream.state, stream.end_seq ?? null, payload ?? {}, untaken);
  }

  /** Nothing more of it will arrive here: the channel was left, or the answer is gone. */
  leave() {
    if (this.over) return;
    this.left = true;
    this.#changed();
  }

  /**
   * @param {number} have
   * @param {string} text
   * @param {any[]} parts
   */
  #replace(have, text, parts) {
    const goesOn = this.mode === "text" ? text.startsWith(this.text) : isPrefix(this.parts, parts);
    if (!goesOn) {
      this.resets += 1;
      this.text = "";
      this.pieces = [];
    }
    this.have = have;
    this.parts = parts;
    if (text.length > this.text.length) this.#add(text.slice(this.text.length));
    for (const n of [...this.#early.keys()]) if (n <= have) this.#early.delete(n);
    this.#takeEarly();
  }

  #changed() {
    for (const watcher of [...this.#watchers]) watcher();
  }

  // --- who reads ---

  /**
   * Call `watcher` after each change. Returns a function that removes it.
   * @param {() => void} watcher
   */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Wait for the next change. */
  #change() {
    return new Promise((resolve) => {
      const stop = this.watch(() => {
        stop();
        resolve(undefined);
      });
    });
  }

  /** The state in which it ends; `open` if this client leaves before. */
  async ended() {
    while (!this.over) await this.#change();
    return this.state;
  }

  /**
   * What is there, and then what comes. Throws StreamReset when what was given is thrown away.
   * @returns {AsyncGenerator<any, void, undefined>}
   */
  async *deltas() {
    const { resets } = this;
    let given = 0;
    for (;;) {
      if (resets !== this.resets) throw new StreamReset("The answer began anew, so the text up to here is void.");
      const pieces = this.mode === "parts" ? this.parts : this.pieces;
      if (given === pieces.length) {
        if (this.over) return;
        await this.#change();
      } else if (this.mode === "parts") {
        given += 1;
        yield pieces[given - 1];
      } else {
        const delta = pieces.slice(given).join("");
        given = pieces.length;
        yield delta;
      }
    }
  }
}

/**
 * Whether a list of parts goes on with another. Only the last common one is compared.
 * @param {any[]} before
 * @param {any[]} after
 */
function isPrefix(before, after) {
  const last = before.length - 1;
  if (after.length <= last) return false;
  return last < 0 || JSON.stringify(before[last]) === JSON.stringify(after[last]);
}
