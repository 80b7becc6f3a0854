/**
 * Client of ArqonBus for browsers and node, with recovery inside. One ES module, no dependency.
 *
 *     import { connect } from "./arqonbus.js";
 *
 *     const bus = await connect("ws://localhost:8765/", { clientId: "me" });
 *     await bus.publish("science:explore", "hello");
 *     for await (const message of bus.subscribe("science:explore")) console.log(message.sender, message.text);
 *
 * The connection comes back by itself, and resumes by position: an iterator sees every message once and in order, also
 * across a restart of the server. All times are in milliseconds. Types: arqonbus.d.ts.
 */

export const VERSION = "1.0.0";

const SERVER = "arqonbus_server";
const INBOX_ROOM = "pm";
const WHOLE = "*";
/** The largest page that the server gives. */
const PAGE = 500;
/** A head that the history does not show: how often to look again before taking it for lost, and the pause between. */
const LOOKS = 20;
const LOOK_PAUSE = 50;
/**
 * An id that is "in use" right after our own connection broke is most likely our own, not yet missed by the server;
 * for so long it is tried again.
 */
const OWN_GHOST = 30_000;
/** The close code of those who are not identified, or no longer. */
const UNIDENTIFIED = 4401;
/** How long the close may take that follows a refusal. */
const GRACE = 1_000;
/** Bytes waiting in the socket above which publishing waits. */
const HIGH_WATER = 1024 * 1024;
/** How soon a line has to answer where there is reason to doubt it: the network changed, or nobody looked for long. */
const SOON = 5_000;
/** A timer that fires so much too late belongs to a page in the background, or to a machine that slept. */
const LATE = 2_000;
/** How long another page may take to let go of an identity, such as the one that this page replaces. */
const HAND_OVER = 2_000;

// --- errors -----------------------------------------------------------------------------------------------------------

/** Base of every error of this module. */
export class ArqonBusError extends Error {
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The server cannot be reached, or does not speak the bus's protocol. */
export class ConnectionFailed extends ArqonBusError {}

/** The connection went before an answer came: what was asked may have been carried out, or not. */
export class ConnectionLost extends ArqonBusError {}

/** No answer came in time; the outcome is unknown. Publish again with the same id to be sure. */
export class TimedOut extends ArqonBusError {}

/** Another page of this browser is connected with the identity that was asked for. */
export class IdentityInUse extends ArqonBusError {}

/** The bus was used after `close()`. */
export class BusClosed extends ArqonBusError {}

/** The server's refusal of one frame or command; `code` and `number` are those of the contract. */
export class ServerError extends ArqonBusError {
  constructor(error = {}) {
    const code = String(error.code ?? "");
    const text = String(error.message ?? "");
    const details = Array.isArray(error.details) ? error.details : [];
    // A stack trace shows only the message, and the faults are what one looks for.
    const faults = details.filter((fault) => fault?.message && !text.includes(fault.message)).map((fault) => `${fault.field ?? ""}: ${fault.message}`);
    super([text ? `${code}: ${text}` : code, ...faults].join("\n  "));
    this.code = code;
    this.number = Number(error.number ?? 0);
    this.reason = text;
    this.details = details;
    /** When to try again, if the server said so (milliseconds). */
    this.retryAfter = typeof error.retry_after === "number" ? error.retry_after * 1000 : null;
  }

  /** Whether the same request may succeed later. */
  get retry() {
    return this.number === 429 || this.number >= 500;
  }
}

/** What each close code of the server means, and whether a client comes back after it. */
export const CLOSE_CODES = Object.freeze({
  4008: { meaning: "repeated bad frames", reconnect: false },
  4012: { meaning: "the server restarts", reconnect: true },
  4013: { meaning: "too slow a reader, or overload; resume", reconnect: true },
  4401: { meaning: "not identified", reconnect: false },
  4403: { meaning: "not allowed, or sent away", reconnect: false },
  4409: { meaning: "client_id in use", reconnect: false },
  4410: { meaning: "taken over by a newer connection", reconnect: false },
  4429: { meaning: "too many frames or connections", reconnect: true },
});

/** Whether a client reconnects after this close code. Of the protocol's own codes only 1008 (policy) is final. */
export function comesBack(code) {
  const kind = CLOSE_CODES[code];
  return kind ? kind.reconnect : code !== 1008;
}

/** The server ended the connection for good; `closeCode` is in the table, `error` tells the reason. */
export class ClosedByServer extends ArqonBusError {
  constructor(closeCode, error = null) {
    super(`${closeCode}, ${CLOSE_CODES[closeCode]?.meaning ?? "closed"}${error ? ` (${error.message})` : ""}`);
    this.closeCode = closeCode;
    this.error = error;
  }
}

/** An attempt to connect failed; `final` when another one cannot help. Never leaves this module. */
class Refused extends Error {
  constructor(error, { final, retryAfter = null }) {
    super(error.message);
    this.error = error;
    this.final = final;
    this.retryAfter = retryAfter;
  }
}

/** What shows who one is, as a sub-protocol; null for nobody in particular. Throws Refused: the next attempt asks again. */
async function credential(dial) {
  for (const [name, prefix] of [["ticket", "ticket"], ["token", "bearer"]]) {
    let value = dial[name];
    if (typeof value === "function") value = await asked(`The function for the ${name}`, dial.openTimeout, value);
    if (value) return `${prefix}.${value}`;
  }
  return null;
}

/** What a function of the application gives. Throws Refused when it fails or takes too long: the next attempt asks again. */
async function asked(what, time, work) {
  try {
    return await within(time, work);
  } catch (problem) {
    throw new Refused(new ConnectionFailed(`${what} failed: ${problem?.message ?? problem}`), { final: false });
  }
}

// --- small tools ------------------------------------------------------------------------------------------------------

const sleep = (time) => new Promise((resolve) => setTimeout(resolve, Math.max(0, time)));

/** The result of `work`, which may be a promise that never settles. Throws TimedOut after `time`. */
async function within(time, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TimedOut(`no answer within ${time / 1000} s`)), time);
  });
  try {
    return await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Show an application's own fault where it looks for faults; node would end for an error that nobody caught. */
function report(problem) {
  if (typeof globalThis.reportError === "function") globalThis.reportError(problem);
  else console.error(problem);
}

/** Call what the application gave: its own fault must not end anything here. */
function tell(listener, ...values) {
  try {
    const result = listener?.(...values);
    if (typeof result?.then === "function") result.then(null, report);
  } catch (problem) {
    report(problem);
  }
}

/** Whether the same request may go well soon without anybody doing anything. */
const passing = (problem) =>
  problem instanceof TimedOut || ["BUSY", "UNAVAILABLE", "OUTCOME_UNKNOWN", "RATE_LIMITED", "RESTARTING"].includes(problem?.code);

/** Half of a surrogate pair as JSON.stringify writes it; whole characters are never escaped so. */
const HALF = /(?:^|[^\\])(?:\\\\)*\\ud[89a-f][0-9a-f]{2}/;

/** Whether the brackets of a JSON text nest deeper than `most`. */
function deeper(text, most) {
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

/** A text as JSON.stringify writes it, which escapes half characters alone: in JSON of somebody else's make whole ones may be, too. */
function rewritten(text) {
  let value = text;
  try {
    value = JSON.parse(text);
  } catch {
    // No JSON: whatever the sender wants to see of that.
  }
  return JSON.stringify(value);
}

const STRING_OR_NUMBER = /"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/gi;

/** The first number of a JSON text that not every reader takes: a whole one has 64 bits, any other is a double. */
function beyond(text) {
  if (!/\d{19}|\de\+?\d{3}/i.test(text)) return null;
  for (const [found] of text.matchAll(STRING_OR_NUMBER)) {
    if (found[0] === '"') continue;
    const whole = /^-?\d+$/.test(found);
    const fits = whole ? found.length <= 20 && BigInt(found) >= -(2n ** 63n) && BigInt(found) < 2n ** 64n : Number.isFinite(Number(found));
    if (!fits) return found.slice(0, 40);
  }
  return null;
}

/** The keys with plain values at the beginning of a frame, which the server writes. */
const HEAD = /^\{(?:\s*"(?:[^"\\]|\\.)*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|-?\d{1,20}|true|false|null)\s*,)+/;

/** What stands in for a frame that cannot be read: its message without content, or the failure of what it answers; else null. */
function salvaged(text) {
  let told;
  try {
    told = JSON.parse(`${HEAD.exec(text)[0].trimEnd().slice(0, -1)}}`);
  } catch {
    return null;
  }
  if (told.request_id != null) {
    const error = { code: "INTERNAL_ERROR", number: 500, message: "The answer came and cannot be read." };
    return { type: "error", request_id: told.request_id, error };
  }
  return "seq" in told ? { ...told, payload: {}, unreadable: true } : null;
}

const invalid = (message) => new ServerError({ code: "INVALID_JSON", number: 400, message });
const tooDeep = (depth) => invalid(`The frame nests deeper than ${depth ? `${depth} levels` : "any server takes"}.`);

/** Why the server would refuse a frame whatever it says, as the server's own error, or null. Limits of 0 are none. */
function flaw(text, { bytes = 0, depth = 0 } = {}, written = text) {
  if (HALF.test(written)) return invalid("The frame holds half of a character (a lone surrogate), as an emoji that was cut leaves it.");
  if (depth && text.length > depth && deeper(text, depth)) return tooDeep(depth);
  const number = beyond(text);
  if (number !== null) {
    const message = `${number} is out of range: a whole number has 64 bits, and any other is a double; send others as text.`;
    return new ServerError({ code: "VALIDATION_ERROR", number: 400, message });
  }
  if (bytes && text.length * 3 > bytes) {
    const size = new TextEncoder().encode(text).length;
    const message = `The frame has ${size} bytes; the server takes ${bytes}.`;
    if (size > bytes) return new ServerError({ code: "FRAME_TOO_LARGE", number: 413, message });
  }
  return null;
}

