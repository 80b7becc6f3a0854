/** Amendments: a message that edits or deletes another one, or reacts to it, and the message as it then stands. */

import { Message } from "./message.js";

/** @import { Frame } from "./frames.js" */

/** What an amendment does. */
const DOES = ["edit", "delete", "react", "unreact"];
/** The messages that a fold remembers. */
const MOST_REMEMBERED = 10_000;
/** The keys with the content of a message. A deleted one has none of them. */
const CONTENT = ["message", "metadata", "parts", "end_payload", "eventType", "source"];

/**
 * Whether a delivered frame changes another message.
 * @param {Frame} frame
 */
export const isAmendment = (frame) =>
  frame.type === "amend" && Number.isInteger(frame.of_seq) && DOES.includes(frame.do) && Number.isInteger(frame.seq);

/** The keys that an erased frame keeps. */
const PLACE = ["version", "id", "type", "room", "channel", "from", "timestamp", "seq", "of", "of_seq", "do"];

/**
 * @param {Frame} frame
 * @returns {Frame}
 */
const erasedOf = (frame) => ({
  ...Object.fromEntries(Object.entries(frame).filter(([key]) => PLACE.includes(key))),
  payload: {},
  erased: true,
});

/** @param {Frame} amendment */
const markOf = ({ seq, timestamp = "", from = "" }) => ({ seq, at: timestamp, by: from });

/**
 * Whether two values of JSON are equal.
 * @param {any} one
 * @param {any} other
 * @returns {boolean}
 */
function isEqual(one, other) {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  const keys = Object.keys(one);
  if (Array.isArray(one) !== Array.isArray(other) || keys.length !== Object.keys(other).length) return false;
  return keys.every((key) => Object.hasOwn(other, key) && isEqual(one[key], other[key]));
}

/**
 * The key of the payload that has the text of the message a second time, or null.
 * @param {Frame} frame
 */
function twinOf(frame) {
  const payload = frame.payload ?? {};
  const key = Object.hasOwn(payload, "message") ? "message" : "content";
  const both = Object.hasOwn(payload, key) && Object.hasOwn(frame, "message");
  return both && isEqual(payload[key], frame.message) ? key : null;
}

/**
 * @param {Frame} frame a copy, which is changed
 * @param {Frame} edit
 */
function applyEdit(frame, edit) {
  frame.edited = markOf(edit);
  if (edit.erased === true) {
    frame.payload = {};
    delete frame.message;
    return;
  }
  const twin = twinOf(frame);
  const text = edit.message ?? null;
  if ((edit.edits ?? []).includes("payload")) {
    frame.payload = edit.payload ?? {};
    if (text !== null) frame.message = text;
    else if (twin) delete frame.message;
  } else if (text !== null) {
    frame.message = text;
    if (twin) frame.payload = { ...frame.payload, [twin]: text };
  }
}

/**
 * A delivered message with its amendments, in any order. It then has `edited`, `deleted` and `reactions`. Amendments
 * count by their seq: the first delete ends the message, the newest edit counts, and each client has a reaction once.
 * Nothing that is given is changed.
 * @param {Frame} frame
 * @param {Iterable<Frame>} amendments
 * @returns {Frame}
 */
export function fold(frame, amendments) {
  if (frame.erased === true) return frame;
  /** @type {Frame | null} */
  let edit = null;
  /** @type {Map<string, Map<string, number>>} the clients of each reaction, each with the seq since which it holds */
  const reactions = new Map();
  const bySeq = new Map([...amendments].filter(isAmendment).map((each) => [each.seq, each]));
  for (const [seq, each] of [...bySeq].sort(([one], [other]) => one - other)) {
    if (each.do === "delete") {
      const left = Object.fromEntries(Object.entries(frame).filter(([key]) => !CONTENT.includes(key)));
      return { ...left, payload: {}, deleted: markOf(each) };
    }
    if (each.do === "edit") edit = each;
    else if (each.reaction) {
      const clients = reactions.get(each.reaction) ?? new Map();
      reactions.set(each.reaction, clients);
      if (each.do === "unreact") clients.delete(each.from);
      else if (!clients.has(each.from)) clients.set(each.from, seq);
    }
  }
  const told = [...reactions]
    .filter(([, clients]) => clients.size)
    .map(([reaction, clients]) => ({ reaction, clients: [...clients].sort(([, one], [, other]) => one - other) }))
    .sort((one, other) => one.clients[0][1] - other.clients[0][1]);
  if (!edit && !told.length) return frame;
  const result = { ...frame };
  if (edit) applyEdit(result, edit);
  if (told.length) {
    const entries = told.map(({ reaction, clients }) => [reaction, clients.map(([client]) => client)]);
    result.reactions = Object.fromEntries(entries);
  }
  return result;
}

