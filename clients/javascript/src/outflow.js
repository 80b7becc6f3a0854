/** What an owner still has to send of its streamed message. Pure: no clock and no connection. */

import { ServerError } from "./errors.js";

/** @import { EndState, JsonObject, StreamMode } from "../arqonbus.d.ts" */

/**
 * One append that has its number.
 * @typedef {object} Append
 * @property {number} n
 * @property {string} [delta]
 * @property {JsonObject} [part]
 * @property {string[]} [took]
 * @property {EndState} [end]
 * @property {JsonObject} [payload]
 */

/** The longest text of one append, in bytes of JSON. */
const LONGEST = 32 * 1024;
/** How many steers one append takes. */
const MOST_TAKEN = 100;

const HALF = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
const FIRST_HALF = /[\ud800-\udbff]$/;

/**
 * How many bytes of JSON a UTF-16 unit makes. Half a character makes half of its bytes.
 * @param {number} unit
 */
function bytesOf(unit) {
  if (unit < 0x20) return 6;
  if (unit < 0x80) return unit === 0x22 || unit === 0x5c ? 2 : 1;
  return unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
}

/**
 * Where a text is cut so that no character is.
 * @param {string} text
 * @param {number} at
 */
const wholeUntil = (text, at) => (at < text.length && FIRST_HALF.test(text.slice(at - 1, at)) ? at - 1 : at);

/**
 * How much of the beginning of a text one append takes, in UTF-16 units.
 * @param {string} text
 */
function longestPiece(text) {
  let at = 0;
  for (let bytes = 0; at < text.length; at += 1) {
    bytes += bytesOf(text.charCodeAt(at));
    if (bytes > LONGEST) break;
  }
  return wholeUntil(text, at);
}

/** Numbers the parts, keeps them until the server has them, and knows which one is sent next. */
export class Outflow {
  /** @type {string} text without a number yet */
  #text = "";
  /** The first half of a character whose second half is still to be written. */
  #half = "";
  /** @type {string[]} steers that the next append takes */
  #taken = [];
  /** @type {Append[]} numbered, and not known to be committed */
  #appends = [];
  /** How many of these were sent. */
  #sent = 0;

  /**
   * @param {StreamMode} mode
   * @param {number} have the number of the last part that the server has
   */
  constructor(mode, have = 0) {
    this.mode = mode;
    this.have = have;
    /** The number of the last part that was written. */
    this.last = have;
    /** Whether the end was written. */
    this.ending = false;
    /** Text and parts that the server does not have yet, in UTF-16 units. */
    this.size = 0;
    /** Whether the server refused text as too much. Nothing is taken behind it. */
    this.full = false;
  }

  /** How many appends wait for their turn. */
  get unsent() {
    return this.#appends.length - this.#sent;
  }

  /** How many appends wait for the server's answer. */
  get underway() {
    return this.#sent;
  }

  /** Whether the server has everything that was written. Half a character cannot be sent, so it does not count. */
  get idle() {
    return !this.#appends.length && !this.#text;
  }

  /** Whether the server lacks a part that is not here any more. Sending the rest again would not help. */
  get broken() {
    const [first] = this.#appends;
    return first !== undefined && first.n > this.have + (hasContent(first) ? 1 : 0);
  }

  /** Whether there is text without a number. */
  get gathering() {
    return this.#text.length;
  }

  // --- what the owner writes ---

  /**
   * Add text. It goes with the next `roll`. Throws ServerError for half a character.
   * @param {string} text
   */
  write(text) {
    if (this.mode !== "text") throw new TypeError('This message has parts and no text. Open it with `mode: "text"`.');
    if (typeof text !== "string") throw new TypeError("A streamed text grows by strings.");
    const whole = this.#half + text;
    const half = FIRST_HALF.exec(whole)?.[0] ?? "";
    const complete = half ? whole.slice(0, -1) : whole;
    if (HALF.test(complete)) throw halfCharacter();
    if (this.full) return;
    this.#half = half;
    this.#text += complete;
    this.size += complete.length;
  }

  /**
   * Add a part. What is no JSON object is refused.
   * @param {JsonObject} part
   */
  part(part) {
    if (this.mode !== "parts") throw new TypeError('This message is a text. Open it with `mode: "parts"`.');
    if (part === null || typeof part !== "object" || Array.isArray(part)) throw new TypeError("A part is an object.");
    // What the application changes later is not part of it.
    const text = JSON.stringify(part);
    if (this.full) return;
    this.#number({ part: JSON.parse(text) }, text.length);
    this.size += text.length;
  }