function newId() {
  // Not crypto.randomUUID: pages that come over plain http from another machine do not have it.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `arq_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** `room:channel` as a pair; a room alone is the whole room, `room:*`. Throws TypeError for anything else. */
export function splitAddress(address) {
  const [room, channel] = [...String(address ?? "").split(/:(.*)/s), ""];
  if (!room || channel.includes(":")) {
    throw new TypeError(`${JSON.stringify(address)} is no address, which looks like room:channel, for example science:explore`);
  }
  return [room, channel || WHOLE];
}

function joinable(address) {
  const [room, channel] = splitAddress(address);
  return room !== INBOX_ROOM && room !== WHOLE && channel !== WHOLE;
}

const ISO_TIME = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)\s?(Z|[+-]\d\d(?::?\d\d)?)?)?$/i;

/** An ISO time as the wire has it, or null. One that names no zone is UTC, as everywhere on the bus; JavaScript takes it for local. */
function isoTime(text) {
  const [whole, day, clock = "00:00:00", zone = "Z"] = ISO_TIME.exec(String(text).trim()) ?? [];
  if (!whole) return null;
  const [, sign, hours, minutes = "00"] = /^([+-])(\d\d):?(\d\d)?$/.exec(zone) ?? [];
  const time = `${day}T${clock.replace(",", ".")}${sign ? `${sign}${hours}:${minutes}` : "Z"}`;
  return Number.isNaN(Date.parse(time)) ? null : time;
}

/** A `since` that is a time, as the wire has it. Throws RangeError for a text that is none. */
function momentOf(since) {
  const moment = since instanceof Date ? (Number.isNaN(since.getTime()) ? null : since.toISOString()) : isoTime(since);
  if (moment === null) throw new RangeError(`${JSON.stringify(since)} is not an ISO time`);
  return moment;
}

const isPosition = (value) => typeof value === "object" && value !== null && typeof value.seq === "number";

/** Growing pauses with jitter. A server that says `retry_after` is obeyed; the jitter comes on top. */
export class Backoff {
  constructor({ first = 250, most = 15_000, factor = 2, jitter = Math.random } = {}) {
    Object.assign(this, { first, most, factor, jitter, attempts: 0 });
  }

  /** The pause before the next attempt; each call makes the following one longer. */
  pause(retryAfter = null) {
    const step = Math.min(this.most, this.first * this.factor ** Math.min(this.attempts, 32));
    this.attempts += 1;
    // The server spreads its clients itself; only the spread within a tenth of a second is ours.
    if (retryAfter !== null) return Math.max(0, retryAfter) + 100 * this.jitter();
    // Half of the pause is random, so that the clients of a server that fell do not come back as one.
    return step * (0.5 + 0.5 * this.jitter());
  }

  /** Connected: the next break begins with a short pause again. */
  reset() {
    this.attempts = 0;
  }
}

/** Keeps below the server's limit of frames a second (welcome frame), so that it need not refuse any. */
class Pacer {
  constructor() {
    this.rate = 0;
    this.level = 0;
    this.updated = performance.now();
    this.heldUntil = 0;
    this.last = null;
  }

  limit(rate) {
    this.rate = typeof rate === "number" && rate > 0 ? 0.9 * rate : 0;
    this.level = this.rate;
    this.updated = performance.now();
  }

  /** Send nothing for so long. */
  hold(time) {
    this.heldUntil = Math.max(this.heldUntil, performance.now() + time);
    this.level = 0;
  }

  /** Wait for the turn of one frame; turns come in the order in which they were asked for. */
  turn() {
    const mine = (this.last ?? Promise.resolve()).then(() => this.#wait());
    this.last = mine;
    return mine;
  }

  async #wait() {
    for (let held; (held = this.heldUntil - performance.now()) > 0; ) await sleep(held);
    if (this.rate <= 0) return;
    const now = performance.now();
    this.level = Math.min(this.rate, this.level + ((now - this.updated) * this.rate) / 1000) - 1;
    this.updated = now;
    if (this.level < 0) await sleep((-this.level * 1000) / this.rate);
  }
}

/** At most so many at once; the others wait their turn. */
class Places {
  constructor(count) {
    this.free = count;
    this.waiting = [];
  }

  async take() {
    if (this.free > 0) this.free -= 1;
    else await new Promise((resolve) => this.waiting.push(resolve));
  }

  give() {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}

// --- messages ---------------------------------------------------------------------------------------------------------

/** One delivered message. */
export class Message {
  constructor(frame, afterGap = false) {
    const object = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});
    this.id = String(frame.id ?? "");
    this.type = String(frame.type ?? "event");
    this.room = String(frame.room ?? "");
    this.channel = String(frame.channel ?? "");
    /** The sender's true client id. */
    this.sender = String(frame.from ?? "");
    /** The place in the channel's log; null on ephemeral channels and for notices of the server. */
    this.seq = Number.isInteger(frame.seq) ? frame.seq : null;
    this.payload = object(frame.payload);
    /** What the sender gave as `message`: nearly always a text. */
    this.content = frame.message ?? null;
    this.metadata = object(frame.metadata);
    /** Messages before this one are lost to this reader: pruned, or their log was rebuilt. */
    this.afterGap = afterGap;
    /** The frame as it came. */
    this.raw = frame;
  }

  /** The server's time. */
  get timestamp() {
    const moment = isoTime(this.raw.timestamp);
    return moment === null ? null : new Date(moment);
  }

  /** The message's text; empty when it has none. */
  get text() {
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

  /** Whether there was a message here whose content nobody can read any more; `payload` is empty. */
  get unreadable() {
    return this.raw.unreadable === true;
  }

  /** Whether it came through an inbox. */
  get private() {
    return this.room === INBOX_ROOM;
  }
}

// --- one socket -------------------------------------------------------------------------------------------------------

/** A connection from its handshake to its end. Frames wait until somebody takes them, so their order is that of the wire. */
class Link {
  constructor(socket, dial) {
    this.socket = socket;
    this.dial = dial;
    this.welcome = {};
    /** The last error frame that answered no request: the reason of a close, mostly. */
    this.lastError = null;
    this.registered = false;
    this.closeCode = null;
    this.receivedAt = performance.now();
    /** Frames that came. */
    this.frames = 0;
    this.handler = null;
    this.queue = [];
    this.wake = null;
    this.ended = new Promise((resolve) => (this.finish = resolve));
    socket.onmessage = (event) => this.#received(event.data);
    socket.onclose = (event) => this.#closed(event.code || 1006);
    socket.onerror = () => {
      // Node 20 tells of a connection that failed by an error alone; elsewhere the close follows by itself.
      if (socket.readyState === 0) this.#closed(1006);
    };
  }

  /** Connect and take the welcome. Throws Refused. */
  static async dial(dial) {
    const shown = await credential(dial);
    const protocols = shown ? ["arqonbus.v1", shown] : ["arqonbus.v1"];
    let socket;
    try {
      socket = new dial.WebSocket(dial.url, protocols);
    } catch (problem) {
      throw new Refused(new ConnectionFailed(`${dial.url} is not the URL of a bus: ${problem.message}`), { final: true });
    }
    const link = new Link(socket, dial);
    const frame = await link.#next("say welcome");
    if (frame.type === "error") throw await link.#refusal();
    if (frame.type !== "system" || frame.payload?.event !== "welcome") {
      link.close();
      throw new Refused(new ConnectionFailed(`${dial.url} is a WebSocket, but no ArqonBus`), { final: true });
    }
    link.welcome = frame.payload;
    return link;
  }

  /** Send the registration; the payload of `registered`. Throws Refused. */
  async register(registration) {
    this.send(JSON.stringify(registration));
    for (;;) {
      const frame = await this.#next("register");
      if (frame.type === "system" && frame.payload?.event === "registered") {
        this.registered = true;
        this.lastError = null;
        return frame.payload;
      }
      if (frame.type === "error") throw await this.#refusal();
    }
  }

  /** Hand every frame from now on (and those that wait) to `handler`, at once and in order. */
  deliver(handler) {
    this.handler = handler;
    for (const frame of this.queue.splice(0)) handler(frame);
  }

  send(text) {
    if (this.socket.readyState !== 1) return false;
    tell(this.dial.onFrame, "out", text);
    this.socket.send(text);
    return true;
  }

  /** End it. A line that is dead does not answer the handshake, so nobody waits for that. */
  close(code = 1000) {
    try {
      this.socket.close(1000);
    } catch {
      // Not open yet: some implementations throw, and close it all the same.
    }
    this.#closed(code);
  }

