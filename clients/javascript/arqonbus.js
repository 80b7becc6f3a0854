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
    try {
      if (typeof value === "function") value = await value();
    } catch (problem) {
      throw new Refused(new ConnectionFailed(`The function for the ${name} failed: ${problem?.message ?? problem}`), { final: false });
    }
    if (value) return `${prefix}.${value}`;
  }
  return null;
}

// --- small tools ------------------------------------------------------------------------------------------------------

const sleep = (time) => new Promise((resolve) => setTimeout(resolve, Math.max(0, time)));

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

/** A `since` that is a time, as the wire has it. Throws RangeError for a text that is none. */
function momentOf(since) {
  const moment = since instanceof Date ? since : new Date(since);
  if (Number.isNaN(moment.getTime())) throw new RangeError(`${JSON.stringify(since)} is not an ISO time`);
  return moment.toISOString();
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
    this.frameBytes = 0;
    this.rate = 0;
    this.level = 0;
    this.updated = performance.now();
    this.heldUntil = 0;
    this.last = null;
  }

  limit(rate, frameBytes) {
    this.rate = typeof rate === "number" && rate > 0 ? 0.9 * rate : 0;
    this.level = this.rate;
    this.updated = performance.now();
    this.frameBytes = typeof frameBytes === "number" ? frameBytes : 0;
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
    const moment = new Date(this.raw.timestamp);
    return Number.isNaN(moment.getTime()) ? null : moment;
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
    this.dial.onFrame?.("out", text);
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
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    if (frame === null || typeof frame !== "object") return;
    this.dial.onFrame?.("in", text, frame);
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

// --- subscriptions ----------------------------------------------------------------------------------------------------

/** How far one log was taken. */
class Cursor {
  constructor(last = null) {
    this.last = last;
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
    this._queue = [];
    this._cursors = new Map();
    this._error = null;
    this._opened = false;
    this._opening = null;
    this._closed = false;
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
    return this._taken === null ? null : { seq: this._taken, epoch: this._bus._logs.get(this.address)?.epoch ?? null };
  }

  /** Join the channel; messages from now on (or from `since` on) are kept for the reader. Throws ServerError. */
  async open() {
    if (!this._opened && !this._closed) {
      this._opening ??= this._bus._attach(this).finally(() => (this._opening = null));
      await this._opening;
      this._opened = true;
    }
    return this;
  }

  /** End it; iterating ends, and the channel is left unless something else of this bus needs it. */
  async close() {
    if (this._closed) return;
    this._closed = true;
    this._wake?.();
    await this._bus._detach(this);
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
    if (!this._opened && !this._closed) await this.open();
    for (;;) {
      const message = this._queue.shift();
      if (message) {
        if (message.seq !== null && message.address === this.address) this._taken = message.seq;
        return { done: false, value: message };
      }
      if (this._closed) return { done: true, value: undefined };
      if (this._error) throw this._error;
      const behind = [...this._cursors].find(([, cursor]) => cursor.lagging);
      if (behind) await this.#catchUp(...behind);
      else {
        await new Promise((resolve) => (this._wake = resolve));
        this._wake = null;
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

  /** Set the place from which messages of a log are wanted. */
  _begin(address, seq, gap = false) {
    const cursor = this.#cursor(address);
    Object.assign(cursor, { last: seq, lagging: false, head: seq ?? 0, generation: cursor.generation + 1 });
    if (gap) {
      cursor.gap = true;
      this.gaps += 1;
    }
  }

  /** Take what is behind the cursor from the history before anything live. */
  _follow(address) {
    const cursor = this.#cursor(address);
    cursor.last ??= 0;
    cursor.lagging = true;
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
      else this.#put(new Message(frame));
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
    this.#put(new Message(frame, gap));
  }

  /** A presence notice of the server. */
  _notice(frame) {
    if (this.presence && this._queue.length < this.buffer) this.#put(new Message(frame));
  }

  #put(message) {
    this._queue.push(message);
    this._wake?.();
  }

  /** What is in the buffer is still handed out; after it comes the error. */
  _fail(error) {
    this._error = error;
    this._wake?.();
  }

  /** Call `listener` with each message, instead of iterating. */
  async _listen(listener) {
    try {
      for await (const message of this) {
        try {
          listener(message, this);
        } catch (problem) {
          // A listener's own fault must not end the subscription; the platform reports it as any uncaught error.
          queueMicrotask(() => {
            throw problem;
          });
        }
      }
    } catch (problem) {
      this._bus._emit("error", problem, this);
    }
  }
}

// --- the bus ----------------------------------------------------------------------------------------------------------

/** A client of the bus: one identity that stays connected. Made by `connect`. */
export class Bus {
  constructor(dial, identity, options) {
    this._dial = dial;
    this._identity = identity;
    this._options = options;
    this._backoff = options.backoff;
    this._state = "connecting";
    this._link = null;
    this._up = false;
    this._failure = null;
    this._upWaiters = [];
    this._pending = new Map();
    this._repeating = false;
    this._places = new Places(options.maxUnacked);
    this._pacer = new Pacer();
    this._resumeToken = null;
    /** Every log that reaches this client: how far it came, for the next registration. */
    this._logs = new Map();
    /** Channels that were joined by `join` and stay, whatever subscriptions come and go. */
    this._kept = new Set();
    this._members = new Set();
    this._subscriptions = new Map();
    this._all = new Set();
    this._joining = Promise.resolve();
    this._listeners = new Map();
    this._sooner = null;
    /** The registration's answer: role, initial room and channel. */
    this.registered = {};
    this.clientId = String(identity.client_id ?? "");
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
    for (const listener of this._listeners.get(event) ?? []) listener(...values);
  }

  #change(state) {
    if (state === this._state) return;
    this._state = state;
    this._options.onState?.(state);
    this._emit("state", state);
  }

  /** Wait until it is connected. Throws what ended the bus for good. */
  async whenConnected() {
    while (!this._up && !this._failure) await new Promise((resolve) => this._upWaiters.push(resolve));
    if (this._failure) throw this._failure;
  }

  #wakeAll() {
    for (const wake of this._upWaiters.splice(0)) wake();
  }

  /** The end: everything that waits is told. */
  _end(error) {
    if (this._failure) return;
    this._failure = error;
    for (const pending of [...this._pending.values()]) pending.reject(error);
    for (const subscription of this._all) {
      if (error instanceof BusClosed) {
        subscription._closed = true;
        subscription._wake?.();
      } else subscription._fail(error);
    }
    this.#change("closed");
    this.#wakeAll();
    this._sooner?.();
    this._first?.reject(error);
    this._first = null;
  }

  // --- connecting and coming back ---

  async _run() {
    const online = () => this._sooner?.();
    globalThis.addEventListener?.("online", online);
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
      globalThis.removeEventListener?.("online", online);
    }
  }

  /** Wait before the next attempt; shorter when the network comes back or the bus is closed. */
  async #pause(retryAfter) {
    await Promise.race([sleep(this._backoff.pause(retryAfter)), new Promise((resolve) => (this._sooner = resolve))]);
    this._sooner = null;
  }

  /** Try at once instead of waiting for the end of the pause. */
  reconnectNow() {
    this._sooner?.();
  }

  async #connectOnce(lostAt) {
    const link = await Link.dial(this._dial);
    try {
      const limits = link.welcome.limits ?? {};
      this._pacer.limit(limits.frames_per_second, limits.frame_bytes);
      const sent = new Map(this._logs);
      const answer = await link.register(this.#registration());
      this.#takeOver(answer, sent);
    } catch (problem) {
      link.close();
      const error = problem instanceof Refused ? problem.error : null;
      const ghost = error instanceof ClosedByServer && error.closeCode === 4409 && this.connections > 0;
      if (ghost && performance.now() - lostAt < OWN_GHOST) throw new Refused(error, { final: false });
      throw problem;
    }
    return link;
  }

  #registration() {
    const frame = { type: "register", ...this._identity };
    if (this.clientId) frame.client_id = this.clientId;
    if (this.connections) {
      const positions = {};
      for (const [address, at] of this._logs) positions[address] = { epoch: at.epoch ?? "", seq: at.seq };
      frame.resume = { token: this._resumeToken, positions };
    }
    return frame;
  }

  /** Take over what the server says of every log; nothing of them has come yet. */
  #takeOver(answer, sent) {
    this.registered = answer;
    this.clientId = String(answer.client_id);
    this._resumeToken = answer.resume_token ?? null;
    const channels = answer.channels ?? {};
    this._members = new Set(Object.keys(channels).filter(joinable));
    for (const address of [...this._logs.keys()]) {
      if (!(address in channels) && !joinable(address)) this._logs.delete(address);
    }
    for (const [address, row] of Object.entries(channels)) {
      const before = sent.get(address);
      if (!before) this._logs.set(address, { seq: row.seq, epoch: row.epoch });
      else if (row.recovered === false) {
        const start = row.first_seq - 1;
        this._logs.set(address, { seq: start, epoch: row.epoch });
        for (const subscription of this._all) {
          if (subscription._wants(address)) subscription._begin(address, start, true);
        }
      } else this._logs.set(address, { seq: before.seq, epoch: row.epoch });
    }
  }

  /** From the registration to the end of one connection. */
  async #serve(link) {
    this._link = link;
    this.connections += 1;
    this._backoff.reset();
    link.deliver((frame) => this.#receive(frame));
    const beat = setInterval(() => this.#watch(link), Math.max(1_000, this._options.heartbeat / 4));
    beat.unref?.();
    // First what was not answered, in its order; new requests wait until that is on its way.
    this.#sendAgain(link);
    await link.ended;
    clearInterval(beat);
    this._link = null;
    this._up = false;
    for (const pending of [...this._pending.values()]) {
      if (pending.sent && !pending.repeat) {
        pending.reject(new ConnectionLost("The connection was lost before the answer came."));
      }
    }
  }

  /** A browser does not show the server's pings: when it is silent for long, ask; when it stays silent, the line is dead. */
  #watch(link) {
    const silent = performance.now() - link.receivedAt;
    if (silent >= 2 * this._options.heartbeat) link.close(1006);
    else if (silent >= this._options.heartbeat) link.send(JSON.stringify({ type: "command", command: "ping" }));
  }

  async #sendAgain(link) {
    for (const pending of [...this._pending.values()].filter((each) => each.repeat)) {
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
    const opened = [...this._all].filter((each) => each.joinable && each._opened).map((each) => each.address);
    for (const address of new Set([...this._kept, ...opened])) {
      if (!this._members.has(address)) this.#rejoin(address);
    }
  }

  /** A channel that the server did not take us back into by itself. */
  async #rejoin(address) {
    try {
      await this.#join(address, this._logs.get(address) ?? null);
    } catch (problem) {
      // Anything else waits for the next connection.
      if (!(problem instanceof ServerError)) return;
      this._kept.delete(address);
      for (const subscription of this._subscriptions.get(address) ?? []) subscription._fail(problem);
    }
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
    if (Number.isInteger(seq)) {
      const at = this._logs.get(address);
      if (!at || seq > at.seq) this._logs.set(address, { seq, epoch: at?.epoch ?? null });
    }
    if (channel === WHOLE) {
      for (const subscription of this._all) if (subscription._wants(address)) subscription._offer(address, frame);
    } else {
      for (const subscription of this._subscriptions.get(address) ?? []) subscription._offer(address, frame);
    }
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
    const listeners = [...(this._subscriptions.get(address) ?? [])];
    if (frame.payload?.event === "unsubscribed") {
      this._kept.delete(address);
      this.#forget(address);
      const why =
        frame.payload.reason === "DELETED"
          ? { code: "CHANNEL_NOT_FOUND", number: 404, message: `${address} was deleted.` }
          : { code: "REVOKED", number: 403, message: `Your access to ${address} was withdrawn.` };
      for (const subscription of listeners) subscription._fail(new ServerError(why));
    } else for (const subscription of listeners) subscription._notice(frame);
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
      await this.whenConnected();
      await this.#turn();
      const link = this._link;
      if (!link || !this._up || pending.sent || pending.done) continue;
      pending.sent = true;
      if (!link.send(pending.text) && pending.repeat) return; // The next connection sends it.
    }
  }

  /** Wait for the turn of one frame: the server's limit, and a line that takes no more. */
  async #turn() {
    await this._pacer.turn();
    while (this._link && this._link.socket.bufferedAmount > HIGH_WATER) await sleep(10);
  }

  #encoded(frame) {
    if (this._failure) throw this._failure;
    const text = JSON.stringify(frame);
    const most = this._pacer.frameBytes;
    if (most && text.length * 3 > most) {
      const size = new TextEncoder().encode(text).length;
      if (size > most) {
        const message = `The frame has ${size} bytes; the server takes ${most}.`;
        throw new ServerError({ code: "FRAME_TOO_LARGE", number: 413, message });
      }
    }
    return text;
  }

  /** Call any command of the contract; its `result`. `repeat`: sent again after a break, as doing it twice does no harm. */
  async command(name, parameters = {}, { repeat = false, timeout = undefined, id = newId() } = {}) {
    const answer = await this.#request({ type: "command", id, command: name, parameters }, { repeat, timeout });
    return answer.result;
  }

  /** Send a frame of your own as it is; nothing waits for its answer. Throws BusClosed and the like. */
  async send(frame) {
    await this.whenConnected();
    await this.#turn();
    if (!this._link?.send(typeof frame === "string" ? frame : this.#encoded(frame))) {
      throw new ConnectionLost("The connection was lost.");
    }
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
    const subscriptions = [...(this._subscriptions.get(address || this.address) ?? [])];
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
        await this.send(frame);
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
  async join(address) {
    const joined = await this.#join(address, null);
    this._kept.add(address);
    return joined;
  }

  /** End a membership; the addresses of those that are left. */
  async leave(address) {
    this._kept.delete(address);
    const result = await this.command("leave_channel", { channel: address });
    this.#forget(address);
    return result.channels;
  }

  /** This client is no member any more: the log comes no longer, nor with its last channel the room's own. */
  #forget(address) {
    this._members.delete(address);
    this._logs.delete(address);
    const [room] = splitAddress(address);
    if (![...this._members].some((other) => other.startsWith(`${room}:`))) this._logs.delete(`${room}:${WHOLE}`);
  }

  /** Join; `activate` is called with the result before any frame that follows the answer is looked at. */
  async #join(address, since, activate = null) {
    const parameters = { channel: address };
    if (since) {
      parameters.since = since.seq;
      if (since.epoch) parameters.epoch = since.epoch;
    }
    const onAnswer = ({ result }) => {
      this._members.add(address);
      if (since) {
        const seq = result.recovered === false ? result.first_seq - 1 : since.seq;
        this._logs.set(address, { seq, epoch: result.epoch });
      } else if (!this._logs.has(address)) this._logs.set(address, { seq: result.seq, epoch: result.epoch });
      // The room's own log comes with the first of its channels.
      for (const [log, at] of Object.entries(result.positions)) if (!this._logs.has(log)) this._logs.set(log, at);
      activate?.(result);
    };
    const frame = { type: "command", id: newId(), command: "join_channel", parameters };
    return (await this.#request(frame, { repeat: true, onAnswer })).result;
  }

  /** Begin a subscription: from the answer on, every frame reaches it. */
  async _attach(subscription) {
    const { address } = subscription;
    await this.whenConnected();
    if (!subscription.joinable) {
      const since = await this.#seqOf(address, subscription.since);
      if (since) {
        subscription._begin(address, since.seq);
        subscription._follow(address);
      }
      this.#add(subscription);
      return;
    }
    const mine = this._joining.then(async () => {
      const since = await this.#seqOf(address, subscription.since);
      await this.#join(address, since, (result) => {
        if (!since) {
          // Another iterator's `since` makes the server send older messages again; they are not for this one.
          subscription._begin(address, result.seq);
        } else {
          const lost = result.recovered === false;
          subscription._begin(address, lost ? result.first_seq - 1 : since.seq, lost && since.seq > 0);
        }
        this.#add(subscription);
      });
    });
    this._joining = mine.catch(() => {});
    await mine;
  }

  #add(subscription) {
    if (!this._subscriptions.has(subscription.address)) this._subscriptions.set(subscription.address, new Set());
    this._subscriptions.get(subscription.address).add(subscription);
    this._all.add(subscription);
  }

  /** A `since` as a position. Throws RangeError for a text that is no time. */
  async #seqOf(address, since) {
    if (since === null || since === undefined || isPosition(since)) return since ?? null;
    if (typeof since === "number") return { seq: since, epoch: null };
    const moment = momentOf(since);
    try {
      const head = joinable(address) ? (await this.channelInfo(address)).seq : (this._logs.get(address)?.seq ?? 0);
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
    const { address } = subscription;
    const others = this._subscriptions.get(address);
    this._all.delete(subscription);
    others?.delete(subscription);
    if (!others?.size) this._subscriptions.delete(address);
    const needed = others?.size || this._kept.has(address) || address === this.address || !this._members.has(address);
    if (!joinable(address) || needed || this._failure || !this._up) return;
    try {
      await this.leave(address);
    } catch (problem) {
      // It was left already, or the connection went; coming back does not join it again.
      if (!(problem instanceof ArqonBusError)) throw problem;
    }
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
  const identity = { client_id: clientId, client_type: clientType, room, channel, screen_name: screenName, avatar, personality };
  for (const key of Object.keys(identity)) if (identity[key] === undefined || identity[key] === null) delete identity[key];
  const { token, ticket, onFrame, openTimeout = 10_000 } = options;
  if (ticket && typeof ticket !== "function") {
    throw new TypeError("A ticket is good for one connection: give a function that fetches one, `ticket: () => …`.");
  }
  const bus = new Bus({ url: String(url), token, ticket, onFrame, openTimeout, WebSocket: Implementation }, identity, {
    reconnect: options.reconnect ?? true,
    giveUpAfter: options.giveUpAfter ?? null,
    wait: options.wait === undefined ? 0 : options.wait,
    timeout: options.timeout ?? 30_000,
    buffer: options.buffer ?? 1000,
    maxUnacked: options.maxUnacked ?? 1000,
    heartbeat: options.heartbeat ?? 25_000,
    backoff: options.backoff ?? new Backoff(),
    onState: options.onState,
  });
  return bus._open();
}