  /**
   * The owner's model has a steer.
   * @param {string} id
   */
  take(id) {
    this.#taken.push(id);
  }

  /** Give numbers to the text that was written. */
  roll() {
    while (this.#text) {
      const cut = longestPiece(this.#text);
      this.#number({ delta: this.#text.slice(0, cut) }, cut);
      this.#text = this.#text.slice(cut);
    }
  }

  /**
   * End it behind everything that was written. Throws ServerError for half a character.
   * @param {EndState} state
   * @param {JsonObject | undefined} payload
   */
  end(state, payload) {
    if (this.#half) throw halfCharacter();
    this.roll();
    this.ending = true;
    if (this.full) return;
    /** @type {Append} */
    const end = { n: this.last, end: state };
    if (payload !== undefined) end.payload = payload;
    if (this.#taken.length) end.took = this.#taken.splice(0, MOST_TAKEN);
    const last = this.#appends.at(-1);
    // The last part and the end are one transaction, if the part is not on its way.
    if (last && this.unsent && !last.end && !(last.took && end.took)) Object.assign(last, end);
    else this.#appends.push(end);
  }

  /**
   * Give up an append that cannot be sent, such as one that is too long, and what follows it. What stands before it may
   * be on its way: it is kept, and sent again. An end without content takes nothing else with it.
   * @param {Append} refused
   */
  drop(refused) {
    const isKept = (/** @type {Append} */ each) => !each.end && (each.n < refused.n || !hasContent(refused));
    const given = this.#appends.filter((each) => !isKept(each));
    this.#appends = this.#appends.filter(isKept);
    this.#taken.unshift(...given.flatMap((each) => each.took ?? []));
    this.#sent = 0;
    this.#text = this.#half = "";
    this.ending = this.full = false;
    this.size = this.#appends.reduce((sum, each) => sum + sizeOf(each), 0);
    this.last = this.#appends.at(-1)?.n ?? this.have;
  }

  /**
   * The server refused an append as too much: give up what follows it, and try its text in halves. Returns false if
   * there is nothing left to try.
   * @param {Append} append
   */
  halve(append) {
    const { delta = "" } = append;
    // Without the end, more of the text may fit.
    const cut = append.end ? delta.length : wholeUntil(delta, delta.length >> 1);
    if (!cut) return false;
    this.drop(append);
    this.full = true;
    this.size += delta.length;
    for (const piece of [delta.slice(0, cut), delta.slice(cut)]) {
      if (piece) this.#number({ delta: piece }, piece.length);
    }
    return true;
  }

  /**
   * @param {Partial<Append>} content
   * @param {number} size
   */
  #number(content, size) {
    this.last += 1;
    const append = /** @type {Append & { size: number }} */ ({ n: this.last, ...content });
    Object.defineProperty(append, "size", { value: size });
    if (this.#taken.length) append.took = this.#taken.splice(0, MOST_TAKEN);
    this.#appends.push(append);
  }

  // --- what the connection asks and says ---

  /** The next append to send, or null. */
  next() {
    if (!this.unsent) return null;
    this.#sent += 1;
    return this.#appends[this.#sent - 1];
  }

  /**
   * The server has the parts up to `have`. Returns those that it did not have before.
   * @param {number} have
   * @param {boolean} [ended] whether it has the end, too
   */
  acked(have, ended = false) {
    /** @type {Append[]} */
    const done = [];
    const isDone = (/** @type {Append | undefined} */ first) => first && first.n <= have && (ended || !first.end);
    while (isDone(this.#appends[0])) {
      const append = /** @type {Append} */ (this.#appends.shift());
      done.push(append);
      this.size -= sizeOf(append);
      this.#sent = Math.max(0, this.#sent - 1);
    }
    this.have = Math.max(this.have, have);
    this.last = Math.max(this.last, this.have);
    return done;
  }

  /** Send everything again that is not known to be committed. */
  rewind() {
    this.#sent = 0;
  }
}

/** @param {Append} append */
const hasContent = (append) => append.delta !== undefined || append.part !== undefined;

/** @param {Append & { size?: number }} append */
const sizeOf = (append) => append.size ?? 0;

const halfCharacter = () =>
  new ServerError({
    code: "INVALID_JSON",
    number: 400,
    message: "The text contains half a character (a lone surrogate). Cutting a text in an emoji leaves one.",
  });