  async #next(what) {
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, this.dial.openTimeout, "late")));
    while (!this.queue.length) {
      const arrival = new Promise((resolve) => (this.wake = resolve));
      const first = await Promise.race([arrival, this.ended.then(() => "ended"), late]);
      if (this.queue.length) break;
      if (first === "late") {
        this.close(1006);
        const text = `${this.dial.url} did not ${what} within ${this.dial.openTimeout / 1000} s`;
        throw new Refused(new ConnectionFailed(text), { final: false });
      }
      if (first === "ended") {
        clearTimeout(timer);
        throw this.#end();
      }
    }
    clearTimeout(timer);
    return this.queue.shift();
  }

  /** What an error before the registration means; the close that mostly follows it says more. */
  async #refusal() {
    await Promise.race([this.ended, sleep(GRACE)]);
    if (this.closeCode !== null) return this.#end();
    const error = this.lastError;
    this.close();
    return new Refused(error, { final: !error.retry, retryAfter: error.retryAfter });
  }

  #end() {
    const error = this.lastError;
    if (!comesBack(this.closeCode)) return new Refused(new ClosedByServer(this.closeCode, error), { final: true });
    const cause = error ?? new ConnectionFailed(`${this.dial.url} cannot be reached (${this.closeCode})`);
    return new Refused(cause, { final: false, retryAfter: error ? error.retryAfter : null });
  }

  #received(data) {
    if (this.closeCode !== null) return;
    this.receivedAt = performance.now();
    this.frames += 1;
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    let frame;
    try {
      frame = JSON.parse(text);
    } catch (problem) {
      this.dial.onUnreadable?.(new ArqonBusError(`A frame of the server cannot be read, and is left out or shown empty: ${problem.message}`));
      frame = salvaged(text);
    }
    if (frame === null || typeof frame !== "object") return;
    tell(this.dial.onFrame, "in", text, frame);
    if (frame.type === "error" && (frame.request_id == null || !this.registered)) {
      this.lastError = new ServerError(frame.error);
    }
    if (this.handler) this.handler(frame);
    else {
      this.queue.push(frame);
      this.wake?.();
    }
  }

  #closed(code) {
    if (this.closeCode !== null) return;
    this.closeCode = code;
    this.socket.onclose = this.socket.onmessage = null;
    this.finish(code);
  }
}

/**
 * Asks a quiet line whether it lives, and ends one that does not answer. Browsers show neither the server's pings nor that the
 * network is gone.
 */
class Pulse {
  constructor(link, heartbeat) {
    Object.assign(this, { link, heartbeat, soon: Math.min(SOON, heartbeat), question: null, spared: false });
    this.#plan(heartbeat);
  }

  stop() {
    clearTimeout(this.timer);
  }

  /** Ask now; an answer is expected within `time`. */
  ask(time = this.soon) {
    const { link } = this;
    const until = performance.now() + time;
    if (link.closeCode !== null || (this.#open() && this.question.until <= until)) return;
    const sent = this.#open() ? this.question : { frames: link.frames, waiting: link.socket.bufferedAmount };
    this.question = { ...sent, until };
    link.send(JSON.stringify({ type: "command", command: "ping" }));
    this.#plan(time);
  }

  /** Whether a question is not answered; anything that comes is an answer. */
  #open() {
    return this.question !== null && this.question.frames === this.link.frames;
  }

  #plan(time) {
    clearTimeout(this.timer);
    this.due = performance.now() + time;
    this.timer = setTimeout(() => this.#look(), time);
    this.timer.unref?.();
  }

  #look() {
    const { link } = this;
    const now = performance.now();
    // Nobody could see an answer meanwhile, and one that came may wait behind this very timer.
    const late = now - this.due > LATE;
    if (!this.#open()) {
      this.question = null;
      this.spared = false;
      const quiet = now - link.receivedAt;
      if (late || quiet >= this.heartbeat) this.ask(late ? this.soon : this.heartbeat);
      else this.#plan(this.heartbeat - quiet);
    } else if (link.socket.bufferedAmount < this.question.waiting || (late && !this.spared)) {
      // A slow line takes what waits before the question bit by bit; that is a sign of life, too.
      this.spared = late;
      this.question = null;
      this.ask();
    } else link.close(1006);
  }
}

// --- identity ---------------------------------------------------------------------------------------------------------

/** A client id that nobody else has. */
const madeUp = () => `me-${newId().slice(4, 20)}`;

/** The page's storage that outlives it, under one key, or null where there is none or the browser blocks it. */
function pageStore(key) {
  try {
    const storage = globalThis.localStorage;
    storage.getItem(key);
    return { get: () => storage.getItem(key), set: (text) => storage.setItem(key, text) };
  } catch {
    return null;
  }
}

/**
 * What a client keeps of itself, so that whoever comes after it (a page that was reloaded, a process that was killed) is the
 * same client: its id, and the token that proves it.
 */
class Identity {
  #let = null;
  #over = false;

  constructor(given, openTimeout) {
    this.name = typeof given === "string" ? given : null;
    this.store = this.name === null ? given : pageStore(`arqonbus.identity.${given}`);
    this.openTimeout = openTimeout;
    this.loaded = false;
    this.clientId = null;
    this.token = null;
    /** Whether it outlives this page or process. */
    this.kept = this.store !== null;
    if (!this.kept) console.warn(`ArqonBus: this browser keeps nothing for the page, so the identity "${given}" ends with it.`);
  }

  /** Take it over, or make a new one. Throws Refused: in use by another page, or its store failed. */
  async load(clientId) {
    if (this.loaded) return;
    if (this.name !== null && this.kept) await this.#lock();
    const text = this.store && (await asked("Getting the identity", this.openTimeout, () => this.store.get()));
    const found = this.#read(text, clientId);
    this.chosen = Boolean(clientId);
    this.clientId = clientId || found?.client_id || madeUp();
    this.token = found?.resume_token ?? null;
    this.loaded = true;
  }

