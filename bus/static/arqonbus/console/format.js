/** Numbers, times and texts as people read them. */

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const whole = new Intl.NumberFormat("en-US");

/**
 * @param {unknown} value
 * @returns {value is number}
 */
const isNumber = (value) => Number.isFinite(value);

/**
 * The time of day of a moment in milliseconds.
 * @param {number} moment
 */
export const clockTime = (moment) => clock.format(new Date(moment));

/** @param {unknown} value */
export const count = (value) => (isNumber(value) ? whole.format(value) : "–");

/**
 * `1 member`, `2 members`.
 * @param {number} value
 * @param {string} noun
 */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/**
 * 1234567 → 1.2M, for narrow places. The exact number goes into the title.
 * @param {unknown} value
 */
export function short(value) {
  if (!isNumber(value)) return "–";
  if (value < 10_000) return whole.format(Math.round(value));
  /** @type {[string, number]} */
  const [unit, size] = value < 1e6 ? ["k", 1e3] : value < 1e9 ? ["M", 1e6] : ["G", 1e9];
  return `${(value / size).toFixed(value / size < 100 ? 1 : 0)}${unit}`;
}

/**
 * A rate a second.
 * @param {unknown} value
 */
export function rate(value) {
  if (!isNumber(value)) return "–";
  return value > 0 && value < 9.95 ? value.toFixed(1) : short(value);
}

/**
 * A length of time.
 * @param {unknown} ms milliseconds
 */
export function duration(ms) {
  if (!isNumber(ms)) return "–";
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)} s`;
  const minutes = seconds / 60;
  if (minutes < 60) return `${Math.floor(minutes)} min`;
  const hours = minutes / 60;
  return hours < 48 ? `${Math.floor(hours)} h` : `${Math.floor(hours / 24)} d`;
}

/**
 * A time of today with milliseconds, any other with its day.
 * @param {Date | string | number} value
 */
export function time(value) {
  const moment = value instanceof Date ? value : new Date(value);
  if (Number.isNaN(moment.getTime())) return "";
  const text = `${clock.format(moment)}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
  return moment.toDateString() === new Date().toDateString() ? text : `${day.format(moment)} ${text}`;
}

/**
 * How long ago.
 * @param {string | number | null | undefined} value
 */
export function ago(value, now = Date.now()) {
  const moment = value ? new Date(value).getTime() : Number.NaN;
  if (Number.isNaN(moment)) return "–";
  const past = now - moment;
  return past < 2000 ? "now" : `${duration(past)} ago`;
}

/**
 * The first letters of a name, for a round badge.
 * @param {string} name
 */
export function initials(name) {
  const words = String(name)
    .split(/[^\p{L}\p{N}]+/u)
    .filter(Boolean);
  const letters = words.length > 1 ? words[0][0] + words[1][0] : String(words[0] ?? "?").slice(0, 2);
  return letters.toUpperCase();
}

/**
 * One of twelve hues, always the same for a name.
 * @param {string} name
 */
export function hue(name) {
  let sum = 7;
  for (const letter of String(name)) sum = (sum * 31 + Number(letter.codePointAt(0))) >>> 0;
  return sum % 12;
}

/**
 * An object in one line for people: `name=value` of everything but its time, which stands elsewhere.
 * @param {unknown} value
 */
export function pairs(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return JSON.stringify(value);
  const entries = Object.entries(value).filter(([name, each]) => name !== "timestamp" && each !== null);
  return entries.map(([name, each]) => `${name}=${typeof each === "string" ? each : JSON.stringify(each)}`).join("  ");
}

/**
 * A frame's content in one line.
 * @param {Record<string, any>} frame
 */
export function summary(frame) {
  if (typeof frame.message === "string") return frame.message;
  if (frame.message !== undefined && frame.message !== null) return JSON.stringify(frame.message);
  const payload = frame.payload ?? {};
  if (/^decision_(requested|made)$/.test(frame.type) && typeof payload.decision?.title === "string")
    return `${payload.decision.title} · ${payload.decision.state}`;
  if (typeof payload === "object" && Object.keys(payload).length === 1 && typeof payload.message === "string")
    return payload.message;
  const event = frame.eventType
    ? `${typeof frame.eventType === "string" ? frame.eventType : JSON.stringify(frame.eventType)} `
    : "";
  return event + JSON.stringify(payload);
}

/**
 * An error as a sentence for people.
 * @param {any} problem of the server (with a `reason`), or any other
 */
export const explain = (problem) => plain(problem.reason ?? problem.message);

/**
 * A sentence of the server without the marks around its names, where no code can be shown.
 * @param {unknown} text
 */
export function plain(text) {
  return String(text).replaceAll("`", "");
}