/**
 * The messages of channels as they stand now: hand every received message to `take`. It remembers the newest `keep`
 * messages with all of their amendments. Give it messages as they were sent: those of a subscription, or of a page of
 * history with `fold: false`.
 */
export class Fold {
  /** @type {Map<string, { first: Message, now: Message, amendments: Map<number, Frame> }>} */
  #kept = new Map();

  /** @param {{ keep?: number }} [options] */
  constructor({ keep = MOST_REMEMBERED } = {}) {
    if (!(keep >= 1)) throw new RangeError("`keep` must be 1 or more.");
    this.keep = keep;
  }

  /** The remembered messages as they stand now, in the order in which they came. */
  get messages() {
    return [...this.#kept.values()].map((each) => each.now);
  }

  /**
   * Note a message. Returns it as it stands now, or for an amendment the message that it changes. That is null if the
   * message is not remembered.
   * @param {Message} message
   * @returns {Message | null}
   */
  take(message) {
    if (message.seq === null) return message;
    if (isAmendment(message.raw)) return this.#amend(`${message.address} ${message.raw.of_seq}`, message.raw);
    const key = `${message.address} ${message.seq}`;
    const known = this.#kept.get(key);
    if (known && message.erased) Object.assign(known, { first: message, now: message, amendments: new Map() });
    if (!known) {
      this.#kept.set(key, { first: message, now: message, amendments: new Map() });
      if (this.#kept.size > this.keep) this.#kept.delete(/** @type {string} */ (this.#kept.keys().next().value));
    }
    return this.#kept.get(key)?.now ?? message;
  }

  /**
   * @param {string} key
   * @param {Frame} amendment
   */
  #amend(key, amendment) {
    const kept = this.#kept.get(key);
    if (!kept) return null;
    if (!kept.amendments.has(amendment.seq)) {
      kept.amendments.set(amendment.seq, amendment);
      this.#stand(kept);
    }
    return kept.now;
  }

  /**
   * Drop the content of erased messages. `notice` is the server's frame that names them; any other one changes nothing.
   * It returns the remembered messages that change, as they stand now.
   * @param {Frame} notice
   * @returns {Message[]}
   */
  erase(notice) {
    /** @type {Set<{ first: Message, now: Message, amendments: Map<number, Frame> }>} */
    const changed = new Set();
    const told = isErasure(notice) ? notice.payload.messages : [];
    for (const { seq, of_seq } of told ?? []) {
      const kept = this.#kept.get(`${notice.room}:${notice.channel} ${of_seq ?? seq}`);
      if (!kept) continue;
      if (of_seq === undefined) {
        const erased = new Message(erasedOf(kept.first.raw), kept.first.afterGap, null);
        Object.assign(erased, { _mark: kept.first._mark, _bus: kept.first._bus });
        this.take(erased);
        changed.add(kept);
        continue;
      }
      const amendment = kept.amendments.get(seq);
      if (!amendment) continue;
      kept.amendments.set(seq, erasedOf(amendment));
      this.#stand(kept);
      changed.add(kept);
    }
    return [...changed].map(({ now }) => now);
  }

  /**
   * Fold a message anew.
   * @param {{ first: Message, now: Message, amendments: Map<number, Frame> }} kept
   */
  #stand(kept) {
    const { first } = kept;
    // The text of a streamed message stands in its parts.
    const frame = first.state !== null && first.text ? { ...first.raw, message: first.text } : first.raw;
    kept.now = new Message(fold(frame, kept.amendments.values()), first.afterGap, null);
    kept.now._mark = first._mark;
    kept.now._bus = first._bus;
  }
}

/** @param {Frame} notice */
export const isErasure = (notice) => notice.payload?.event === "erased";

/**
 * The messages with which a subscription reports an erasure to its reader. They have no place of their own.
 * @param {Fold} known drops the content
 * @param {Frame} notice
 * @returns {Message[]}
 */
export const erasures = (known, notice) =>
  known.erase(notice).map((changed) => Object.assign(new Message({ ...notice, erased: true }), { _folded: changed }));
