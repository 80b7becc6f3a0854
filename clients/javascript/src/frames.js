/** Frames as text: what no server would accept, and what replaces a frame that cannot be read. */

import { ServerError } from "./errors.js";

/** @typedef {Record<string, any>} Frame a frame as it was parsed, or as it will be written */
/** @typedef {{ bytes?: number, depth?: number }} FrameLimits the server's limits; 0 means none */

/** A new id, for a message or a request. */
export function newId() {
  // Pages that were loaded over plain http from another machine do not have crypto.randomUUID.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `arq_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Half of a surrogate pair as JSON.stringify writes it. Whole characters are never escaped in this way. */
const LONE_SURROGATE = /(?:^|[^\\])(?:\\\\)*\\ud[89a-f][0-9a-f]{2}/;

/**
 * Whether the brackets of a JSON text nest deeper than `most`.
 * @param {string} text
 * @param {number} most
 */
function nestsDeeperThan(text, most) {
  let depth = 0;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === 0x22) {
      for (i += 1; i < text.length && text.charCodeAt(i) !== 0x22; i += 1) if (text.charCodeAt(i) === 0x5c) i += 1;
    } else if (code === 0x5b || code === 0x7b) {
      depth += 1;
      if (depth > most) return true;
    } else if (code === 0x5d || code === 0x7d) depth -= 1;
  }
  return false;
}

/**
 * A JSON text as JSON.stringify writes it, which escapes only lone surrogates. Other writers may escape whole
 * characters.
 * @param {string} text
 */
export function rewriteJson(text) {
  let value = text;
  try {
    value = JSON.parse(text);
  } catch {
    // The text is not JSON. The caller wants to see what the server says about it.
  }
  return JSON.stringify(value);
}

const STRING_OR_NUMBER = /"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/gi;

/** @param {string} number as JSON writes it */
function isInRange(number) {
  if (!/^-?\d+$/.test(number)) return Number.isFinite(Number(number));
  return number.length <= 20 && BigInt(number) >= -(2n ** 63n) && BigInt(number) < 2n ** 64n;
}

/**
 * The first number of a JSON text that some readers refuse: an integer of more than 64 bits, or more than a double.
 * @param {string} text
 * @returns {string | null}
 */
function numberOutOfRange(text) {
  if (!/\d{19}|\de\+?\d{3}/i.test(text)) return null;
  for (const [found] of text.matchAll(STRING_OR_NUMBER)) {
    if (found[0] !== '"' && !isInRange(found)) return found.slice(0, 40);
  }
  return null;
}

/** @param {string} message */
const invalidJson = (message) => new ServerError({ code: "INVALID_JSON", number: 400, message });

/** @param {number} [depth] the server's limit, if it is known */
export const tooDeep = (depth) =>
  invalidJson(`The frame nests deeper than ${depth ? `${depth} levels` : "any server accepts"}.`);

/**
 * Why the server would refuse a frame whatever it says, as the server's own error, or null.
 * @param {string} text
 * @param {FrameLimits} [limits]
 * @param {string} [written] the same frame as JSON.stringify writes it
 * @returns {ServerError | null}
 */
export function frameFault(text, { bytes = 0, depth = 0 } = {}, written = text) {
  if (LONE_SURROGATE.test(written)) {
    return invalidJson(
      "The frame contains half a character (a lone surrogate). Cutting a text in an emoji leaves one.",
    );
  }
  if (depth && text.length > depth && nestsDeeperThan(text, depth)) return tooDeep(depth);
  const number = numberOutOfRange(text);
  if (number !== null) {
    const rule = "An integer has at most 64 bits, and any other number is a double. Send larger ones as text.";
    return new ServerError({ code: "VALIDATION_ERROR", number: 400, message: `${number} is out of range. ${rule}` });
  }
  if (bytes && text.length * 3 > bytes) {
    const size = new TextEncoder().encode(text).length;
    const message = `The frame has ${size} bytes. The server accepts at most ${bytes}.`;
    if (size > bytes) return new ServerError({ code: "FRAME_TOO_LARGE", number: 413, message });
  }
  return null;
}

/** The keys with plain values at the beginning of a frame. The server writes them. */
const FRAME_HEAD = /^\{(?:\s*"(?:[^"\\]|\\.)*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|-?\d{1,20}|true|false|null)\s*,)+/;

/**
 * What replaces a frame that cannot be read: its message without content, the failure of the request that it answers,
 * or null.
 * @param {string} text
 * @returns {Frame | null}
 */
export function replacementFor(text) {
  let head;
  try {
    head = JSON.parse(`${FRAME_HEAD.exec(text)?.[0].trimEnd().slice(0, -1)}}`);
  } catch {
    return null;
  }
  if (head.request_id != null) {
    const error = { code: "INTERNAL_ERROR", number: 500, message: "The answer arrived, but it cannot be read." };
    return { type: "error", request_id: head.request_id, error };
  }
  return "seq" in head ? { ...head, payload: {}, unreadable: true } : null;
}