  /** What was kept for `clientId`, or for whomever it is. A store of the application's own that holds something else is refused. */
  #read(text, clientId) {
    if (!text) return null;
    let problem = "The identity's store holds something else than an identity. Empty it to begin as a new client.";
    try {
      const found = JSON.parse(text);
      if (typeof found.client_id === "string" && typeof found.resume_token === "string") {
        if (!clientId || found.client_id === clientId) return found;
        problem = `This is the identity of ${found.client_id}, not of ${clientId}. Give ${clientId} a store of its own.`;
      }
    } catch {
      // No JSON, or not of an object.
    }
    // In a browser another visitor may have logged in since.
    if (this.name !== null) return null;
    throw new Refused(new ConnectionFailed(problem), { final: true });
  }

  /** The server does not take the proof. A name that stands for whoever visits begins anew; whether it does. */
  renew() {
    if (this.name === null || this.chosen || this.token === null) return false;
    console.warn(`ArqonBus: ${this.clientId} is not ours any more, as somebody else has logged in since; this is a new client.`);
    Object.assign(this, { clientId: madeUp(), token: null });
    return true;
  }

  /** Keep what a registration said. A store that fails costs the next life this identity, and the present one nothing. */
  async keep(clientId, token) {
    if (clientId === this.clientId && token === this.token) return;
    Object.assign(this, { clientId, token });
    if (this.store === null) return;
    try {
      await within(this.openTimeout, () => this.store.set(JSON.stringify({ client_id: clientId, resume_token: token })));
      this.kept = true;
    } catch (problem) {
      this.kept = false;
      console.warn("ArqonBus: the identity could not be kept, so it ends with this page or process:", problem);
    }
  }

  /** Let another page have it. */
  release() {
    this.#over = true;
    this.#let?.();
  }

  /** At most one page has it: two of them would take it from one another for ever. Where there are no locks the newest has it. */
  async #lock() {
    const { locks } = globalThis.navigator ?? {};
    if (!locks?.request || this.#let) return;
    await new Promise((resolve, reject) => {
      const waiting = new AbortController();
      const timer = setTimeout(() => {
        waiting.abort();
        const text = `Another page of this browser is connected as "${this.name}".`;
        reject(new Refused(new IdentityInUse(text), { final: false }));
      }, HAND_OVER);
      const held = () => {
        clearTimeout(timer);
        resolve();
        return this.#over ? undefined : new Promise((release) => (this.#let = release));
      };
      // Where a page may have no locks, the server decides: the newest proof wins.
      locks.request(`arqonbus.identity.${this.name}`, { signal: waiting.signal }, held).catch((problem) => {
        if (problem?.name === "AbortError") return;
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

// --- what is heard ----------------------------------------------------------------------------------------------------

/** What one client hears: its subscriptions, and how far each log came. `begin` alone sets the place of a log. */
class Heard {
  constructor() {
    /** How far each log came, for the next registration. */
    this.logs = new Map();
    /** The logs that reach the client on this connection. */
    this.live = new Set();
    /** The first message that the client may see, where the server said that earlier ones are not for it. */
    this.first = new Map();
    this.byAddress = new Map();
    this.all = new Set();
  }

  // Subscriptions

  /** From now on every frame of its logs reaches it. */
  add(subscription) {
    const { address } = subscription;
    if (!this.byAddress.has(address)) this.byAddress.set(address, new Set());
    this.byAddress.get(address).add(subscription);
    this.all.add(subscription);
    for (const log of [`${subscription.room}:${WHOLE}`, `${WHOLE}:${WHOLE}`]) {
      if (log !== address && this.live.has(log) && subscription._wants(log)) subscription._begin(log, this.logs.get(log));
    }
  }

  /** It has ended, by itself or by an error: nothing reaches it any more, and nothing is joined for it. */
  remove(subscription) {
    this.all.delete(subscription);
    const others = this.byAddress.get(subscription.address);
    others?.delete(subscription);
    if (others && !others.size) this.byAddress.delete(subscription.address);
  }

  listeners(address) {
    return [...(this.byAddress.get(address) ?? [])];
  }

  /** The subscriptions that a log's messages are for; a room's own log is for each of its channels. */
  hearing(address) {
    if (address.endsWith(`:${WHOLE}`)) return [...this.all].filter((each) => each._wants(address));
    return this.byAddress.get(address) ?? [];
  }

  // Places

  /**
   * A log goes on behind `at`; `lost`: what lies between our own place and that is gone.
   *
   * Subscriptions that knew another log under this address, or did not hear it for a while, begin there too, and tell the gap.
   * The others keep their place: what is sent to them twice they leave out.
   */
  begin(address, at, lost = false) {
    const silent = !this.live.has(address);
    this.logs.set(address, at);
    this.live.add(address);
    for (const subscription of this.hearing(address)) subscription._continue(address, at, { lost, silent });
  }

  /** The server says where a log stands that reaches us: news only if it did not reach us, or is another one. */
  meet(address, at) {
    const before = this.logs.get(address);
    if (!before || !this.live.has(address) || another(before, at)) this.begin(address, at);
  }

  /** The answer to a join; `ours`: `since` is our own place, and not one that a new subscription asks for. */
  joined(address, result, since, ours) {
    if (since === null) this.meet(address, told(result));
    else {
      const lost = result.recovered === false;
      this.begin(address, told(result, lost ? result.first_seq - 1 : since.seq), lost && ours);
    }
    // The room's own log comes with the first of its channels.
    for (const [log, row] of Object.entries(result.positions ?? {})) if (log !== address) this.meet(log, told(row));
  }

  /** The answer to a registration, which named the places `asked`: nothing reaches us but what it lists. */
  registered(channels, asked, wanted) {
    this.live.clear();
    for (const [address, row] of Object.entries(channels)) {
      const before = asked[address];
      const lost = row.recovered === false;
      if (lost) this.first.set(address, row.first_seq);
      if (before === undefined) this.begin(address, told(row));
      else this.begin(address, told(row, lost ? row.first_seq - 1 : before.seq), lost);
    }
    for (const address of [...this.logs.keys()]) {
      if (!this.live.has(address) && !this.#returns(address, wanted)) this.#drop(address);
    }
  }

  /** What a registration says of where we were, in the channels `wanted` and in the logs that come by themselves. */
  positions(wanted) {
    const positions = {};
    for (const [address, { seq, epoch }] of this.logs) {
      if (this.#returns(address, wanted)) positions[address] = { epoch: epoch ?? "", seq };
    }
    return positions;
  }

  /** Whether a log is to reach us on the next connection, too. */
  #returns(address, wanted) {
    const [room] = splitAddress(address);
    if (joinable(address)) return wanted.has(address);
    return room === INBOX_ROOM || room === WHOLE || this.hearing(address).length > 0 || [...wanted].some((each) => each.startsWith(`${room}:`));
  }

  /** A message of a log arrived. */
  came(address, seq) {
    const at = this.logs.get(address);
    if (at && seq <= at.seq) return;
    this.logs.set(address, { seq, epoch: at?.epoch ?? null });
    this.live.add(address);
  }

  /**
   * Where a subscription begins that was at `since` in a log that nobody joins, and whether messages before that are lost.
   * Of a channel the server compares; here only we can.
   */
  place(address, since) {
    const at = this.logs.get(address);
    if (!at) return { at: since, lost: false };
    const first = this.first.get(address) ?? 1;
    // A place without an epoch is one that the application chose; an empty one belongs to a log that nobody knew.
    const other = since.seq > 0 && since.epoch !== null && since.epoch !== undefined && since.epoch !== at.epoch;
    // All of an inbox comes to us, so nobody was ever further on in it.
    const beyond = address.startsWith(`${INBOX_ROOM}:`) && since.seq > at.seq;
    if (other || beyond || since.seq < first - 1) return { at: { seq: first - 1, epoch: at.epoch }, lost: true };
    return { at: { seq: since.seq, epoch: at.epoch }, lost: false };
  }

  /** A channel is left: its log comes no longer, nor with the room's last one of `members` the room's own. */
  forget(address, members) {
    this.#drop(address);
    const [room] = splitAddress(address);
    if (![...members].some((other) => other.startsWith(`${room}:`))) this.#drop(`${room}:${WHOLE}`);
  }

  #drop(address) {
    this.logs.delete(address);
    this.live.delete(address);
    this.first.delete(address);
  }
}

/** Where the server says that a log stands, or `seq` of that log; an empty epoch is one that nobody knows yet. */
const told = (row, seq = row.seq) => ({ seq, epoch: row.epoch || null });

/** Whether two places are of different logs, as far as both are known. */
const another = (before, at) => Boolean(before.epoch && at.epoch && before.epoch !== at.epoch);

// --- subscriptions ----------------------------------------------------------------------------------------------------

/** How far one log was taken. */
class Cursor {
  constructor() {
    this.last = null;
    /** Which log it is; null as long as nobody said it. */
    this.epoch = null;
    /** The highest seq that went by without being taken. */
    this.head = 0;
    this.lagging = false;
    this.gap = false;
    /** Counts resets, so that a page of history that was asked for before one is not used after it. */
    this.generation = 0;
  }
}

/**
 * Messages of one channel, each exactly once and in order, however often the connection breaks. Made by `bus.subscribe`.
 *
 * It remembers, for every log that it hears, the last message it has taken; what the server sends again after a break is
 * recognised by that. Memory is bounded: when `buffer` messages wait, it stops taking live ones and, as soon as its reader
 * has caught up, reads what it left out from the channel's history.
 */
export class Subscription {
  constructor(bus, address, { since = null, echo = false, broadcasts = true, presence = false, buffer } = {}) {
    if (!(buffer >= 1)) throw new RangeError("buffer must be 1 or more");
    [this.room, this.channel] = splitAddress(address);
    this.address = `${this.room}:${this.channel}`;
    Object.assign(this, { since, echo, broadcasts, presence, buffer });
    /** Messages of ephemeral channels that found no room in the buffer; nothing else is ever dropped. */
    this.dropped = 0;
    /** How often messages were lost because the log did not reach back far enough. */
    this.gaps = 0;
    this._bus = bus;
    /** The messages that wait, each with the epoch of its log. */
    this._queue = [];
    this._cursors = new Map();
    this._error = null;
    this._opened = false;
    this._opening = null;
    this._closed = false;
    this._over = new Promise((resolve) => (this._end = resolve));
    this._taken = null;
    this._wake = null;
    this._reading = Promise.resolve();
  }

  get joinable() {
    return joinable(this.address);
  }

  get closed() {
    return this._closed;
  }

  /** Messages in the buffer. */
  get waiting() {
    return this._queue.length;
  }

  /** After the last message that was handed out: keep it, and give it to `since` later to go on from there. */
  get position() {
    // The empty text says that nobody knew which log it was: as `since` it is never taken for a place in another one.
    return this._taken && { seq: this._taken.seq, epoch: this._taken.epoch ?? "" };
  }

  /** Join the channel; messages from now on (or from `since` on) are kept for the reader. Throws ServerError. */
  async open() {
    if (!this._opened && !this._closed) {
      this._opening ??= this._bus
        ._attach(this)
        .then(() => (this._opened = true))
        .finally(() => (this._opening = null));
      // Closing does not wait for an answer that nobody needs any more.
      await Promise.race([this._opening, this._over]);
    }
    return this;
  }

  /** End it; iterating ends, and the channel is left unless something else of this bus needs it. */
  async close() {
    if (this._closed) return;
    this._finish();
    await this._bus._detach(this);
  }

  /** It ends without an error: what is in the buffer is still handed out. */
  _finish() {
    this._closed = true;
    this._end();
    this._wake?.();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** The next message; turns are taken in the order of the calls. */
  next() {
    const mine = this._reading.then(() => this.#read());
    this._reading = mine.catch(() => {});
    return mine;
  }

  /** Called by `break` in a `for await`. */
  async return(value) {
    await this.close();
    return { done: true, value };
  }

  async #read() {
    for (;;) {
      try {
        if (!this._opened && !this._closed) await this.open();
      } catch (problem) {
        if (!(problem instanceof BusClosed && this._bus.state === "closed")) throw problem;
        this._finish();
      }
      const next = this._queue.shift();
      if (next) {
        const { message, epoch } = next;
        if (message.seq !== null && message.address === this.address) this._taken = { seq: message.seq, epoch };
        return { done: false, value: message };
      }
      if (this._closed) return { done: true, value: undefined };
      if (this._error) throw this._error;
      const behind = [...this._cursors].find(([, cursor]) => cursor.lagging);
      if (behind) await this.#goBehind(...behind);
      else {
        await new Promise((resolve) => (this._wake = resolve));
        this._wake = null;
      }
    }
  }

  /** Catch up; a server that is away or busy is asked again, and any other error ends the subscription. */
  async #goBehind(address, cursor) {
    try {
      await this.#catchUp(address, cursor);
    } catch (problem) {
      if (this._closed || this._error) return;
      if (passing(problem)) await Promise.race([sleep(problem.retryAfter ?? 1_000), this._over]);
      else {
        this._fail(problem);
        this._bus._detach(this).catch(report);
      }
    }
  }

  /** Put a page of the history behind `cursor` into the empty buffer, and go live when that was the last one. */
  async #catchUp(address, cursor) {
    const limit = Math.min(PAGE, this.buffer);
    for (let look = 0; look < LOOKS; look += 1) {
      const generation = cursor.generation;
      let page;
      try {
        page = await this._bus._historyFrames(address, cursor.last ?? 0, limit);
      } catch (problem) {
        if (!(problem instanceof ServerError) || ![403, 404].includes(problem.number)) throw problem;
        page = [];
        look = LOOKS - 1;
      }
      if (generation !== cursor.generation) return;
      for (const frame of page) this.#take(frame, cursor, true);
      if (page.length === limit) return;
      if ((cursor.last ?? 0) >= cursor.head) {
        cursor.lagging = false;
        return;
      }
      if (page.length) return;
      if (look === LOOKS - 1) {
        // It went by on the socket and is not in the history: pruned meanwhile, or not for us to read.
        Object.assign(cursor, { last: cursor.head, lagging: false, gap: true });
        this.gaps += 1;
        return;
      }
      await sleep(LOOK_PAUSE);
    }
  }

  #cursor(address) {
    if (!this._cursors.has(address)) this._cursors.set(address, new Cursor());
    return this._cursors.get(address);
  }

  /** Messages of a log are wanted from behind `at`; `gap`: some before it are lost. */
  _begin(address, { seq, epoch }, gap = false) {
    const cursor = this.#cursor(address);
    Object.assign(cursor, { last: seq, head: seq, epoch: epoch ?? null, lagging: false, generation: cursor.generation + 1 });
    if (gap) {
      cursor.gap = true;
      this.gaps += 1;
    }
  }

  /**
   * A log goes on behind `at`, for everybody who hears it. `lost`: what lies before is gone; `silent`: it did not reach us up to
   * now.
   */
  _continue(address, at, { lost, silent }) {
    const cursor = this.#cursor(address);
    if (cursor.last === null) this._begin(address, at);
    else if (lost || another(cursor, at)) this._begin(address, at, true);
    // What was published meanwhile is not sent, as nobody asked for it. Who is behind anyway finds it in the history.
    else if (silent && at.seq > cursor.last && !cursor.lagging) this._begin(address, at, true);
    else if (cursor.epoch === null && at.epoch) this.#learn(address, cursor, at.epoch);
  }

  /** Which log it is that was heard up to here. */
  #learn(address, cursor, epoch) {
    cursor.epoch = epoch;
    if (address !== this.address) return;
    for (const each of [...this._queue, this._taken]) if (each && each.epoch === null) each.epoch = epoch;
  }

  /** Take what is behind the cursor, up to `head` at least, from the history before anything live. */
  _follow(address, head) {
    const cursor = this.#cursor(address);
    Object.assign(cursor, { last: cursor.last ?? 0, head: Math.max(cursor.head, head), lagging: true });
    this._wake?.();
  }

  _wants(address) {
    if (address === this.address) return true;
    const [room, channel] = splitAddress(address);
    return this.broadcasts && channel === WHOLE && [this.room, WHOLE].includes(room) && this.room !== INBOX_ROOM;
  }

  /** A live frame, perhaps one that was sent before. */
  _offer(address, frame) {
    const own = frame.from === this._bus.clientId && !this.echo;
    const full = this._queue.length >= this.buffer;
    if (!Number.isInteger(frame.seq)) {
      if (own) return;
      if (full) this.dropped += 1;
      else this.#put(new Message(frame), null);
      return;
    }
    const cursor = this.#cursor(address);
    if (cursor.last !== null && frame.seq <= cursor.last) return;
    if (cursor.lagging) cursor.head = Math.max(cursor.head, frame.seq);
    else if (full && !own) {
      if (address.endsWith(`:${WHOLE}`)) {
        // A room's own log cannot be read by seq; its announcements are few and must not be lost silently.
        Object.assign(cursor, { last: frame.seq, gap: true });
        this.gaps += 1;
        return;
      }
      Object.assign(cursor, { lagging: true, head: frame.seq, last: cursor.last ?? frame.seq - 1 });
    } else this.#take(frame, cursor, false);
  }

  #take(frame, cursor, fromHistory) {
    if (cursor.last !== null) {
      if (frame.seq <= cursor.last) return;
      // Live, a hole is a message of our own. The history has everything, so there it is what was pruned.
      if (fromHistory && frame.seq > cursor.last + 1 && cursor.last > 0) {
        cursor.gap = true;
        this.gaps += 1;
      }
    }
    cursor.last = frame.seq;
    if (frame.from === this._bus.clientId && !this.echo) return;
    const gap = cursor.gap;
    cursor.gap = false;
    this.#put(new Message(frame, gap), cursor.epoch);
  }

  /** A presence notice of the server. */
  _notice(frame) {
    if (this.presence && this._queue.length < this.buffer) this.#put(new Message(frame), null);
  }

  #put(message, epoch) {
    this._queue.push({ message, epoch });
    this._wake?.();
  }

  /** What is in the buffer is still handed out; after it comes the error. */
  _fail(error) {
    this._error = error;
    this._wake?.();
  }

  /** Call `listener` with each message, instead of iterating. */
  async _listen(listener) {
    for (;;) {
      try {
        for await (const message of this) tell(listener, message, this);
        return;
      } catch (problem) {
        // Nobody is there to try again, as whoever iterates can.
        if (!this._error && passing(problem)) await Promise.race([sleep(problem.retryAfter ?? 1_000), this._over]);
        else {
          this._bus._emit("error", problem, this);
          return;
        }
      }
    }
  }
}

