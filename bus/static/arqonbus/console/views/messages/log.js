/** What the page holds of one channel: its newest messages, older pages on demand, and the filters. */
import { Message } from "../../../arqonbus.js";
import { summary } from "../../format.js";
import { changesOf, merged, sentence } from "./jobs.js";

/** Messages of one channel that the page holds. Older ones are asked for again when the reader scrolls to them. */
export const HELD = 10_000;
export const PAGE = 200;

/** @typedef {import("../../session.js").App} App */
/** @typedef {Record<string, any>} Frame */
/** @typedef {import("./growing.js").Growing} Growing */
/**
 * A message, or a notice of what became of jobs. `at` is when it arrived, 0 from the history; `growing` is what a row
 * shows of an answer; `version` counts the changes of a notice.
 * @typedef {{ id: string, frame: Frame, text: string, at: number, message: Message, growing: Growing | null,
 *   notice: boolean, version: number }} Item
 */
/**
 * @typedef {object} Filters
 * @property {string} type
 * @property {string} sender
 * @property {string} text in lower case
 * @property {number | null} after milliseconds
 * @property {string | null} before an ISO time
 */

/** @type {Filters} */
export const NO_FILTERS = { type: "", sender: "", text: "", after: null, before: null };

/**
 * A message as the page holds it.
 * @param {Message} message
 * @param {number} [at]
 * @returns {Item}
 */
export function itemOf(message, at = 0) {
  const frame = /** @type {Frame} */ (message.raw);
  const text = message.state === null ? summary(frame) : message.text;
  return { id: message.id, frame, text, at, message, growing: null, notice: false, version: 0 };
}

let notices = 0;

/**
 * A notice of what became of jobs, as the page holds it.
 * @param {Frame} frame
 * @param {number} at
 * @returns {Item}
 */
export function noticeOf(frame, at) {
  const message = new Message(frame);
  // The notice itself has no time of the server. Its changes have.
  frame = { ...frame, timestamp: frame.timestamp ?? changesOf(frame.payload).at(-1)?.at ?? new Date(at).toISOString() };
  const id = `notice-${++notices}`;
  return { id, frame, text: sentence(message.payload), at, message, growing: null, notice: true, version: 0 };
}

/**
 * Add a notice to the one before it, if no message came in between.
 * @param {Item | undefined} last
 * @param {Item} item
 */
function join(last, item) {
  if (!last?.notice || !item.notice) return false;
  const payload = merged(last.frame.payload, item.frame.payload);
  last.frame = { ...item.frame, payload };
  last.text = sentence(payload);
  last.version += 1;
  return true;
}

/** The messages of one channel, oldest first. */
export class MessageLog {
  /**
   * @param {App} app
   * @param {string} address
   */
  constructor(app, address) {
    this.app = app;
    this.address = address;
    this.filters = NO_FILTERS;
    /** Counts the resets, so that a page that was asked for before one is not used after it. */
    this.generation = 0;
    /** @type {Item[]} */
    this.held = [];
    /** @type {Item[]} those that pass the filters */
    this.shown = [];
    /** Whether there is nothing older. */
    this.exhausted = false;
    /** @type {number | string | null} where the next older page begins */
    this.edge = null;
  }

  get filtering() {
    return Object.values(this.filters).some(Boolean);
  }

  /** The newest place in the log that the page holds; null while it holds none. */
  get newest() {
    const places = this.held.slice(-PAGE).flatMap(({ message, notice }) => {
      const own = !notice && message.address === this.address;
      return own ? [message.seq ?? 0, message.endSeq ?? 0] : [];
    });
    return places.length ? Math.max(...places) : null;
  }

  /** The place of the oldest message that is shown. */
  get oldest() {
    return this.shown.find((item) => !item.notice)?.frame.seq ?? Infinity;
  }

  /** Hold nothing, and begin with the newest page again. */
  reset() {
    this.generation += 1;
    this.held = [];
    this.shown = [];
    this.exhausted = false;
    this.edge = null;
  }