// --- the bus ----------------------------------------------------------------------------------------------------------

/** A client of the bus: one identity that stays connected. Made by `connect`. */
export class Bus {
  constructor(dial, registration, options, identity = null) {
    this._dial = dial;
    this._registration = registration;
    this._options = options;
    /** What is kept of this client beyond its life, or null. */
    this._identity = identity;
    this._backoff = options.backoff;
    this._state = "connecting";
    this._link = null;
    this._up = false;
    this._failure = null;
    this._upWaiters = new Set();
    this._pending = new Map();
    this._repeating = false;
    this._places = new Places(options.maxUnacked);
    this._pacer = new Pacer();
    this._limits = {};
    this._resumeToken = options.resumeToken;
    this._heard = new Heard();
    /** Channels that were joined by `join` and stay, whatever subscriptions come and go. */
    this._kept = new Set();
    /** Where the server has us, or may have us: an answer can be lost. */
    this._members = new Set();
    /** Of each channel the subscriptions that are about to join it. */
    this._opening = new Map();
    /** Of each channel the last of its joins and leaves, which come one after another. */
    this._turns = new Map();
    this._listeners = new Map();
    this._pulse = null;
    this._sooner = null;
    /** Whether the server said how long the pause is that we are in. */
    this._bidden = false;
    /** The registration's answer: role, initial room and channel. */
    this.registered = {};
    this.clientId = String(registration.client_id ?? "");
    /** How many connections there were. */
    this.connections = 0;
  }

  // --- life ---

  _open() {
    return new Promise((resolve, reject) => {
      this._first = { resolve: () => resolve(this), reject };
      this._run();
    });
  }

  /** `connecting`, `connected`, `reconnecting` or `closed`. */
  get state() {
    return this._state;
  }

  /** Whether it is connected and registered at this moment. */
  get connected() {
    return this._up && !this._failure;
  }

  /** The initial channel: where a message without an address goes. */
  get address() {
    return `${this.registered.room}:${this.registered.channel}`;
  }

  /** What the server takes this client for: `admin` or another role. */
  get role() {
    return String(this.registered.role ?? "");
  }

  /** What ended the bus for good, or null. */
  get failure() {
    return this._failure;
  }

  /** The proof that one is this client, for another connection under the same `clientId`. A secret. */
  get resumeToken() {
    return this._resumeToken;
  }

  /** Whether the `identity` outlives this page or process; null without one. */
  get identityKept() {
    return this._identity && this._identity.kept;
  }

  /** Close the connection; iterators end, what waits for an answer gets BusClosed. */
  close() {
    this._end(new BusClosed("The bus is closed."));
    this._link?.close();
  }

  /** Hear of `state` (name), `error` (ServerError that answers no request, or a failed listener), `notice` (frame). */
  on(event, listener) {
    if (!this._listeners.has(event)) this._listeners.set(event, new Set());
    this._listeners.get(event).add(listener);
    return () => this._listeners.get(event).delete(listener);
  }

  _emit(event, ...values) {
    for (const listener of this._listeners.get(event) ?? []) tell(listener, ...values);
  }

  #change(state) {
    if (state === this._state) return;
    this._state = state;
    tell(this._options.onState, state);
    this._emit("state", state);
  }

  /** Wait until it is connected. Throws what ended the bus for good. */
  async whenConnected() {
    while (!this._up && !this._failure) await this.#upChange();
    if (this._failure) throw this._failure;
  }

  /** Until the connection is there, the bus has ended, or `pending` needs it no longer: then nothing of it is left here. */
  #upChange(pending = {}) {
    return new Promise((resolve) => {
      this._upWaiters.add(resolve);
      pending.forget = () => {
        this._upWaiters.delete(resolve);
        resolve();
      };
    });
  }

  #wakeAll() {
    for (const wake of this._upWaiters) wake();
    this._upWaiters.clear();
  }

  /** The end: everything that waits is told. */
  _end(error) {
    if (this._failure) return;
    this._failure = error;
    for (const pending of [...this._pending.values()]) pending.reject(error);
    for (const subscription of this._heard.all) {
      if (error instanceof BusClosed) subscription._finish();
      else subscription._fail(error);
    }
    this._identity?.release();
    this.#change("closed");
    this.#wakeAll();
    this._sooner?.();
    this._first?.reject(error);
    this._first = null;
  }

  // --- connecting and coming back ---

  async _run() {
    const deaf = this.#hearNetwork();
    let lostAt = performance.now();
    try {
      while (!this._failure) {
        let link;
        try {
          link = await this.#connectOnce(lostAt);
        } catch (refusal) {
          if (!(refusal instanceof Refused)) throw refusal;
          const patience = this.connections ? this._options.giveUpAfter : this._options.wait;
          if (refusal.final || (patience !== null && performance.now() - lostAt >= patience)) {
            this._end(refusal.error);
            return;
          }
          await this.#pause(refusal.retryAfter);
          continue;
        }
        if (this._failure) {
          link.close();
          return;
        }
        await this.#serve(link);
        lostAt = performance.now();
        if (this._failure) return;
        const code = link.closeCode;
        // What has expired can be had anew from a function; if the server does not take that one, it is over.
        const renewed = code === UNIDENTIFIED && (this._dial.ticket || typeof this._dial.token === "function");
        if (!comesBack(code) && !renewed) {
          this._end(new ClosedByServer(code, link.lastError));
          return;
        }
        if (!this._options.reconnect) {
          this._end(new ConnectionLost(`The connection was lost (${code}).`));
          return;
        }
        this.#change("reconnecting");
        await this.#pause(CLOSE_CODES[code] && link.lastError ? link.lastError.retryAfter : null);
      }
    } catch (problem) {
      this._end(problem);
    } finally {
      deaf();
    }
  }

  /**
   * What the browser tells of the network, and of a page that is looked at again: the line is asked at once, or tried again.
   * Returns what ends the listening.
   */
  #hearNetwork() {
    const { document: page } = globalThis;
    const heard = [
      [globalThis, "online", () => true],
      [globalThis, "offline", () => true],
      [globalThis, "pageshow", (event) => event.persisted],
      [page, "visibilitychange", () => page.visibilityState === "visible"],
      [page, "resume", () => true],
    ].filter(([where]) => where?.addEventListener);
    const listeners = heard.map(([where, name, counts]) => {
      const listener = (event) => {
        if (!counts(event)) return;
        this._pulse?.ask();
        if (!this._bidden) this._sooner?.();
      };
      where.addEventListener(name, listener);
      return () => where.removeEventListener(name, listener);
    });
    return () => listeners.forEach((end) => end());
  }

  /** Wait before the next attempt; shorter when the network comes back or the bus is closed. */
  async #pause(retryAfter) {
    this._bidden = retryAfter !== null;
    await Promise.race([sleep(this._backoff.pause(retryAfter)), new Promise((resolve) => (this._sooner = resolve))]);
    this._sooner = null;
  }

  /** Try at once instead of waiting for the end of the pause. */
  reconnectNow() {
    this._sooner?.();
  }

  async #connectOnce(lostAt) {
    if (this._identity) await this.#wake();
    const link = await Link.dial(this._dial);
    try {
      if (this._failure) throw new Refused(this._failure, { final: true });
      const limits = link.welcome.limits ?? {};
      this._pacer.limit(limits.frames_per_second);
      this._limits = { bytes: limits.frame_bytes ?? 0, depth: limits.depth ?? 0 };
      const registration = this.#registration();
      const answer = await link.register(registration);
      this.#takeOver(answer, registration.resume?.positions ?? {});
      await this._identity?.keep(this.clientId, this._resumeToken);
    } catch (problem) {
      link.close();
      const error = problem instanceof Refused ? problem.error : null;
      const taken = error instanceof ClosedByServer && error.closeCode === 4409;
      if (taken && this.connections > 0 && performance.now() - lostAt < OWN_GHOST) throw new Refused(error, { final: false });
      if (taken && this.connections === 0 && this._identity?.renew()) {
        this.clientId = this._resumeToken = null;
        return this.#connectOnce(lostAt);
      }
      throw problem;
    }
    return link;
  }

  /** Become the client that was kept. Throws Refused. */
  async #wake() {
    await this._identity.load(this._registration.client_id);
    if (this._failure) throw new Refused(this._failure, { final: true });
    this.clientId = this.clientId || this._identity.clientId;
    this._resumeToken ??= this._identity.token;
  }

  #registration() {
    const frame = { type: "register", ...this._registration };
    if (this.clientId) frame.client_id = this.clientId;
    if (this.connections || this._resumeToken) {
      frame.resume = { token: this._resumeToken, positions: this._heard.positions(this.#wanted()) };
    }
    return frame;
  }

  /** Take over what the server says of every log; nothing of them has come yet. */
  #takeOver(answer, asked) {
    this.registered = answer;
    this.clientId = String(answer.client_id);
    this._resumeToken = answer.resume_token ?? null;
    const channels = answer.channels ?? {};
    this._members = new Set(Object.keys(channels).filter(joinable));
    this._heard.registered(channels, asked, this.#wanted());
  }

  /** From the registration to the end of one connection. */
  async #serve(link) {
    this._link = link;
    this.connections += 1;
    this._backoff.reset();
    link.deliver((frame) => this.#receive(frame));
    this._pulse = new Pulse(link, this._options.heartbeat);
    // First what was not answered, in its order; new requests wait until that is on its way.
    this.#sendAgain(link).catch((problem) => {
      report(problem);
      link.close(1006);
    });
    await link.ended;
    this._pulse.stop();
    this._pulse = null;
    this._link = null;
    this._up = false;
    for (const pending of [...this._pending.values()]) {
      if (pending.sent && !pending.repeat) {
        pending.reject(new ConnectionLost("The connection was lost before the answer came."));
      }
    }
  }

  async #sendAgain(link) {
    for (const pending of [...this._pending.values()].filter((each) => each.repeat)) {
      const fault = flaw(pending.text, this._limits);
      if (fault) {
        // This server takes less than the one before.
        pending.reject(fault);
        continue;
      }
      await this._pacer.turn();
      if (!link.send(pending.text)) return;
      pending.sent = true;
    }
    if (this._link !== link) return;
    this._up = true;
    this.#change("connected");
    this._first?.resolve();
    this._first = null;
    this.#wakeAll();
    this.#settle();
  }

  // --- memberships ---

  /** The channels that something here needs: those that are kept, and those of subscriptions, also of those that are opening. */
  #wanted() {
    const addresses = [...this._kept, ...this._heard.byAddress.keys(), ...this._opening.keys()];
    return new Set(addresses.filter((address) => joinable(address) && this.#needs(address)));
  }

  #needs(address) {
    return this.#holds(address) || [...(this._opening.get(address) ?? [])].some((each) => !each.closed);
  }

  /** Whether it is needed by something that was in it already. */
  #holds(address) {
    return this._kept.has(address) || this._heard.byAddress.has(address);
  }

  /** Connected again: join what is needed and leave what is not, where the server has us in other channels. */
  #settle() {
    for (const address of new Set([...this._kept, ...this._heard.byAddress.keys()])) {
      if (joinable(address) && !this._members.has(address)) this.#inTurn(address, () => this.#rejoin(address)).catch(report);
    }
    for (const address of this._members) this.#letGo(address).catch(report);
  }

  /** Joins and leaves of one channel come one after another, so that those that cross do not end one another's membership. */
  #inTurn(address, work) {
    const mine = (this._turns.get(address) ?? Promise.resolve()).then(work);
    const done = mine.then(
      () => {},
      () => {},
    );
    this._turns.set(address, done);
    done.then(() => {
      if (this._turns.get(address) === done) this._turns.delete(address);
    });
    return mine;
  }

  /** Join a channel that the server did not take us back into by itself. */
  async #rejoin(address) {
    const { connections } = this;
    const delay = new Backoff();
    while (this.connected && connections === this.connections && this.#holds(address) && !this._members.has(address)) {
      try {
        await this.#join(address, this._heard.logs.get(address) ?? null, { ours: true });
      } catch (problem) {
        if (passing(problem)) {
          this._members.delete(address);
          await sleep(delay.pause(problem.retryAfter ?? null));
        } else if (problem instanceof ServerError) this.#ended(address, problem);
        else return; // The next connection does it.
      }
    }
  }

  /** Leave a channel that nothing needs any more. */
  async #letGo(address) {
    if (!joinable(address) || this.#needs(address) || !this._members.has(address)) return;
    await this.#inTurn(address, async () => {
      // While there is no connection nothing need be left: the next registration does not ask for it.
      if (this.#needs(address) || !this._members.has(address) || address === this.address || !this.connected) return;
      try {
        await this.#leaveNow(address);
      } catch (problem) {
        // It was left already, or the connection went.
        if (!(problem instanceof ArqonBusError)) throw problem;
      }
    });
  }

  /** This client is no member any more: the log comes no longer, nor with its last channel the room's own. */
  #gone(address) {
    this._members.delete(address);
    this._heard.forget(address, this._members);
  }

  /** An error ended a membership and every subscription of it: nothing of it is joined again. */
  #ended(address, error) {
    const kept = this._kept.delete(address);
    this.#gone(address);
    for (const subscription of this._heard.listeners(address)) {
      subscription._fail(error);
      this._heard.remove(subscription);
    }
    if (kept) this._emit("error", error);
  }

  // --- frames in ---

  #receive(frame) {
    const { type, room, channel, seq } = frame;
    if (type === "ack" || (["command_response", "error"].includes(type) && seq === undefined)) {
      this.#answered(frame);
      return;
    }
    if (typeof room !== "string" || typeof channel !== "string") return;
    const address = `${room}:${channel}`;
    if (type === "system" && frame.from === SERVER && seq === undefined) {
      this.#notice(address, frame);
      return;
    }
    if (Number.isInteger(seq)) this._heard.came(address, seq);
    for (const subscription of this._heard.hearing(address)) subscription._offer(address, frame);
  }

  #answered(frame) {
    const failed = frame.type === "error" || frame.status === "error";
    if (frame.request_id != null) {
      // An answer that nobody waits for (a repeat's second one) is dropped.
      const pending = this._pending.get(String(frame.request_id));
      if (!pending) return;
      // Not taken, and the connection ends in a moment: the next one sends it again.
      if (failed && pending.repeat && frame.error?.code === "RESTARTING") return;
      if (failed) pending.reject(new ServerError(frame.error));
      else {
        pending.onAnswer?.(frame);
        pending.resolve(frame);
      }
      return;
    }
    if (!failed) return;
    const problem = new ServerError(frame.error);
    if (problem.code === "RATE_LIMITED") {
      // It does not say which frame was refused: everything unanswered is sent again, which the ids make harmless.
      this._pacer.hold(problem.retryAfter ?? 1_000);
      if (this._link && !this._repeating) this.#repeatUnanswered(this._link);
    }
    this._emit("error", problem);
  }

  async #repeatUnanswered(link) {
    this._repeating = true;
    await this._pacer.turn();
    this._repeating = false;
    for (const pending of [...this._pending.values()].filter((each) => each.repeat && each.sent)) {
      await this._pacer.turn();
      if (this._pending.get(pending.id) === pending && !link.send(pending.text)) return;
    }
  }

  #notice(address, frame) {
    if (frame.payload?.event === "unsubscribed") {
      const why =
        frame.payload.reason === "DELETED"
          ? { code: "CHANNEL_NOT_FOUND", number: 404, message: `${address} was deleted.` }
          : { code: "REVOKED", number: 403, message: `Your access to ${address} was withdrawn.` };
      this.#ended(address, new ServerError(why));
    } else for (const subscription of this._heard.listeners(address)) subscription._notice(frame);
    this._emit("notice", frame);
  }

  // --- requests ---

  /** Send a frame and wait for its answer, across breaks of the connection when `repeat`. */
  async #request(frame, { repeat, timeout = this._options.timeout, onAnswer = null }) {
    const text = this.#encoded(frame);
    const delay = new Backoff();
    const until = performance.now() + timeout;
    for (;;) {
      try {
        return await this.#once(frame.id, text, repeat, onAnswer, until);
      } catch (problem) {
        const passing = ["BUSY", "UNAVAILABLE", "OUTCOME_UNKNOWN"].includes(problem.code);
        const pause = delay.pause(problem.retryAfter ?? null);
        if (!repeat || !passing || performance.now() + pause >= until) throw problem;
        await sleep(pause);
      }
    }
  }

  #once(id, text, repeat, onAnswer, until) {
    return new Promise((resolve, reject) => {
      if (this._pending.has(id)) throw new RangeError(`a request with the id ${id} is on its way`);
      const settle = (finish) => (value) => {
        clearTimeout(pending.timer);
        pending.forget?.();
        if (this._pending.get(id) === pending) this._pending.delete(id);
        pending.done = true;
        finish(value);
      };
      const pending = { id, text, repeat, onAnswer, sent: false, done: false };
      pending.resolve = settle(resolve);
      pending.reject = settle(reject);
      const late = () => pending.reject(new TimedOut("The server did not answer in time."));
      pending.timer = setTimeout(late, Math.max(0, until - performance.now()));
      this._pending.set(id, pending);
      this.#dispatch(pending).catch(pending.reject);
    });
  }

  async #dispatch(pending) {
    while (!pending.sent && !pending.done) {
      if (this._failure) throw this._failure;
      if (!this._up) {
        await this.#upChange(pending);
        continue;
      }
      await this.#turn();
      const link = this._link;
      if (!link || !this._up || pending.sent || pending.done) continue;
      // What did not get on the line is sent by the next connection, or by the next turn here.
      if (pending.repeat) pending.sent = true;
      pending.sent = link.send(pending.text) || pending.sent;
      if (!pending.sent) await link.ended;
    }
  }

  /** Wait for the turn of one frame: the server's limit, and a line that takes no more. */
  async #turn() {
    await this._pacer.turn();
    while (this._link && this._link.socket.bufferedAmount > HIGH_WATER) await sleep(10);
  }

  #encoded(frame) {
    if (this._failure) throw this._failure;
    let text;
    try {
      text = typeof frame === "string" ? frame : JSON.stringify(frame);
    } catch (problem) {
      // Nested so deeply that the encoder itself gave up.
      if (problem instanceof RangeError) throw tooDeep(this._limits.depth);
      throw problem;
    }
    const fault = flaw(text, this._limits, typeof frame === "string" ? rewritten(text) : text);
    if (fault) throw fault;
    return text;
  }

  /** Call any command of the contract; its `result`. `repeat`: sent again after a break, as doing it twice does no harm. */
  async command(name, parameters = {}, { repeat = false, timeout = undefined, id = newId() } = {}) {
    const answer = await this.#request({ type: "command", id, command: name, parameters }, { repeat, timeout });
    return answer.result;
  }

  /** Send a frame of your own as it is; nothing waits for its answer. Throws BusClosed, TimedOut and the like. */
  async send(frame) {
    await this.#put(this.#encoded(frame), this._options.timeout);
  }

  /** Put a text on the line; it waits for the connection at most `timeout`. */
  #put(text, timeout) {
    return new Promise((resolve, reject) => {
      const pending = { text, sent: false, done: false };
      const settle = (finish) => (value) => {
        clearTimeout(pending.timer);
        pending.done = true;
        pending.forget?.();
        finish(value);
      };
      pending.reject = settle(reject);
      pending.timer = setTimeout(() => pending.reject(new TimedOut("There was no connection in time.")), timeout);
      this.#dispatch(pending).then(settle(resolve), pending.reject);
    });
  }

  // --- publishing ---

  /**
   * Publish to `room:channel` (or `room` for everybody in it; null: the initial channel).
   *
   * `message` is a text, or an object, which is the payload. With `ack` it resolves when the message is durable, and is sent
   * again under the same id after a break, so that it is published exactly once. Without, when the frame is on the line.
   */
  async publish(address, message, options = {}) {
    const frame = Bus.#content(options.type ?? "event", message, options);
    if (address !== null && address !== undefined) {
      const [room, channel] = splitAddress(address);
      if (room === INBOX_ROOM) return this.private(channel, message, options);
      frame.room = room;
      if (channel !== WHOLE) frame.channel = channel;
    }
    const subscriptions = this._heard.listeners(address || this.address);
    if (options.echo ?? subscriptions.some((each) => each.echo)) frame.echo = true;
    return this.#publish(frame, options);
  }

  /** Send to one client or several, into their inboxes; resolves when it is durable. Throws TARGET_NOT_FOUND. */
  async private(to, message, options = {}) {
    const frame = Bus.#content("private", message, options);
    frame.to = Array.isArray(to) ? to : [to];
    return this.#publish(frame, { ...options, ack: true });
  }

  static #content(type, message, { payload, metadata, id = newId() }) {
    const frame = { type, id };
    if (message !== null && typeof message === "object") {
      if (payload !== undefined) throw new TypeError("give the payload once: as `message` or as `payload`");
      frame.payload = message;
    } else {
      if (message !== undefined && message !== null) frame.message = message;
      if (payload !== undefined) frame.payload = payload;
    }
    if (metadata !== undefined) frame.metadata = metadata;
    return frame;
  }

  async #publish(frame, { ack = true, timeout = this._options.timeout }) {
    await this._places.take();
    try {
      if (!ack) {
        await this.#put(this.#encoded(frame), timeout);
        return { id: frame.id, room: frame.room ?? "", channel: frame.channel ?? WHOLE, seq: null, duplicate: false };
      }
      const answer = await this.#request({ ...frame, ack: true }, { repeat: true, timeout });
      const { room, channel, seq = null, duplicate = false } = answer;
      return { id: frame.id, room, channel, seq, duplicate };
    } finally {
      this._places.give();
    }
  }

  // --- channels and subscriptions ---

  /**
   * The messages of `room:channel`, each once and in order, also across reconnects: iterate with `for await`, or give a
   * function to be called with each. `since`: begin with what came after a seq (0: everything that is kept), a position,
   * or a Date.
   */
  subscribe(address, options = {}, listener = null) {
    if (typeof options === "function") [options, listener] = [{}, options];
    const subscription = new Subscription(this, address, { buffer: this._options.buffer, ...options });
    if (listener) subscription._listen(listener);
    return subscription;
  }

  /** The private messages to this client; `since` 0: with those that wait in the inbox. */
  inbox(options = {}, listener = null) {
    if (typeof options === "function") [options, listener] = [{}, options];
    return this.subscribe(`${INBOX_ROOM}:${this.clientId}`, { ...options, broadcasts: false }, listener);
  }

  /** Become a member and stay one across reconnects (`subscribe` does it by itself). */
  join(address) {
    return this.#inTurn(address, async () => {
      const joined = await this.#join(address, null);
      this._kept.add(address);
      return joined;
    });
  }

  /** End a membership, and the subscriptions that need it; the addresses of those that are left. */
  async leave(address) {
    this._kept.delete(address);
    return this.#inTurn(address, async () => {
      const channels = await this.#leaveNow(address);
      for (const subscription of this._heard.listeners(address)) {
        subscription._finish();
        this._heard.remove(subscription);
      }
      return channels;
    });
  }

  async #leaveNow(address) {
    const result = await this.command("leave_channel", { channel: address });
    this.#gone(address);
    return result.channels;
  }

  /**
   * Join; `activate` is called with the result before any frame that follows the answer is looked at. `ours`: `since` is our own
   * place, and not one that a new subscription asks for.
   */
  async #join(address, since, { ours = false, activate = null } = {}) {
    const parameters = { channel: address };
    if (since) {
      parameters.since = since.seq;
      // An empty one says that nobody knew which log it was.
      if (typeof since.epoch === "string") parameters.epoch = since.epoch;
      else if (ours && since.seq > 0) parameters.epoch = "";
    }
    const onAnswer = ({ result }) => {
      this._members.add(address);
      this._heard.joined(address, result, since, ours);
      activate?.(result);
    };
    const frame = { type: "command", id: newId(), command: "join_channel", parameters };
    try {
      return (await this.#request(frame, { repeat: true, onAnswer })).result;
    } catch (problem) {
      if (problem instanceof TimedOut) this._members.add(address); // Perhaps: nobody waits for the answer any more.
      throw problem;
    }
  }

  /** Begin a subscription: from the answer on, every frame reaches it. */
  async _attach(subscription) {
    const { address } = subscription;
    if (!this._opening.has(address)) this._opening.set(address, new Set());
    this._opening.get(address).add(subscription);
    try {
      await this.whenConnected();
      if (subscription.joinable) await this.#inTurn(address, () => this.#enter(subscription));
      else await this.#listen(subscription);
    } finally {
      const others = this._opening.get(address);
      others.delete(subscription);
      if (!others.size) this._opening.delete(address);
      // Closed, or refused, while its join was on the way.
      this.#letGo(address).catch(report);
    }
  }

  async #enter(subscription) {
    if (subscription.closed) return;
    const { address } = subscription;
    const since = await this.#seqOf(address, subscription.since);
    if (subscription.closed) return;
    const activate = (result) => {
      if (subscription.closed) return;
      if (!since) {
        // Another iterator's `since` makes the server send older messages again; they are not for this one.
        subscription._begin(address, told(result));
      } else {
        const lost = result.recovered === false;
        subscription._begin(address, told(result, lost ? result.first_seq - 1 : since.seq), lost && since.seq > 0);
      }
      this._heard.add(subscription);
    };
    await this.#join(address, since, { activate });
  }

  /** Begin with a log that comes by itself: an inbox, or a room's own. */
  async #listen(subscription) {
    const { address } = subscription;
    const since = await this.#seqOf(address, subscription.since);
    if (subscription.closed) return;
    const at = this._heard.logs.get(address);
    if (since) {
      const place = this._heard.place(address, since);
      subscription._begin(address, place.at, place.lost);
      subscription._follow(address, at?.seq ?? 0);
    } else if (at) subscription._begin(address, at);
    this._heard.add(subscription);
  }

  /** A `since` as a position. Throws RangeError for a text that is no time. */
  async #seqOf(address, since) {
    if (since === null || since === undefined || isPosition(since)) return since ?? null;
    if (typeof since === "number") return { seq: since, epoch: null };
    const moment = momentOf(since);
    try {
      const head = joinable(address) ? (await this.channelInfo(address)).seq : (this._heard.logs.get(address)?.seq ?? 0);
      const page = await this.historyPage(address, { after: moment, limit: 1 });
      const first = page.messages[0]?.seq ?? null;
      return { seq: first === null ? head : Math.min(head, first - 1), epoch: null };
    } catch (problem) {
      if (problem instanceof ServerError && problem.number === 404) return { seq: 0, epoch: null };
      throw problem;
    }
  }

  /** A subscription ended: leave its channel if nothing else here needs it. */
  async _detach(subscription) {
    this._heard.remove(subscription);
    await this.#letGo(subscription.address);
  }

  // --- commands ---

  /** The server, its figures, and the channels and clients that you may see (clients in pages). */
  status({ limit = 100, after = "" } = {}) {
    return this.command("status", { limit, after }, { repeat: true });
  }

  /** Every connected client, over all pages of `status`. */
  async *clients() {
    for (let after = ""; after !== null; ) {
      const page = await this.status({ limit: PAGE, after });
      yield* page.clients;
      after = page.next ?? null;
    }
  }

  /** Ask for a pong. */
  ping(echo = undefined) {
    return this.command("ping", echo === undefined ? {} : { echo }, { repeat: true });
  }

  /** The commands with their parameters, or one of them. */
  async help(command = null) {
    return (await this.command("help", command ? { command } : {}, { repeat: true })).commands;
  }

  /** Make a channel that stays (admins). `retention`: `{count: messages, age: seconds}`. */
  createChannel(address, { description = "", metadata, ephemeral = false, retention, type = "custom" } = {}) {
    const parameters = { channel: address, description, type };
    if (metadata) parameters.metadata = metadata;
    if (ephemeral) parameters.ephemeral = true;
    if (retention) parameters.retention = retention;
    return this.command("create_channel", parameters);
  }

  /** Remove an empty channel (admins). */
  deleteChannel(address) {
    return this.command("delete_channel", { channel: address });
  }

  /** The channels of a room, or without one of all rooms, that you may see; over all pages. */
  async listChannels(room = null) {
    const where = room ? { room } : { all: true };
    const rows = [];
    for (let after = ""; after !== null; ) {
      const page = await this.command("list_channels", { ...where, limit: PAGE, after }, { repeat: true });
      rows.push(...page.channels);
      after = page.next ?? null;
    }
    return rows;
  }

  /** A channel's members, metadata and head. */
  channelInfo(address) {
    return this.command("channel_info", { channel: address }, { repeat: true });
  }

  // --- history ---

  /**
   * One page, oldest first: the newest `limit` messages (before `before`), or the first ones behind `after`. Both are
   * exclusive: a seq, a time, or the `next` of a page that was read with the same one (`before`, if with neither). `limit` is
   * at most 500.
   */
  async historyPage(address, options = {}) {
    const result = await this.#history(address, options);
    return { messages: result.messages.map((frame) => new Message(frame)), next: result.next ?? null };
  }

  /** Every message of a channel (or of a whole room: `"science"`) from `since` on, oldest first, over all pages. */
  async *history(address, { since = null, until = null, type, sender } = {}) {
    const whole = splitAddress(address)[1] === WHOLE;
    const end = until === null ? null : new Date(momentOf(until));
    let after = isPosition(since) ? since.seq : since;
    if (whole && typeof after === "number") throw new TypeError("a whole room has no common seq: give `since` as a time");
    if (after === null) after = whole ? new Date(0) : 0;
    while (after !== null) {
      const page = await this.historyPage(address, { limit: PAGE, after, type, sender });
      for (const message of page.messages) {
        if (end && message.timestamp && message.timestamp >= end) return;
        yield message;
      }
      // A page may be shorter than asked for, even empty, before the end.
      after = page.next;
    }
  }

  #history(address, { limit = 50, before = null, after = null, type, sender }) {
    const [room, channel] = splitAddress(address);
    const parameters = { channel: `${room}:${channel}`, limit };
    for (const [name, value] of Object.entries({ before, after })) {
      const place = typeof value === "number" || (typeof value === "string" && value.startsWith(`${name}:`));
      if (value !== null) parameters[name] = place ? value : momentOf(value);
    }
    if (type) parameters.type = type;
    if (sender) parameters.sender = sender;
    return this.command("history", parameters, { repeat: true });
  }

  /** The frames behind a seq, as they were delivered. */
  async _historyFrames(address, after, limit) {
    return (await this.#history(address, { after, limit })).messages;
  }
}