  /**
   * Add live messages. Returns how many of them pass the filters, or null if all of them were held already.
   * @param {Item[]} arrived
   */
  add(arrived) {
    // What arrived while the newest page of the history was on its way may be in that page too.
    const known = new Set(this.held.slice(-PAGE).map((item) => item.id));
    const fresh = arrived.filter((item) => !known.has(item.id));
    if (!fresh.length) return null;
    const passed = [];
    for (const item of fresh) {
      if (join(this.held.at(-1), item)) continue;
      this.held.push(item);
      if (this.#passes(item)) passed.push(item);
    }
    this.shown.push(...passed);
    if (this.held.length > HELD * 1.2) this.#trim();
    return passed.length;
  }

  /** Drop the oldest messages. The reader can scroll to them again: the history has them. */
  #trim() {
    const last = this.held.splice(0, this.held.length - HELD).at(-1);
    if (!last) return;
    if (!this.filters.text) {
      this.exhausted = false;
      const first = this.held.find((item) => !item.notice && item.message.address === this.address);
      this.edge = first?.frame.seq ?? this.edge;
    }
    const at = this.shown.findIndex((item) => item.at > last.at || (item.frame.seq ?? 0) > (last.frame.seq ?? 0));
    if (at > 0) this.shown.splice(0, at);
  }

  /** Load the next older page. Returns false if the log was reset meanwhile. */
  async loadOlder() {
    const { generation } = this;
    const page = await (this.filters.text ? this.#search() : this.#page());
    if (generation !== this.generation) return false;
    this.#dropLate(page.messages);
    const have = new Set(this.held.map((item) => item.id));
    const { after } = this.filters;
    const tooOld = (/** @type {Frame} */ frame) => after !== null && Date.parse(frame.timestamp) < after;
    const items = page.messages
      .map((message) => itemOf(message))
      .filter((item) => !have.has(item.id) && !tooOld(item.frame));
    this.exhausted = page.last || (page.messages.length > 0 && tooOld(page.messages[0].raw));
    this.held.unshift(...items);
    // The server has searched for the text in the whole frame.
    this.shown.unshift(...items.filter((item) => this.filters.text || this.#passes(item)));
    return true;
  }

  /**
   * An answer that was open when the page was opened came without its opening. The history has it at its own place.
   * @param {Message[]} messages
   */
  #dropLate(messages) {
    const known = new Set(messages.map((message) => message.id));
    const isLate = (/** @type {Item} */ item) => item.message.late && known.has(item.id);
    if (!this.held.some(isLate)) return;
    this.held = this.held.filter((item) => !isLate(item));
    this.shown = this.shown.filter((item) => !isLate(item));
  }

  /**
   * An answer has ended, so the filters see all of its text. Returns whether more is shown.
   * @param {Item} item
   */
  ended(item) {
    item.text = item.message.text;
    const at = this.held.indexOf(item);
    if (at < 0 || this.shown.includes(item) || !this.#passes(item)) return false;
    const before = new Set(this.held.slice(0, at));
    this.shown.splice(this.shown.filter((each) => before.has(each)).length, 0, item);
    return true;
  }

  /**
   * The next older page over the socket, oldest first.
   * @returns {Promise<{ messages: Message[], last: boolean }>}
   */
  async #page() {
    const page = await this.app.session.bus.historyPage(this.address, {
      limit: PAGE,
      before: this.edge ?? this.filters.before,
      type: this.filters.type || undefined,
      sender: this.filters.sender || undefined,
    });
    this.edge = page.next;
    return { messages: page.messages, last: page.next === null };
  }

  /**
   * The next older page that contains the text, oldest first. Only REST can search.
   * @returns {Promise<{ messages: Message[], last: boolean }>}
   */
  async #search() {
    const { text, type, sender, before } = this.filters;
    const question = new URLSearchParams({ text, fold: "1", limit: String(PAGE) });
    for (const [name, value] of Object.entries({ type, sender, before })) if (value) question.set(name, value);
    const query = this.edge ?? `?${question}`;
    const page = await this.app.api("GET", `channels/${encodeURI(this.address)}/messages${query}`);
    this.edge = page.next ? new URL(page.next, location.href).search : null;
    const messages = page.results.reverse().map((/** @type {Frame} */ frame) => new Message(frame));
    return { messages, last: !page.next };
  }

  /** @param {Item} item */
  #passes({ frame, text }) {
    const { type, sender, text: wanted, after, before } = this.filters;
    if (type && frame.type !== type) return false;
    if (sender && frame.from !== sender) return false;
    const at = after || before ? Date.parse(frame.timestamp) : 0;
    if ((after && at < after) || (before && at >= Date.parse(before))) return false;
    return !wanted || text.toLowerCase().includes(wanted) || JSON.stringify(frame).toLowerCase().includes(wanted);
  }
}