/**
 * Connect to a bus; resolves with a `Bus` that is registered.
 *
 * Throws ConnectionFailed when nobody answers, ClosedByServer or ServerError when the server refuses.
 */
export async function connect(url = "ws://localhost:8765/", options = {}) {
  const { clientId, clientType = "app", room, channel, screenName, avatar, personality } = options;
  const Implementation = options.WebSocket ?? globalThis.WebSocket;
  if (!Implementation) {
    throw new TypeError(
      "This runtime has no WebSocket of its own (node 20 needs --experimental-websocket). " +
        'Give one: connect(url, { WebSocket: (await import("ws")).WebSocket })',
    );
  }
  const registration = { client_id: clientId, client_type: clientType, room, channel, screen_name: screenName, avatar, personality };
  for (const key of Object.keys(registration)) {
    if (registration[key] === undefined || registration[key] === null) delete registration[key];
  }
  const fault = flaw(JSON.stringify(registration));
  if (fault) throw fault;
  const { token, ticket, onFrame, openTimeout = 10_000, identity = null, resumeToken = null } = options;
  if (ticket && typeof ticket !== "function") {
    throw new TypeError("A ticket is good for one connection: give a function that fetches one, `ticket: () => …`.");
  }
  if (identity !== null && !(typeof identity === "string" ? identity : identity.get && identity.set)) {
    throw new TypeError("An identity is a name, or an object that keeps a text: `identity: { get: () => …, set: (text) => … }`.");
  }
  if (resumeToken !== null && (identity !== null || !clientId)) {
    throw new TypeError("A resumeToken proves a clientId: give both of them, and no identity, which keeps them for you.");
  }
  const dial = { url: String(url), token, ticket, onFrame, openTimeout, WebSocket: Implementation };
  const settings = {
    resumeToken,
    reconnect: options.reconnect ?? true,
    giveUpAfter: options.giveUpAfter ?? null,
    wait: options.wait === undefined ? 0 : options.wait,
    timeout: options.timeout ?? 30_000,
    buffer: options.buffer ?? 1000,
    maxUnacked: options.maxUnacked ?? 1000,
    heartbeat: options.heartbeat ?? 25_000,
    backoff: options.backoff ?? new Backoff(),
    onState: options.onState,
  };
  const bus = new Bus(dial, registration, settings, identity === null ? null : new Identity(identity, openTimeout));
  dial.onUnreadable = (problem) => bus._emit("error", problem);
  return bus._open();
}
