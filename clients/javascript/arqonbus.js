/**
 * Client of ArqonBus for browsers and node. It is one ES module without dependencies.
 *
 *     import { connect } from "./arqonbus.js";
 *
 *     const bus = await connect("ws://localhost:8765/", { clientId: "me" });
 *     await bus.publish("science:explore", "hello");
 *     for await (const message of bus.subscribe("science:explore")) console.log(message.sender, message.text);
 *
 * The client reconnects by itself and resumes by position: an iterator sees every message once and in order, also
 * across a restart of the server. All times are in milliseconds. Types: arqonbus.d.ts.
 *
 * This file is built from the modules in clients/javascript/src (`make client`). Change those.
 */

// --- addresses.js ---

const INBOX_ROOM = "pm";
const ALL = "*";

function splitAddress(address) {
  const [room, channel] = [...String(address ?? "").split(/:(.*)/s), ""];
  if (!room || channel.includes(":")) {
    const text = `${JSON.stringify(address)} is not an address.`;
    throw new TypeError(`${text} An address looks like room:channel, for example science:explore.`);
  }
  return [room, channel || ALL];
}

function isJoinable(address) {
  const [room, channel] = splitAddress(address);
  return room !== INBOX_ROOM && room !== ALL && channel !== ALL;
}

// --- errors.js ---

class ArqonBusError extends Error {
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

class ConnectionFailed extends ArqonBusError {}

class ConnectionLost extends ArqonBusError {}

class TimedOut extends ArqonBusError {}

class IdentityInUse extends ArqonBusError {}

class StreamReset extends ArqonBusError {}

class BusClosed extends ArqonBusError {}

class ServerError extends ArqonBusError {
  constructor(error = {}) {
    const code = String(error.code ?? "");
    const text = String(error.message ?? "");
    const details = Array.isArray(error.details) ? error.details : [];
    const faults = details
      .filter((fault) => fault?.message && !text.includes(fault.message))
      .map((fault) => `${fault.field ?? ""}: ${fault.message}`);
    super([text ? `${code}: ${text}` : code, ...faults].join("\n  "));
    this.code = code;
    this.number = Number(error.number ?? 0);
    this.reason = text;
    this.details = details;
    this.retryAfter = typeof error.retry_after === "number" ? error.retry_after * 1000 : null;
  }

  get retry() {
    return this.number === 429 || this.number >= 500;
  }
}

class ClaimLost extends ServerError {
  constructor(error) {
    super(error);
    const { claim, why, by, seq } = this.details[0] ?? {};
    this.claim = String(claim ?? "");
    this.why = String(why ?? "");
    this.by = typeof by === "string" ? by : null;
    this.seq = Number.isInteger(seq) ? seq : null;
  }
}

const refusal = (error) => (error?.code === "CLAIM_LOST" ? new ClaimLost(error) : new ServerError(error));

class AskFailed extends ArqonBusError {
  constructor(reply) {
    super(`${reply.sender}: ${reply.error}`);
    this.reply = reply;
    this.reason = String(reply.error ?? "");
  }
}

const CLOSE_CODES = Object.freeze({
  4008: { meaning: "too many invalid frames", reconnect: false },
  4012: { meaning: "the server restarts", reconnect: true },
  4013: { meaning: "slow reader, or a server that is overloaded or failed; resume", reconnect: true },
  4401: { meaning: "not authenticated", reconnect: false },
  4403: { meaning: "not allowed, or disconnected by an admin", reconnect: false },
  4409: { meaning: "client_id in use", reconnect: false },
  4410: { meaning: "taken over by a newer connection", reconnect: false },
  4429: { meaning: "too many frames or connections", reconnect: true },
});

const UNIDENTIFIED = 4401;
const ID_IN_USE = 4409;

function comesBack(code) {
  const kind = CLOSE_CODES[code];
  return kind ? kind.reconnect : code !== 1008;
}

class ClosedByServer extends ArqonBusError {
  constructor(closeCode, error = null) {
    super(`${closeCode}, ${CLOSE_CODES[closeCode]?.meaning ?? "closed"}${error ? ` (${error.message})` : ""}`);
    this.closeCode = closeCode;
    this.error = error;
  }
}

class AttemptFailed extends Error {
  constructor(error, { final, retryAfter = null }) {
    super(error.message);
    this.error = error;
    this.final = final;
    this.retryAfter = retryAfter;
  }
}

const BUSY_CODES = ["BUSY", "UNAVAILABLE", "OUTCOME_UNKNOWN"];
const TRANSIENT_CODES = [...BUSY_CODES, "RATE_LIMITED", "RESTARTING"];

const isBusy = (problem) => BUSY_CODES.includes(problem?.code);

const isTransient = (problem) => problem instanceof TimedOut || TRANSIENT_CODES.includes(problem?.code);

const isRefusedForGood = (problem) =>
  problem instanceof ServerError ? [400, 413].includes(problem.number) : !(problem instanceof ArqonBusError);

const errorText = (problem) =>
  [...String(problem instanceof Error ? problem : ((problem)?.message ?? problem))]
    .slice(0, 2_000)
    .join("");

const streamEnded = (told) =>
  new ServerError({ code: "STREAM_ENDED", number: 409, message: "The streamed message has ended.", details: [told] });

// --- growth.js ---

const MOST_EARLY = 4096;
const STREAM_END = "stream_end";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const isOpening = (frame) => isObject(frame.stream) && frame.type !== STREAM_END;

const isStreamEnd = (frame) => frame.type === STREAM_END && typeof frame.of === "string";

const isAppend = (frame) => frame.type === "append" && typeof frame.of === "string" && frame.seq === undefined;

class Growth {
  #watchers = new Set();
  #early = new Map();

  constructor(of, { address = "", mode = "text", seq = null, sender = "" } = {}) {
    this.of = of;
    this.address = address;
    this.mode = mode === "parts" ? "parts" : "text";
    this.seq = Number.isInteger(seq) ? (seq) : null;
    this.sender = String(sender ?? "");
    this.state = "open";
    this.have = 0;
    this.attempt = 1;
    this.text = "";
    this.parts = [];
    this.pieces = [];
    this.resets = 0;
    this.frames = 0;
    this.left = false;
    this.endSeq = null;
    this.endPayload = null;
    this.untaken = [];
  }

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

  get over() {
    return this.left || this.state !== "open";
  }

  get behind() {
    return !this.over && this.#early.size > 0;
  }

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

  #add(piece) {
    if (!piece) return;
    this.text += piece;
    this.pieces.push(piece);
  }

  #snapshot({ upto, attempt = this.attempt, mode, text, parts, of_seq: seq, from }) {
    if (mode === "parts" || mode === "text") this.mode = mode;
    this.seq ??= Number.isInteger(seq) ? seq : null;
    this.sender = this.sender || String(from ?? "");
    if (attempt < this.attempt || (attempt === this.attempt && upto < this.have)) return;
    if (attempt > this.attempt) this.#early.clear();
    this.attempt = attempt;
    this.#replace(upto, text ?? "", parts ?? []);
    this.#changed();
  }

  end({ stream, message, parts, payload, untaken, seq }) {
    if (this.state !== "open") return;
    this.#early.clear();
    this.#replace(stream?.parts ?? this.have, message ?? "", parts ?? []);
    this.finish(stream?.state ?? "complete", seq ?? null, payload ?? {}, untaken);
  }

  finish(state, seq, payload, untaken = []) {
    if (this.state !== "open") return;
    this.state = state;
    this.endSeq = seq;
    this.endPayload = payload;
    this.untaken = untaken;
    this.#changed();
  }

  fold({ stream, message, parts, end_payload: payload, untaken }) {
    if (typeof stream.state !== "string" || this.over) return;
    this.frames += 1;
    if (stream.parts >= this.have || stream.state !== "open") {
      this.#replace(stream.parts, message ?? "", parts ?? []);
    }
    if (stream.state === "open") this.#changed();
    else this.finish(stream.state, stream.end_seq ?? null, payload ?? {}, untaken);
  }

  leave() {
    if (this.over) return;
    this.left = true;
    this.#changed();
  }

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

  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  #change() {
    return new Promise((resolve) => {
      const stop = this.watch(() => {
        stop();
        resolve(undefined);
      });
    });
  }

  async ended() {
    while (!this.over) await this.#change();
    return this.state;
  }

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

function isPrefix(before, after) {
  const last = before.length - 1;
  if (after.length <= last) return false;
  return last < 0 || JSON.stringify(before[last]) === JSON.stringify(after[last]);
}

// --- answers.js ---

const PATIENCE = 3_000;

class Answers {
  #open = new Map();
  #mending = new Set();

  constructor(read) {
    this.read = read;
  }

  get(of) {
    return this.#open.get(of) ?? null;
  }

  in(address) {
    return [...this.#open.values()].filter((growth) => growth.address === address);
  }

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
    const growth = (Growth.in(frame));
    if (growth.over) return growth;
    this.#open.set(growth.of, growth);
    if (fromHistory) queueMicrotask(() => this.#mend(growth, 0));
    return growth;
  }

  #end(frame) {
    const growth = this.#open.get(frame.of);
    if (!growth) return Growth.in(frame);
    growth.end(frame);
    this.#settle(growth);
    return growth;
  }

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

  #settle(growth) {
    if (growth.over && this.#open.get(growth.of) === growth) this.#open.delete(growth.of);
  }

  ended(of, { have, state, seq, untaken }, payload) {
    const growth = this.#open.get(of);
    if (!growth) return;
    if (growth.have === have && !growth.behind) {
      growth.finish(state, seq, payload, untaken);
      this.#settle(growth);
    } else this.#mend(growth, 0); // It was adopted, and its beginning did not reach this client.
  }

  reconnected() {
    for (const growth of this.#open.values()) this.#mend(growth, PATIENCE);
  }

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
    (timer).unref?.();
  }

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

  leave(address) {
    for (const growth of [...this.#open.values()]) {
      if (address !== undefined && growth.address !== address) continue;
      growth.leave();
      this.#settle(growth);
    }
  }
}

// --- timing.js ---

const sleep = (time) => new Promise((resolve) => setTimeout(resolve, Math.max(0, time)));

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

// --- application.js ---

function report(problem) {
  if (typeof globalThis.reportError === "function") globalThis.reportError(problem);
  else console.error(problem);
}

function callListener(listener, ...values) {
  try {
    const result = (listener?.(...values));
    if (typeof result?.then === "function") return result.then(null, report);
  } catch (problem) {
    report(problem);
  }
  return undefined;
}

async function askApplication(name, time, work) {
  try {
    return await within(time, work);
  } catch (problem) {
    const cause = (problem)?.message ?? problem;
    throw new AttemptFailed(new ConnectionFailed(`${name} failed: ${cause}`), { final: false });
  }
}

class Listeners {
  constructor() {
    this.byEvent = new Map();
  }

  add(event, listener) {
    const listeners = this.byEvent.get(event) ?? new Set();
    this.byEvent.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  emit(event, ...values) {
    for (const listener of this.byEvent.get(event) ?? []) callListener(listener, ...values);
  }
}

// --- heartbeat.js ---

const SOON = 5_000;
const LATE = 2_000;

class Heartbeat {
  #timer;
  #due = 0;
  #ping = null;
  #spared = false;

  constructor(link, interval) {
    this.link = link;
    this.interval = interval;
    this.soon = Math.min(SOON, interval);
    this.#schedule(interval);
  }

  stop() {
    clearTimeout(this.#timer);
  }

  check(time = this.soon) {
    const { link } = this;
    const until = performance.now() + time;
    const open = this.#openPing();
    if (link.closeCode !== null || (open && open.until <= until)) return;
    const sent = open ?? { frames: link.frames, waiting: link.socket.bufferedAmount };
    this.#ping = { ...sent, until };
    link.send(JSON.stringify({ type: "command", command: "ping" }));
    this.#schedule(time);
  }

  #openPing() {
    return this.#ping?.frames === this.link.frames ? this.#ping : null;
  }

  #schedule(time) {
    clearTimeout(this.#timer);
    this.#due = performance.now() + time;
    this.#timer = setTimeout(() => this.#inspect(), time);
    (this.#timer).unref?.();
  }

  #inspect() {
    const { link } = this;
    const now = performance.now();
    const late = now - this.#due > LATE;
    const open = this.#openPing();
    if (!open) {
      this.#ping = null;
      this.#spared = false;
      const quiet = now - link.receivedAt;
      if (late || quiet >= this.interval) this.check(late ? this.soon : this.interval);
      else this.#schedule(this.interval - quiet);
    } else if (link.socket.bufferedAmount < open.waiting || (late && !this.#spared)) {
      this.#spared = late;
      this.#ping = null;
      this.check();
    } else link.close(1006);
  }
}

// --- frames.js ---

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `arq_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

const LONE_SURROGATE = /(?:^|[^\\])(?:\\\\)*\\ud[89a-f][0-9a-f]{2}/;

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

function rewriteJson(text) {
  let value = text;
  try {
    value = JSON.parse(text);
  } catch {
  }
  return JSON.stringify(value);
}

const STRING_OR_NUMBER = /"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/gi;

function isInRange(number) {
  if (!/^-?\d+$/.test(number)) return Number.isFinite(Number(number));
  return number.length <= 20 && BigInt(number) >= -(2n ** 63n) && BigInt(number) < 2n ** 64n;
}

function numberOutOfRange(text) {
  if (!/\d{19}|\de\+?\d{3}/i.test(text)) return null;
  for (const [found] of text.matchAll(STRING_OR_NUMBER)) {
    if (found[0] !== '"' && !isInRange(found)) return found.slice(0, 40);
  }
  return null;
}

const invalidJson = (message) => new ServerError({ code: "INVALID_JSON", number: 400, message });

const tooDeep = (depth) =>
  invalidJson(`The frame nests deeper than ${depth ? `${depth} levels` : "any server accepts"}.`);

function frameFault(text, { bytes = 0, depth = 0 } = {}, written = text) {
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

const FRAME_HEAD = /^\{(?:\s*"(?:[^"\\]|\\.)*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|-?\d{1,20}|true|false|null)\s*,)+/;

function replacementFor(text) {
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

// --- link.js ---

const CLOSE_AFTER_REFUSAL = 1_000;

async function credential(dial) {
  for (const [name, prefix] of ([
    ["ticket", "ticket"],
    ["token", "bearer"],
  ])) {
    let value = dial[name];
    if (typeof value === "function") {
      value = await askApplication(`The function for the ${name}`, dial.openTimeout, value);
    }
    if (value) return `${prefix}.${value}`;
  }
  return null;
}

class Link {
  #finish = () => {};

  constructor(socket, dial) {
    this.socket = socket;
    this.dial = dial;
    this.welcome = {};
    this.lastError = null;
    this.registered = false;
    this.closeCode = null;
    this.receivedAt = performance.now();
    this.frames = 0;
    this.handler = null;
    this.queue = [];
    this.wake = null;
    this.ended = new Promise((resolve) => (this.#finish = resolve));
    socket.onmessage = (event) => this.#received(event.data);
    socket.onclose = (event) => this.#closed(event.code || 1006);
    socket.onerror = () => {
      if (socket.readyState === 0) this.#closed(1006);
    };
  }

  static async dial(dial) {
    const shown = await credential(dial);
    const protocols = shown ? ["arqonbus.v1", shown] : ["arqonbus.v1"];
    let socket;
    try {
      socket = new dial.WebSocket(dial.url, protocols);
    } catch (problem) {
      const cause = (problem).message;
      throw new AttemptFailed(new ConnectionFailed(`${dial.url} is not the URL of a bus: ${cause}`), { final: true });
    }
    const link = new Link(socket, dial);
    const frame = await link.#next("send its welcome");
    if (frame.type === "error") throw await link.#refusal();
    if (frame.type !== "system" || frame.payload?.event !== "welcome") {
      link.close();
      const text = `${dial.url} answers as a WebSocket, but it is not an ArqonBus server.`;
      throw new AttemptFailed(new ConnectionFailed(text), { final: true });
    }
    link.welcome = frame.payload;
    return link;
  }

  async register(registration) {
    this.send(JSON.stringify(registration));
    for (;;) {
      const frame = await this.#next("answer the registration");
      if (frame.type === "system" && frame.payload?.event === "registered") {
        this.registered = true;
        this.lastError = null;
        return frame.payload;
      }
      if (frame.type === "error") throw await this.#refusal();
    }
  }

  deliver(handler) {
    this.handler = handler;
    for (const frame of this.queue.splice(0)) handler(frame);
  }

  send(text) {
    if (this.socket.readyState !== 1) return false;
    callListener(this.dial.onFrame, "out", text);
    this.socket.send(text);
    return true;
  }

  close(code = 1000) {
    try {
      this.socket.close(1000);
    } catch {
    }
    this.#closed(code);
  }

  async #next(step) {
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, this.dial.openTimeout, "late")));
    let frame;
    while (!(frame = this.queue.shift())) {
      const arrival = new Promise((resolve) => (this.wake = () => resolve("frame")));
      const first = await Promise.race([arrival, this.ended.then(() => "ended"), late]);
      if (this.queue.length) continue;
      if (first === "late") {
        this.close(1006);
        const text = `${this.dial.url} did not ${step} within ${this.dial.openTimeout / 1000} s`;
        throw new AttemptFailed(new ConnectionFailed(text), { final: false });
      }
      if (first === "ended") {
        clearTimeout(timer);
        throw this.#failure();
      }
    }
    clearTimeout(timer);
    return frame;
  }

  async #refusal() {
    await Promise.race([this.ended, sleep(CLOSE_AFTER_REFUSAL)]);
    if (this.closeCode !== null) return this.#failure();
    const error = (this.lastError);
    this.close();
    return new AttemptFailed(error, { final: !error.retry, retryAfter: error.retryAfter });
  }

  #failure() {
    const error = this.lastError;
    const code = (this.closeCode);
    if (!comesBack(code)) return new AttemptFailed(new ClosedByServer(code, error), { final: true });
    const cause = error ?? new ConnectionFailed(`${this.dial.url} cannot be reached (${code})`);
    return new AttemptFailed(cause, { final: false, retryAfter: error ? error.retryAfter : null });
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
      const cause = (problem).message;
      const consequence = "It is left out, or shown without its content";
      this.dial.onUnreadable?.(new ArqonBusError(`A frame of the server cannot be read. ${consequence}: ${cause}`));
      frame = replacementFor(text);
    }
    if (frame === null || typeof frame !== "object") return;
    callListener(this.dial.onFrame, "in", text, frame);
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
    this.#finish(code);
  }
}

// --- network.js ---

function onNetworkChange(listener) {
  const { document: page } = globalThis;
  const sources = [
    [globalThis, "online", () => true],
    [globalThis, "offline", () => true],
    [globalThis, "pageshow", (event) => event.persisted],
    [page, "visibilitychange", () => page.visibilityState === "visible"],
    [page, "resume", () => true],
  ];
  const removers = sources
    .filter(([target]) => target?.addEventListener)
    .map(([target, name, counts]) => {
      const handle = (event) => {
        if (counts(event)) listener();
      };
      target.addEventListener(name, handle);
      return () => target.removeEventListener(name, handle);
    });
  return () => removers.forEach((remove) => remove());
}

// --- connection.js ---

const OWN_CONNECTION = 30_000;

class Connection {
  #first = null;
  #heartbeat = null;
  #endPause = null;
  #pauseByServer = false;

  constructor(dial, registration, settings, { line, requests, identity }, hooks) {
    this.dial = dial;
    this.registration = registration;
    this.settings = settings;
    this.line = line;
    this.requests = requests;
    this.identity = identity;
    this.hooks = hooks;
    this.state = "connecting";
    this.clientId = String(registration.client_id ?? "");
    this.resumeToken = settings.resumeToken;
    this.registered = {};
    this.connections = 0;
  }

  get address() {
    return `${this.registered.room}:${this.registered.channel}`;
  }

  open() {
    return new Promise((resolve, reject) => {
      this.#first = { resolve, reject };
      this.#run();
    });
  }

  reconnectNow() {
    this.#endPause?.();
  }

  end(error) {
    if (this.line.failure) return;
    this.line.failure = error;
    this.requests.fail(error);
    this.hooks.onEnd(error);
    this.identity?.release();
    this.#change("closed");
    this.line.wakeAll();
    this.#endPause?.();
    this.#first?.reject(error);
    this.#first = null;
  }

  #change(state) {
    if (state === this.state) return;
    this.state = state;
    this.hooks.onState(state);
  }

  async #run() {
    const stopListening = onNetworkChange(() => {
      this.#heartbeat?.check();
      if (!this.#pauseByServer) this.#endPause?.();
    });
    try {
      let lostAt = performance.now();
      while (!this.line.failure) {
        const link = await this.#tryConnect(lostAt);
        if (!link) continue;
        await this.#serve(link);
        lostAt = performance.now();
        if (!this.line.failure) await this.#lost(link);
      }
    } catch (problem) {
      this.end((problem));
    } finally {
      stopListening();
    }
  }

  async #tryConnect(lostAt) {
    let link;
    try {
      link = await this.#connectOnce(lostAt);
    } catch (failure) {
      if (!(failure instanceof AttemptFailed)) throw failure;
      const patience = this.connections ? this.settings.giveUpAfter : this.settings.wait;
      if (failure.final || (patience !== null && performance.now() - lostAt >= patience)) this.end(failure.error);
      else await this.#pause(failure.retryAfter);
      return null;
    }
    if (!this.line.failure) return link;
    link.close();
    return null;
  }

  async #lost(link) {
    const code = (link.closeCode);
    const renewable = code === UNIDENTIFIED && (this.dial.ticket || typeof this.dial.token === "function");
    if (!comesBack(code) && !renewable) this.end(new ClosedByServer(code, link.lastError));
    else if (!this.settings.reconnect) this.end(new ConnectionLost(`The connection was lost (${code}).`));
    else {
      this.#change("reconnecting");
      await this.#pause(CLOSE_CODES[code] && link.lastError ? link.lastError.retryAfter : null);
    }
  }

  async #pause(retryAfter) {
    this.#pauseByServer = retryAfter !== null;
    const earlier = new Promise((resolve) => (this.#endPause = resolve));
    await Promise.race([sleep(this.settings.backoff.pause(retryAfter)), earlier]);
    this.#endPause = null;
  }

  async #connectOnce(lostAt) {
    if (this.identity) await this.#loadIdentity(this.identity);
    const link = await Link.dial(this.dial);
    try {
      this.#checkOpen();
      this.requests.setLimits(link.welcome.limits ?? {});
      const frame = this.#registrationFrame();
      this.#accepted(await link.register(frame), frame.resume?.positions ?? {});
      await this.identity?.keep(this.clientId, this.resumeToken);
    } catch (problem) {
      link.close();
      const error = problem instanceof AttemptFailed ? problem.error : null;
      if (!(error instanceof ClosedByServer && error.closeCode === ID_IN_USE)) throw problem;
      if (this.connections > 0 && performance.now() - lostAt < OWN_CONNECTION) {
        throw new AttemptFailed(error, { final: false });
      }
      if (this.connections > 0 || !this.identity?.renew()) throw problem;
      this.clientId = "";
      this.resumeToken = null;
      return this.#connectOnce(lostAt);
    }
    return link;
  }

  #checkOpen() {
    if (this.line.failure) throw new AttemptFailed(this.line.failure, { final: true });
  }

  async #loadIdentity(identity) {
    await identity.load(this.registration.client_id);
    this.#checkOpen();
    this.clientId = this.clientId || String(identity.clientId);
    this.resumeToken ??= identity.token;
  }

  #registrationFrame() {
    const frame = { type: "register", ...this.registration };
    if (this.clientId) frame.client_id = this.clientId;
    if (this.connections || this.resumeToken) {
      frame.resume = { token: this.resumeToken, positions: this.hooks.positions() };
    }
    return frame;
  }

  #accepted(answer, asked) {
    this.registered = answer;
    this.clientId = String(answer.client_id);
    this.resumeToken = answer.resume_token ?? null;
    this.hooks.onRegistered(answer, asked);
  }

  async #serve(link) {
    this.line.link = link;
    this.connections += 1;
    this.settings.backoff.reset();
    link.deliver(this.hooks.onFrame);
    const heartbeat = (this.#heartbeat = new Heartbeat(link, this.settings.heartbeat));
    this.#resume(link).catch((problem) => {
      report(problem);
      link.close(1006);
    });
    await link.ended;
    heartbeat.stop();
    this.#heartbeat = null;
    this.line.link = null;
    this.line.up = false;
    this.requests.connectionLost();
  }

  async #resume(link) {
    if (!(await this.requests.sendAgain(link)) || this.line.link !== link) return;
    this.line.up = true;
    this.#change("connected");
    this.#first?.resolve();
    this.#first = null;
    this.line.wakeAll();
    this.hooks.onConnected();
  }
}

// --- pacing.js ---

class Backoff {
  constructor({ first = 250, most = 15_000, factor = 2, jitter = Math.random } = {}) {
    this.first = first;
    this.most = most;
    this.factor = factor;
    this.jitter = jitter;
    this.attempts = 0;
  }

  pause(retryAfter = null) {
    const step = Math.min(this.most, this.first * this.factor ** Math.min(this.attempts, 32));
    this.attempts += 1;
    if (retryAfter !== null) return Math.max(0, retryAfter) + 100 * this.jitter();
    return step * (0.5 + 0.5 * this.jitter());
  }

  reset() {
    this.attempts = 0;
  }
}

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

  hold(time) {
    this.heldUntil = Math.max(this.heldUntil, performance.now() + time);
    this.level = 0;
  }

  turn() {
    const mine = (this.last ?? Promise.resolve()).then(() => this.#wait());
    this.last = mine;
    return mine;
  }

  async #wait() {
    for (let held; (held = this.heldUntil - performance.now()) > 0;) await sleep(held);
    if (this.rate <= 0) return;
    const now = performance.now();
    this.level = Math.min(this.rate, this.level + ((now - this.updated) * this.rate) / 1000) - 1;
    this.updated = now;
    if (this.level < 0) await sleep((-this.level * 1000) / this.rate);
  }
}

class Semaphore {
  constructor(count) {
    this.free = count;
    this.waiting = [];
  }

  async acquire() {
    if (this.free > 0) this.free -= 1;
    else await (new Promise((resolve) => this.waiting.push(resolve)));
  }

  release() {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}

class KeyedQueue {
  constructor() {
    this.last = new Map();
  }

  run(key, work) {
    const mine = (this.last.get(key) ?? Promise.resolve()).then(work);
    const done = mine.then(
      () => {},
      () => {},
    );
    this.last.set(key, done);
    done.then(() => {
      if (this.last.get(key) === done) this.last.delete(key);
    });
    return mine;
  }
}

// --- positions.js ---

const MARK = "mark";

const isPosition = (value) =>
  typeof value === "object" && value !== null && "seq" in value && typeof value.seq === "number";

const placeIn = (row, seq = row.seq) => ({ seq, epoch: row.epoch || null });

const isAnotherLog = (before, after) => Boolean(before.epoch && after.epoch && before.epoch !== after.epoch);

const ISO_TIME = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)\s?(Z|[+-]\d\d(?::?\d\d)?)?)?$/i;

function isoTime(text) {
  const [whole, day, clock = "00:00:00", zone = "Z"] = ISO_TIME.exec(String(text).trim()) ?? [];
  if (!whole) return null;
  const [, sign, hours, minutes = "00"] = /^([+-])(\d\d):?(\d\d)?$/.exec(zone) ?? [];
  const time = `${day}T${clock.replace(",", ".")}${sign ? `${sign}${hours}:${minutes}` : "Z"}`;
  return Number.isNaN(Date.parse(time)) ? null : time;
}

function sinceTime(since) {
  const time = since instanceof Date ? (Number.isNaN(since.getTime()) ? null : since.toISOString()) : isoTime(since);
  if (time === null) throw new RangeError(`${JSON.stringify(since)} is not an ISO time.`);
  return time;
}

// --- catch-up.js ---

const MAX_PAGE = 500;
const HEAD_ATTEMPTS = 20;
const HEAD_PAUSE = 50;

async function catchUp(cursor, limit, getPage, accept) {
  for (let attempt = 1; attempt <= HEAD_ATTEMPTS; attempt += 1) {
    const { generation } = cursor;
    let page;
    try {
      page = await getPage(cursor.last ?? 0);
    } catch (problem) {
      if (!(problem instanceof ServerError) || ![403, 404].includes(problem.number)) throw problem;
      page = [];
      attempt = HEAD_ATTEMPTS;
    }
    if (generation !== cursor.generation) return false;
    for (const frame of page) accept(frame);
    if (page.length === limit) return false;
    if ((cursor.last ?? 0) >= cursor.head) {
      cursor.lagging = false;
      return false;
    }
    if (page.length) return false;
    if (attempt < HEAD_ATTEMPTS) await sleep(HEAD_PAUSE);
  }
  cursor.skipTo(cursor.head);
  return true;
}

// --- cursor.js ---

class Cursor {
  constructor() {
    this.last = null;
    this.epoch = null;
    this.head = 0;
    this.lagging = false;
    this.gap = false;
    this.generation = 0;
  }

  startAt({ seq, epoch }) {
    this.last = this.head = seq;
    this.epoch = epoch ?? null;
    this.lagging = false;
    this.generation += 1;
  }

  isAnotherLog(place) {
    return isAnotherLog(this, place);
  }

  lagBefore(seq) {
    this.last ??= seq - 1;
    this.head = seq;
    this.lagging = true;
  }

  lagTo(head) {
    this.last ??= 0;
    this.head = Math.max(this.head, head);
    this.lagging = true;
  }

  skipTo(seq) {
    this.last = seq;
    this.lagging = false;
    this.gap = true;
  }
}

// --- message.js ---

const objectOr = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});

class Message {
  constructor(frame, afterGap = false, growth = Growth.in(frame)) {
    const end = isStreamEnd(frame);
    this._growth = growth;
    this.id = String((end ? frame.of : frame.id) ?? "");
    this.type = end ? "event" : String(frame.type ?? "event");
    this.late = end || frame.late === true;
    this.room = String(frame.room ?? "");
    this.channel = String(frame.channel ?? "");
    this.sender = String(frame.from ?? "");
    this.seq = Number.isInteger(frame.seq) ? frame.seq : null;
    this.payload = end ? {} : objectOr(frame.payload);
    this.content = frame.message ?? null;
    this.metadata = objectOr(frame.metadata);
    this.afterGap = afterGap;
    this.snapshot = undefined;
    this.raw = frame;
    this._mark = null;
    this._bus = null;
    this._folded = undefined;
  }

  async mark() {
    if (!this._mark || this.seq === null) throw new TypeError("Only a message of a log of this bus can be marked.");
    return this._mark(this.address, this.seq);
  }

  get timestamp() {
    const time = isoTime(this.raw.timestamp);
    return time === null ? null : new Date(time);
  }

  get text() {
    if (this._growth) return this._growth.text;
    if (typeof this.content === "string") return this.content;
    return typeof this.payload.message === "string" ? this.payload.message : "";
  }

  get address() {
    return `${this.room}:${this.channel}`;
  }

  get event() {
    return this.type === "system" && typeof this.payload.event === "string" ? this.payload.event : null;
  }

  get unreadable() {
    return this.raw.unreadable === true;
  }

  get private() {
    return this.room === INBOX_ROOM;
  }

  get amends() {
    const amends = this.type === "amend" && typeof this.raw.of === "string" && Number.isInteger(this.raw.of_seq);
    return amends ? String(this.raw.of) : null;
  }

  get edited() {
    return objectOr(this.raw.edited) === this.raw.edited ? this.raw.edited : null;
  }

  get deleted() {
    return objectOr(this.raw.deleted) === this.raw.deleted ? this.raw.deleted : null;
  }

  get reactions() {
    return (objectOr(this.raw.reactions));
  }

  get erased() {
    return this.raw.erased === true;
  }

  get folded() {
    if (this._folded !== undefined) return this._folded;
    return this.amends === null ? this : null;
  }

  async edit(content) {
    return this.#owner.edit(this, content);
  }

  async delete() {
    return this.#owner.delete(this);
  }

  async react(reaction) {
    return this.#owner.react(this, reaction);
  }

  async unreact(reaction) {
    return this.#owner.unreact(this, reaction);
  }

  get #owner() {
    if (!this._bus) throw new TypeError("This message was not received by a bus. Use the methods of the bus.");
    return this._bus;
  }

  get question() {
    return typeof this.raw.reply_to === "string" && objectOr(this.raw.ask) === this.raw.ask;
  }

  get replyTo() {
    return this.question ? String(this.raw.reply_to) : null;
  }

  get correlation() {
    return typeof this.raw.correlation === "string" ? this.raw.correlation : null;
  }

  get error() {
    return this.type === "reply" && typeof this.raw.error === "string" ? this.raw.error : null;
  }

  get state() {
    return this._growth && this._growth.state;
  }

  get mode() {
    return this._growth && this._growth.mode;
  }

  get parts() {
    return this._growth ? this._growth.parts : [];
  }

  get have() {
    return this._growth ? this._growth.have : 0;
  }

  get endPayload() {
    return this._growth && this._growth.endPayload;
  }

  get endSeq() {
    return this._growth && this._growth.endSeq;
  }

  get untaken() {
    return this._growth ? this._growth.untaken : [];
  }

  get steer() {
    return typeof this.raw.steer === "string" ? this.raw.steer : null;
  }

  get ended() {
    return this._growth ? this._growth.ended() : Promise.resolve(null);
  }

  async *deltas() {
    if (this._growth) yield* this._growth.deltas();
    else if (this.text) yield this.text;
  }
}

// --- folding.js ---

const DOES = ["edit", "delete", "react", "unreact"];
const MOST_REMEMBERED = 10_000;
const CONTENT = ["message", "metadata", "parts", "end_payload", "eventType", "source"];

const isAmendment = (frame) =>
  frame.type === "amend" && Number.isInteger(frame.of_seq) && DOES.includes(frame.do) && Number.isInteger(frame.seq);

const PLACE = ["version", "id", "type", "room", "channel", "from", "timestamp", "seq", "of", "of_seq", "do"];

const erasedOf = (frame) => ({
  ...Object.fromEntries(Object.entries(frame).filter(([key]) => PLACE.includes(key))),
  payload: {},
  erased: true,
});

const markOf = ({ seq, timestamp = "", from = "" }) => ({ seq, at: timestamp, by: from });

function isEqual(one, other) {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  const keys = Object.keys(one);
  if (Array.isArray(one) !== Array.isArray(other) || keys.length !== Object.keys(other).length) return false;
  return keys.every((key) => Object.hasOwn(other, key) && isEqual(one[key], other[key]));
}

function twinOf(frame) {
  const payload = frame.payload ?? {};
  const key = Object.hasOwn(payload, "message") ? "message" : "content";
  const both = Object.hasOwn(payload, key) && Object.hasOwn(frame, "message");
  return both && isEqual(payload[key], frame.message) ? key : null;
}

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

function fold(frame, amendments) {
  if (frame.erased === true) return frame;
  let edit = null;
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

class Fold {
  #kept = new Map();

  constructor({ keep = MOST_REMEMBERED } = {}) {
    if (!(keep >= 1)) throw new RangeError("`keep` must be 1 or more.");
    this.keep = keep;
  }

  get messages() {
    return [...this.#kept.values()].map((each) => each.now);
  }

  take(message) {
    if (message.seq === null) return message;
    if (isAmendment(message.raw)) return this.#amend(`${message.address} ${message.raw.of_seq}`, message.raw);
    const key = `${message.address} ${message.seq}`;
    const known = this.#kept.get(key);
    if (known && message.erased) Object.assign(known, { first: message, now: message, amendments: new Map() });
    if (!known) {
      this.#kept.set(key, { first: message, now: message, amendments: new Map() });
      if (this.#kept.size > this.keep) this.#kept.delete((this.#kept.keys().next().value));
    }
    return this.#kept.get(key)?.now ?? message;
  }

  #amend(key, amendment) {
    const kept = this.#kept.get(key);
    if (!kept) return null;
    if (!kept.amendments.has(amendment.seq)) {
      kept.amendments.set(amendment.seq, amendment);
      this.#stand(kept);
    }
    return kept.now;
  }

  erase(notice) {
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

  #stand(kept) {
    const { first } = kept;
    const frame = first.state !== null && first.text ? { ...first.raw, message: first.text } : first.raw;
    kept.now = new Message(fold(frame, kept.amendments.values()), first.afterGap, null);
    kept.now._mark = first._mark;
    kept.now._bus = first._bus;
  }
}

const isErasure = (notice) => notice.payload?.event === "erased";

const erasures = (known, notice) =>
  known.erase(notice).map((changed) => Object.assign(new Message({ ...notice, erased: true }), { _folded: changed }));

// --- handout.js ---

class Handout {
  #queue = [];
  #growing = new Set();

  constructor(address) {
    this.address = address;
    this.taken = null;
  }

  get length() {
    return this.#queue.length;
  }

  next() {
    const next = this.#queue.shift();
    if (!next) return null;
    this.#pass(next);
    while (this.#queue.length && !this.#queue[0].message) this.#pass((this.#queue.shift()));
    return next.message;
  }

  put(message, epoch) {
    const { seq } = message.raw;
    const own = message.address === this.address && Number.isInteger(seq);
    this.#queue.push({ message, seq: own ? seq : null, epoch });
  }

  dropOwn() {
    for (const { message, seq } of this.#queue) if (message && seq !== null) this.#growing.delete(message.id);
    this.#queue = this.#queue.filter(({ seq }) => seq === null);
  }

  nameLog(epoch) {
    for (const each of [...this.#queue, this.taken]) if (each && each.epoch === null) each.epoch = epoch;
  }

  #pass({ seq, epoch }) {
    if (seq !== null) this.taken = { seq, epoch };
  }

  hasGrowing(of) {
    return this.#growing.has(of);
  }

  addGrowing(of) {
    this.#growing.add(of);
  }

  putLate(growth) {
    const { of, seq, address, sender, mode } = growth;
    const [room, channel] = splitAddress(address);
    const frame = { id: of, type: "event", room, channel, from: sender, seq, stream: { mode }, late: true };
    this.#growing.add(of);
    this.#queue.push({ message: new Message(frame, false, growth), seq: null, epoch: null });
  }

  passEnd(of, address, place) {
    if (!this.#growing.delete(of)) return false;
    const waiting = { message: null, ...place };
    if (address !== this.address) return true;
    if (this.#queue.length) this.#queue.push(waiting);
    else this.#pass(waiting);
    return true;
  }
}

// --- listening.js ---

async function listen(subscription, listener, onError) {
  for (;;) {
    try {
      for await (const message of subscription) {
        const over = callListener((listener), message, subscription);
        if (subscription.autoMark) await over;
      }
      return;
    } catch (problem) {
      if (!subscription._error && isTransient(problem)) await subscription._pause(problem);
      else {
        onError(problem);
        return;
      }
    }
  }
}

// --- subscription.js ---

class Subscription {
  constructor(
    host,
    address,
    {
      since = null,
      last = null,
      echo = false,
      broadcasts = true,
      presence = false,
      parts = true,
      autoMark = false,
      fold = false,
      buffer,
    },
  ) {
    if (!(buffer >= 1)) throw new RangeError("`buffer` must be 1 or more.");
    if (last !== null && since !== null) throw new TypeError("Give either `since` or `last`.");
    const [room, channel] = splitAddress(address);
    this.room = room;
    this.channel = channel;
    this.address = `${this.room}:${this.channel}`;
    this.since = since;
    this.last = last;
    this.echo = echo || fold;
    this._fold = fold ? new Fold() : null;
    this.broadcasts = broadcasts;
    this.presence = presence;
    this.parts = parts;
    this.autoMark = autoMark;
    this.buffer = buffer;
    this.dropped = 0;
    this.gaps = 0;
    this._host = host;
    this._marker = null;
    this._marked = undefined;
    this._handout = new Handout(this.address);
    this._cursors = new Map();
    this._error = null;
    this._opened = false;
    this._opening = null;
    this._closed = false;
    this._end = () => {};
    this._over = new Promise((resolve) => (this._end = resolve));
    this._wake = null;
    this._reading = Promise.resolve();
  }

  get joinable() {
    return isJoinable(this.address);
  }

  get closed() {
    return this._closed;
  }

  get waiting() {
    return this._handout.length;
  }

  get position() {
    const { taken } = this._handout;
    return taken && { seq: taken.seq, epoch: taken.epoch ?? "" };
  }

  async open() {
    if (!this._opened && !this._closed) {
      this._opening ??= this._host
        .attach(this)
        .then(() => (this._opened = true))
        .finally(() => (this._opening = null));
      await Promise.race([this._opening, this._over]);
    }
    return this;
  }

  async close() {
    if (this._closed) return;
    this._finish();
    if (this._marked) await this._marked;
    await this._host.detach(this);
  }

  _finish() {
    this._closed = true;
    const marker = this._marker;
    if (marker) this._marked = marker.marks.settled(this.address).then(() => marker.close());
    this._end();
    this._wake?.();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  next() {
    const mine = this._reading.then(() => this.#read());
    this._reading = mine.catch(() => {});
    return mine;
  }

  async return(value) {
    await this.close();
    return { done: true, value };
  }

  async #read() {
    this.#markRead();
    for (;;) {
      try {
        if (!this._opened && !this._closed) await this.open();
      } catch (problem) {
        if (!(problem instanceof BusClosed && this._host.closed)) throw problem;
        this._finish();
      }
      const message = this._handout.next();
      if (message) return { done: false, value: message };
      if (this._closed) return { done: true, value: undefined };
      if (this._error) throw this._error;
      const behind = [...this._cursors].find(([, cursor]) => cursor.lagging);
      if (behind) await this.#tryCatchUp(...behind);
      else {
        await new Promise((resolve) => (this._wake = resolve));
        this._wake = null;
      }
    }
  }

  #markRead() {
    if (!this.autoMark || !this._opened || this._closed) return;
    this._marker ??= this._host.marks.reader(this.address);
    const { last, lagging, epoch } = this.#cursor(this.address);
    const all = !this._handout.length && !lagging && last !== null;
    const place = all ? { seq: last, epoch } : this._handout.taken;
    if (place && place.seq > 0) this._marker.reached(place);
  }

  async #tryCatchUp(address, cursor) {
    try {
      const limit = Math.min(MAX_PAGE, this.buffer);
      const page = (after) => this._host.historyFrames(address, after, limit);
      if (await catchUp(cursor, limit, page, (frame) => this.#accept(address, frame, cursor, true))) this.gaps += 1;
    } catch (problem) {
      if (this._closed || this._error) return;
      if (isTransient(problem)) await this._pause(problem);
      else {
        this._fail(problem);
        this._host.detach(this).catch(report);
      }
    }
  }

  async _pause(problem) {
    await Promise.race([sleep(problem.retryAfter ?? 1_000), this._over]);
  }

  #cursor(address) {
    const cursor = this._cursors.get(address) ?? new Cursor();
    this._cursors.set(address, cursor);
    return cursor;
  }

  _startAt(address, place, gap = false) {
    const cursor = this.#cursor(address);
    cursor.startAt(place);
    if (gap) this.#lose(cursor);
    for (const growth of this._host.answers.in(address)) this._grows(growth);
  }

  _continueAt(address, place, { lost, silent }) {
    const cursor = this.#cursor(address);
    if (cursor.last === null) this._startAt(address, place);
    else if (lost || cursor.isAnotherLog(place)) this._startAt(address, place, true);
    else if (silent && place.seq > cursor.last && !cursor.lagging) this._startAt(address, place, true);
    else if (cursor.epoch === null && place.epoch) {
      cursor.epoch = place.epoch;
      if (address === this.address) this._handout.nameLog(place.epoch);
    }
  }

  _catchUpTo(address, head) {
    this.#cursor(address).lagTo(head);
    this._wake?.();
  }

  _receives(address) {
    if (address === this.address) return true;
    const [room, channel] = splitAddress(address);
    return this.broadcasts && channel === ALL && [this.room, ALL].includes(room) && this.room !== INBOX_ROOM;
  }

  _deliver(address, frame) {
    const own = frame.from === this._host.clientId && !this.echo;
    const full = this._handout.length >= this.buffer;
    if (!Number.isInteger(frame.seq)) {
      if (own) return;
      if (full) this.dropped += 1;
      else this.#put(new Message(frame), null);
      return;
    }
    const cursor = this.#cursor(address);
    if (cursor.last !== null && frame.seq <= cursor.last) return;
    if (cursor.lagging) cursor.head = Math.max(cursor.head, frame.seq);
    else if (!full || own) this.#accept(address, frame, cursor, false);
    else if (address.endsWith(`:${ALL}`)) {
      cursor.last = frame.seq;
      this.#lose(cursor);
    } else cursor.lagBefore(frame.seq);
  }

  #accept(address, frame, cursor, fromHistory) {
    if (cursor.last !== null) {
      if (frame.seq <= cursor.last) return;
      if (fromHistory && frame.seq > cursor.last + 1 && cursor.last > 0) this.#lose(cursor);
    }
    cursor.last = frame.seq;
    const growth = this._host.answers.take(frame, fromHistory);
    const ends = isStreamEnd(frame);
    if (ends && this._handout.passEnd(frame.of, address, { seq: frame.seq, epoch: cursor.epoch })) return;
    if (growth && !ends && this._handout.hasGrowing(growth.of)) return;
    if (frame.from === this._host.clientId && !this.echo) return;
    if (address.startsWith(`${INBOX_ROOM}:`) && this._host.takesReply(frame)) return;
    if (growth && !ends) this._handout.addGrowing(growth.of);
    this.#put(new Message(frame, cursor.gap, growth), cursor.epoch);
    cursor.gap = false;
  }

  _grows(growth) {
    if (!this.parts || growth.over || this._handout.hasGrowing(growth.of)) return;
    if (growth.sender === this._host.clientId && !this.echo) return;
    const { last } = this.#cursor(growth.address);
    if (growth.seq !== null && (last === null || growth.seq > last)) return;
    this._handout.putLate(growth);
    this._wake?.();
  }

  _deliverNotice(frame) {
    if (this._fold && isErasure(frame)) for (const each of erasures(this._fold, frame)) this.#put(each, null);
    else if (this.presence && this._handout.length < this.buffer) this.#put(new Message(frame), null);
  }

  #lose(cursor) {
    cursor.gap = true;
    this.gaps += 1;
  }

  #put(message, epoch) {
    message._mark = this._host.mark;
    message._bus = this._host.bus;
    if (this._fold) message._folded ??= this._fold.take(message);
    this._handout.put(message, epoch);
    this._wake?.();
  }

  _fail(error) {
    this._error = error;
    this._wake?.();
  }

  _listen(listener) {
    return listen(this, listener, (problem) => this._host.onError(problem, this));
  }
}

// --- following.js ---

const UNBORN = Object.freeze({ seq: 0, epoch: "" });

class RoomSubscription extends Subscription {
  constructor(host, room, { since, ...options }) {
    if (!room || String(room).includes(":") || room === ALL || room === INBOX_ROOM) {
      throw new TypeError(`${JSON.stringify(room)} is not the name of a room.`);
    }
    super(host, `${room}:${ALL}`, options);
    this.truncated = false;
    this._places = new Map(Object.entries(since ?? {}));
    this._from = new Map(this._places);
  }

  get positions() {
    return Object.fromEntries(this._places);
  }

  get channels() {
    return [...this._cursors.keys()].map(nameOf);
  }

  async next() {
    const result = await super.next();
    const message = result.value;
    if (message && message.seq !== null && message.room === this.room) {
      const epoch = this._cursors.get(message.address)?.epoch ?? "";
      this._places.set(message.channel, { seq: message.seq, epoch });
    }
    return result;
  }

  _receives(address) {
    return false; // It receives its room as a follower.
  }

  _deliver(address, frame) {
    if (this._cursors.has(address) || !Number.isInteger(frame.seq)) super._deliver(address, frame);
  }

  _grows(growth) {
    if (this._cursors.has(growth.address)) super._grows(growth);
  }

  _continueAt(address, place, { lost }) {
    const cursor = this._cursors.get(address);
    if (cursor && (lost || cursor.isAnotherLog(place))) this._startAt(address, place, true);
  }

  _asked() {
    const asked = new Map([...this._from].filter(([name]) => !this._cursors.has(`${this.room}:${name}`)));
    for (const [address, { last, head, epoch }] of this._cursors) {
      if (last !== null) asked.set(nameOf(address), { seq: Math.max(last, head), epoch });
    }
    return asked;
  }

  _startAt(address, place, gap = false) {
    super._startAt(address, place, gap);
    const before = this._places.get(nameOf(address));
    const another = Boolean(before) && typeof before?.epoch === "string" && before.epoch !== place.epoch;
    if (!before || (another && !gap)) this._places.set(nameOf(address), { seq: place.seq, epoch: place.epoch ?? "" });
  }

  _answered({ channels, truncated }, asked) {
    this.truncated = truncated;
    for (const [name, row] of Object.entries(channels)) {
      const address = `${this.room}:${name}`;
      const place = asked.get(name) ?? (row.new ? { seq: 0 } : undefined);
      const cursor = this._cursors.get(address);
      const unread = () => (row.recovered ?? null) === null && row.seq > (cursor?.last ?? place?.seq ?? 0);
      if (row.recovered === false) {
        const lost = Boolean(place && place.seq > 0) || (row.new === true && Number(row.first_seq) > 1);
        this._startAt(address, placeIn(row, Number(row.first_seq) - 1), lost);
      } else if (!place) this._startAt(address, placeIn(row));
      else if (cursor?.isAnotherLog(placeIn(row))) this._startAt(address, placeIn(row), true);
      else {
        if (!cursor) this._startAt(address, placeIn(row, place.seq));
        if (unread()) {
          if (name === ALL) this._startAt(address, placeIn(row), true);
          else this._catchUpTo(address, row.seq);
        }
      }
    }
    for (const address of [...this._cursors.keys()]) if (!(nameOf(address) in channels)) this._ends(address);
    if (!(ALL in channels)) {
      for (const places of [this._from, this._places]) if (!places.has(ALL)) places.set(ALL, UNBORN);
    }
  }

  _ends(address, deleted = false) {
    const cursor = this._cursors.get(address);
    this._cursors.delete(address);
    if (deleted) for (const places of [this._from, this._places]) places.delete(nameOf(address));
    else if (cursor && cursor.last !== null) {
      this._from.set(nameOf(address), { seq: Math.max(cursor.last, cursor.head), epoch: cursor.epoch ?? "" });
    }
  }

  _begins(notice) {
    const address = `${this.room}:${notice.channel}`;
    if (this._cursors.has(address)) return;
    const before = this._places.get(notice.channel);
    const gap = before !== undefined && (before.epoch ?? "") === notice.epoch && before.seq < notice.seq;
    this._startAt(address, placeIn(notice), notice.recovered === false || gap);
  }
}

const nameOf = (address) => address.slice(address.indexOf(":") + 1);

class Followings {
  #queue = new KeyedQueue();

  constructor({ line, requests, logs }) {
    this.line = line;
    this.requests = requests;
    this.logs = logs;
  }

  async attach(subscription) {
    await this.line.whenUp();
    try {
      await this.#queue.run(subscription.room, () => this.#follow((subscription)));
    } catch (problem) {
      await this.detach(subscription);
      throw problem;
    }
  }

  async #follow(subscription) {
    if (subscription.closed) return;
    const { room } = subscription;
    const asked = subscription._asked();
    const onAnswer = ({ result }) => {
      if (subscription.closed) return;
      this.logs.addFollower(subscription);
      subscription._answered(result, asked);
    };
    const parameters = { room, positions: Object.fromEntries(asked) };
    await this.requests.request(
      { type: "command", id: newId(), command: "follow", parameters },
      { repeat: false, onAnswer },
    );
  }

  reconnected() {
    for (const [room, subscriptions] of this.logs.byRoom) {
      for (const each of subscriptions) this.#queue.run(room, () => this.#again(each)).catch(report);
    }
  }

  async #again(subscription) {
    try {
      await this.#follow((subscription));
    } catch (problem) {
      if (!(problem instanceof ServerError || problem instanceof TimedOut)) return;
      this.logs.removeFollower(subscription);
      subscription._fail(problem);
    }
  }

  notice(address, payload) {
    if (!["followed", "unfollowed", "follow_truncated"].includes(payload?.event)) return false;
    for (const each of this.logs.followersOf(address)) {
      const subscription = (each);
      if (payload.event === "followed") subscription._begins((payload));
      else if (payload.event === "unfollowed") subscription._ends(address, payload.reason === "DELETED");
      else subscription.truncated = true;
    }
    return true;
  }

  async detach(subscription) {
    const { room } = subscription;
    this.logs.removeFollower(subscription);
    await this.#queue.run(room, async () => {
      if (this.logs.byRoom.has(room) || !this.line.connected) return;
      try {
        await this.requests.command("unfollow", { room });
      } catch (problem) {
        if (!(problem instanceof ArqonBusError)) throw problem;
      }
    });
  }
}

// --- line.js ---

class Line {
  constructor() {
    this.link = null;
    this.up = false;
    this.failure = null;
    this.waiters = new Set();
  }

  get connected() {
    return this.up && !this.failure;
  }

  async whenUp() {
    while (!this.up && !this.failure) await this.change();
    if (this.failure) throw this.failure;
  }

  change(waiting = {}) {
    return new Promise((resolve) => {
      this.waiters.add(resolve);
      waiting.forget = () => {
        this.waiters.delete(resolve);
        resolve();
      };
    });
  }

  wakeAll() {
    for (const wake of this.waiters) wake();
    this.waiters.clear();
  }
}

// --- logs.js ---

const resumedPlace = (row, asked) => placeIn(row, row.recovered === false ? Number(row.first_seq) - 1 : asked);

class Logs {
  constructor(onDropped = () => {}) {
    this.onDropped = onDropped;
    this.places = new Map();
    this.live = new Set();
    this.first = new Map();
    this.byAddress = new Map();
    this.all = new Set();
    this.byRoom = new Map();
  }

  add(subscription) {
    const { address } = subscription;
    const others = this.byAddress.get(address) ?? new Set();
    this.byAddress.set(address, others.add(subscription));
    this.all.add(subscription);
    for (const log of [`${subscription.room}:${ALL}`, `${ALL}:${ALL}`]) {
      const place = this.places.get(log);
      if (log !== address && place && this.live.has(log) && subscription._receives(log)) {
        subscription._startAt(log, place);
      }
    }
  }

  remove(subscription) {
    this.all.delete(subscription);
    const others = this.byAddress.get(subscription.address);
    others?.delete(subscription);
    if (others && !others.size) this.byAddress.delete(subscription.address);
  }

  subscriptionsOf(address) {
    return [...(this.byAddress.get(address) ?? [])];
  }

  receivers(address) {
    const followers = this.followersOf(address);
    if (address.endsWith(`:${ALL}`)) return [...[...this.all].filter((each) => each._receives(address)), ...followers];
    const readers = this.byAddress.get(address) ?? [];
    return followers.length ? [...readers, ...followers] : readers;
  }

  followersOf(address) {
    return this.byRoom.size ? [...(this.byRoom.get(splitAddress(address)[0]) ?? [])] : [];
  }

  addFollower(subscription) {
    const { room } = subscription;
    this.byRoom.set(room, (this.byRoom.get(room) ?? new Set()).add(subscription));
    this.all.add(subscription);
  }

  removeFollower(subscription) {
    this.all.delete(subscription);
    const others = this.byRoom.get(subscription.room);
    others?.delete(subscription);
    if (others && !others.size) this.byRoom.delete(subscription.room);
  }

  continueAt(address, place, lost = false) {
    const silent = !this.live.has(address);
    this.places.set(address, place);
    this.live.add(address);
    for (const subscription of this.receivers(address)) subscription._continueAt(address, place, { lost, silent });
  }

  learn(address, place) {
    const before = this.places.get(address);
    if (!before || !this.live.has(address) || isAnotherLog(before, place)) this.continueAt(address, place);
  }

  joined(address, answer, since, own) {
    if (since === null) this.learn(address, placeIn(answer));
    else this.continueAt(address, resumedPlace(answer, since.seq), answer.recovered === false && own);
    for (const [log, row] of Object.entries(answer.positions ?? {})) {
      if (log !== address) this.learn(log, placeIn(row));
    }
  }

  registered(channels, asked, wanted) {
    this.live.clear();
    for (const [address, row] of Object.entries(channels)) {
      const before = asked[address];
      const lost = row.recovered === false;
      if (lost) this.first.set(address, Number(row.first_seq));
      if (before === undefined) this.continueAt(address, placeIn(row));
      else this.continueAt(address, resumedPlace(row, before.seq), lost);
    }
    for (const address of [...this.places.keys()]) {
      if (!this.live.has(address) && !this.#returns(address, wanted)) this.#drop(address);
    }
  }

  positions(wanted) {
    const positions = {};
    for (const [address, { seq, epoch }] of this.places) {
      if (this.#returns(address, wanted)) positions[address] = { epoch: epoch ?? "", seq };
    }
    return positions;
  }

  #returns(address, wanted) {
    const [room] = splitAddress(address);
    if (isJoinable(address)) return wanted.has(address);
    if (room === INBOX_ROOM || room === ALL || [...this.receivers(address)].length > 0) return true;
    return [...wanted].some((each) => each.startsWith(`${room}:`));
  }

  advance(address, seq) {
    const place = this.places.get(address);
    if (place && seq <= place.seq) return;
    this.places.set(address, { seq, epoch: place?.epoch ?? null });
    this.live.add(address);
  }

  startOf(address, since) {
    const place = this.places.get(address);
    if (!place) return { place: { seq: since.seq, epoch: since.epoch ?? null }, lost: false };
    const first = this.first.get(address) ?? 1;
    const chosen = since.seq <= 0 || since.epoch === null || since.epoch === undefined;
    const another = !chosen && since.epoch !== place.epoch;
    const beyond = address.startsWith(`${INBOX_ROOM}:`) && since.seq > place.seq;
    const lost = another || beyond || since.seq < first - 1;
    return { place: { seq: lost ? first - 1 : since.seq, epoch: place.epoch }, lost };
  }

  forget(address, members) {
    this.#drop(address);
    const [room] = splitAddress(address);
    if (![...members].some((other) => other.startsWith(`${room}:`))) this.#drop(`${room}:${ALL}`);
  }

  #drop(address) {
    this.places.delete(address);
    this.live.delete(address);
    this.first.delete(address);
    this.onDropped(address);
  }
}

// --- memberships.js ---

class Memberships {
  #queue = new KeyedQueue();

  constructor({ line, connection, requests, commands, logs, marks }, onError) {
    this.line = line;
    this.connection = connection;
    this.requests = requests;
    this.commands = commands;
    this.logs = logs;
    this.marks = marks;
    this.onError = onError;
    this.kept = new Map();
    this.quiet = new Set();
    this.members = new Set();
    this.opening = new Map();
  }

  wanted() {
    const addresses = [...this.kept.keys(), ...this.logs.byAddress.keys(), ...this.opening.keys()];
    return new Set(addresses.filter((address) => isJoinable(address) && this.#isNeeded(address)));
  }

  #isNeeded(address) {
    return this.#isUsed(address) || [...(this.opening.get(address) ?? [])].some((each) => !each.closed);
  }

  #isUsed(address) {
    return this.kept.has(address) || this.logs.byAddress.has(address);
  }

  #wantsParts(address) {
    const readers = [...this.logs.subscriptionsOf(address), ...(this.opening.get(address) ?? [])];
    return this.kept.get(address) === true || readers.some((each) => each.parts && !each.closed);
  }

  join(address, { parts = true } = {}) {
    return this.#queue.run(address, async () => {
      const joined = await this.#join(address, null, { parts: parts || this.#wantsParts(address) });
      this.kept.set(address, parts);
      return joined;
    });
  }

  leave(address) {
    this.kept.delete(address);
    return this.#queue.run(address, async () => {
      const channels = await this.#leave(address);
      for (const subscription of this.logs.subscriptionsOf(address)) {
        subscription._finish();
        this.logs.remove(subscription);
      }
      return channels;
    });
  }

  async #leave(address) {
    const result = await this.requests.command("leave_channel", { channel: address });
    this.#forget(address);
    return result.channels;
  }

  async #join(address, since, { own = false, parts = this.#wantsParts(address), onJoined = null, last = null } = {}) {
    const parameters = last === null ? { channel: address } : { channel: address, last };
    if (!parts) parameters.parts = false;
    if (since === MARK) parameters.since = MARK;
    else if (since) {
      parameters.since = since.seq;
      if (typeof since.epoch === "string") parameters.epoch = since.epoch;
      else if (own && since.seq > 0) parameters.epoch = "";
    }
    const onAnswer = ({ result }) => {
      this.members.add(address);
      if (parts) this.quiet.delete(address);
      else this.quiet.add(address);
      if (since === MARK) this.#marked(address, result);
      this.logs.joined(address, result, since === MARK ? { seq: result.mark } : since, own);
      onJoined?.(result);
    };
    const frame = { type: "command", id: newId(), command: "join_channel", parameters };
    try {
      return (await this.requests.request(frame, { repeat: true, onAnswer })).result;
    } catch (problem) {
      if (problem instanceof TimedOut) this.members.add(address);
      throw problem;
    }
  }

  #marked(address, result) {
    result.mark ??= result.seq;
    this.marks.learn(address, placeIn(result, result.recovered === false ? 0 : result.mark));
  }

  async #leaveUnused(address) {
    if (!isJoinable(address) || this.#isNeeded(address) || !this.members.has(address)) return;
    await this.#queue.run(address, async () => {
      if (this.#isNeeded(address) || !this.members.has(address) || address === this.connection.address) return;
      if (!this.line.connected) return;
      try {
        await this.#leave(address);
      } catch (problem) {
        if (!(problem instanceof ArqonBusError)) throw problem;
      }
    });
  }

  #forget(address) {
    this.members.delete(address);
    this.logs.forget(address, this.members);
  }

  ended(address, error) {
    const kept = this.kept.delete(address);
    this.#forget(address);
    for (const subscription of this.logs.subscriptionsOf(address)) {
      subscription._fail(error);
      this.logs.remove(subscription);
    }
    if (kept) this.onError(error);
  }

  registered(channels, asked) {
    this.members = new Set(Object.keys(channels).filter(isJoinable));
    this.quiet.clear();
    this.logs.registered(channels, asked, this.wanted());
  }

  reconcile() {
    for (const address of new Set([...this.kept.keys(), ...this.logs.byAddress.keys()])) {
      if (!isJoinable(address)) continue;
      if (!this.members.has(address)) this.#queue.run(address, () => this.#rejoin(address)).catch(report);
      else if (!this.#wantsParts(address)) this.#queue.run(address, () => this.#hush(address)).catch(report);
    }
    for (const address of this.members) this.#leaveUnused(address).catch(report);
  }

  async #hush(address) {
    if (this.quiet.has(address) || this.#wantsParts(address) || !this.#isUsed(address)) return;
    try {
      await this.#join(address, null, { parts: false });
    } catch (problem) {
      if (!(problem instanceof ArqonBusError)) throw problem;
    }
  }

  async #rejoin(address) {
    const { connection, line } = this;
    const { connections } = connection;
    const delay = new Backoff();
    const isMissing = () => this.#isUsed(address) && !this.members.has(address);
    while (line.connected && connections === connection.connections && isMissing()) {
      try {
        await this.#join(address, this.logs.places.get(address) ?? null, { own: true });
      } catch (problem) {
        if (isTransient(problem)) {
          this.members.delete(address);
          await sleep(delay.pause((problem).retryAfter ?? null));
        } else if (problem instanceof ServerError) this.ended(address, problem);
        else return; // The next connection tries it again.
      }
    }
  }

  async attach(subscription) {
    const { address } = subscription;
    const opening = this.opening.get(address) ?? new Set();
    this.opening.set(address, opening.add(subscription));
    try {
      await this.line.whenUp();
      if (subscription.joinable) await this.#queue.run(address, () => this.#enter(subscription));
      else await this.#startWithoutJoin(subscription);
    } finally {
      opening.delete(subscription);
      if (!opening.size) this.opening.delete(address);
      this.#leaveUnused(address).catch(report);
    }
  }

  async detach(subscription) {
    this.logs.remove(subscription);
    await this.#leaveUnused(subscription.address);
  }

  async #enter(subscription) {
    if (subscription.closed) return;
    const { address } = subscription;
    const marked = subscription.since === MARK;
    const since = marked ? MARK : await this.#positionOf(address, subscription.since);
    if (subscription.closed) return;
    const onJoined = (result) => {
      if (subscription.closed) return;
      const seq = since === MARK ? Number(result.mark) : since?.seq;
      if (subscription.last !== null) startWith(subscription, result);
      else if (seq === undefined) subscription._startAt(address, placeIn(result));
      else subscription._startAt(address, resumedPlace(result, seq), result.recovered === false && seq > 0);
      this.logs.add(subscription);
    };
    await this.#join(address, since, { onJoined, last: subscription.last });
  }

  async #startWithoutJoin(subscription) {
    const { address } = subscription;
    const marked = subscription.since === MARK;
    const since = marked ? await this.#markOf(address) : await this.#positionOf(address, subscription.since);
    if (subscription.closed) return;
    const current = this.logs.places.get(address);
    if (since) {
      const { place, lost } = this.logs.startOf(address, since);
      subscription._startAt(address, place, lost);
      subscription._catchUpTo(address, current?.seq ?? 0);
    } else if (current) subscription._startAt(address, current);
    this.logs.add(subscription);
  }

  async #markOf(address) {
    const place = this.logs.places.get(address) ?? { seq: 0, epoch: null };
    const mark = this.marks.get(address);
    if (mark && !isAnotherLog(mark, place)) return mark;
    if (mark) return { ...mark, seq: Math.max(1, mark.seq) };
    const parameters = { channel: address, seq: place.seq, begin: true };
    this.marks.learn(address, await this.commands.command("mark", parameters, { repeat: true }));
    return this.#markOf(address);
  }

  async #positionOf(address, since) {
    if (since === null || since === undefined || isPosition(since)) return since ?? null;
    if (typeof since === "number") return { seq: since, epoch: null };
    const after = sinceTime(since);
    try {
      const head = await this.#headOf(address);
      const page = await this.commands.historyPage(address, { after, limit: 1, fold: false });
      const first = page.messages[0]?.seq ?? null;
      return { seq: first === null ? head : Math.min(head, first - 1), epoch: null };
    } catch (problem) {
      if (problem instanceof ServerError && problem.number === 404) return { seq: 0, epoch: null };
      throw problem;
    }
  }

  async #headOf(address) {
    if (isJoinable(address)) return (await this.commands.channelInfo(address)).seq;
    return this.logs.places.get(address)?.seq ?? 0;
  }
}

function startWith(subscription, joined) {
  const { address } = subscription;
  const { seq } = joined;
  const frames = (joined.messages ?? []);
  subscription._startAt(address, placeIn(joined, frames.length ? frames[0].seq - 1 : seq));
  for (const frame of frames) subscription._deliver(address, frame);
  if (frames.length && frames[frames.length - 1].seq < seq) subscription._catchUpTo(address, seq);
}

// --- requests.js ---

const HIGH_WATER = 1024 * 1024;

class Requests {
  #pending = new Map();
  #pacer = new Pacer();
  #limits = {};
  #repeating = false;

  constructor(line, timeout, onError) {
    this.line = line;
    this.timeout = timeout;
    this.onError = onError;
  }

  setLimits(limits) {
    this.#pacer.limit(limits.frames_per_second);
    this.#limits = { bytes: limits.frame_bytes ?? 0, depth: limits.depth ?? 0 };
  }

  async command(name, parameters = {}, { repeat = false, timeout = undefined, id = newId() } = {}) {
    const answer = await this.request({ type: "command", id, command: name, parameters }, { repeat, timeout });
    return answer.result;
  }

  async request(frame, { repeat, timeout = this.timeout, onAnswer = null }) {
    const text = this.encode(frame);
    const delay = new Backoff();
    const until = performance.now() + timeout;
    let refused = null;
    for (;;) {
      try {
        return await this.#once(frame.id, text, repeat, onAnswer, until);
      } catch (problem) {
        const pause = delay.pause((problem).retryAfter ?? null);
        if (refused && problem instanceof TimedOut) problem.message += ` Its last answer was: ${refused.message}`;
        if (!repeat || !isBusy(problem) || performance.now() + pause >= until) throw problem;
        refused = (problem);
        await sleep(pause);
      }
    }
  }

  #once(id, text, repeat, onAnswer, until) {
    return new Promise((resolve, reject) => {
      if (this.#pending.has(id)) throw new RangeError(`A request with the id ${id} is waiting for its answer already.`);
      const settled = (finish) => (value) => {
        clearTimeout(timer);
        pending.forget?.();
        if (this.#pending.get(id) === pending) this.#pending.delete(id);
        pending.done = true;
        finish(value);
      };
      const pending = {
        ...{ id, text, repeat, onAnswer, sent: false, done: false },
        resolve: settled(resolve),
        reject: settled(reject),
      };
      const late = () => pending.reject(new TimedOut("The server did not answer in time."));
      const timer = setTimeout(late, Math.max(0, until - performance.now()));
      this.#pending.set(id, pending);
      this.#dispatch(pending).catch(pending.reject);
    });
  }

  send(text, timeout = this.timeout) {
    return new Promise((resolve, reject) => {
      const sending = { text, sent: false, done: false };
      const settled = (finish) => (value) => {
        clearTimeout(timer);
        sending.done = true;
        sending.forget?.();
        finish(value);
      };
      const fail = settled(reject);
      const timer = setTimeout(() => fail(new TimedOut("There was no connection in time.")), timeout);
      this.#dispatch(sending).then(settled(resolve), fail);
    });
  }

  encode(frame) {
    if (this.line.failure) throw this.line.failure;
    let text;
    try {
      text = typeof frame === "string" ? frame : JSON.stringify(frame);
    } catch (problem) {
      if (problem instanceof RangeError) throw tooDeep(this.#limits.depth);
      throw problem;
    }
    const fault = frameFault(text, this.#limits, typeof frame === "string" ? rewriteJson(text) : text);
    if (fault) throw fault;
    return text;
  }

  async #dispatch(pending) {
    while (!pending.sent && !pending.done) {
      if (this.line.failure) throw this.line.failure;
      if (!this.line.up) {
        await this.line.change(pending);
        continue;
      }
      await this.#turn();
      const { link } = this.line;
      if (!link || !this.line.up || pending.sent || pending.done) continue;
      if (pending.repeat) pending.sent = true;
      pending.sent = link.send(pending.text) || pending.sent;
      if (!pending.sent) await link.ended;
    }
  }

  async #turn() {
    await this.#pacer.turn();
    while (this.line.link && this.line.link.socket.bufferedAmount > HIGH_WATER) await sleep(10);
  }

  answered(frame) {
    const failed = frame.type === "error" || frame.status === "error";
    if (frame.request_id != null) this.#settle(frame, failed);
    else if (failed) this.#refused(refusal(frame.error));
  }

  #settle(frame, failed) {
    const pending = this.#pending.get(String(frame.request_id));
    if (!pending) return;
    if (failed && pending.repeat && frame.error?.code === "RESTARTING") return;
    if (failed) pending.reject(refusal(frame.error));
    else {
      pending.onAnswer?.(frame);
      pending.resolve(frame);
    }
  }

  #refused(problem) {
    if (problem.code === "RATE_LIMITED") {
      this.#pacer.hold(problem.retryAfter ?? 1_000);
      if (this.line.link && !this.#repeating) this.#repeatUnanswered(this.line.link);
    }
    this.onError(problem);
  }

  async #repeatUnanswered(link) {
    this.#repeating = true;
    await this.#pacer.turn();
    this.#repeating = false;
    for (const pending of this.#repeatable().filter((each) => each.sent)) {
      await this.#pacer.turn();
      if (this.#pending.get(pending.id) === pending && !link.send(pending.text)) return;
    }
  }

  #repeatable() {
    return [...this.#pending.values()].filter((each) => each.repeat);
  }

  async sendAgain(link) {
    for (const pending of this.#repeatable()) {
      const fault = frameFault(pending.text, this.#limits);
      if (fault) {
        pending.reject(fault);
        continue;
      }
      await this.#pacer.turn();
      if (!link.send(pending.text)) return false;
      pending.sent = true;
    }
    return true;
  }

  connectionLost() {
    for (const pending of [...this.#pending.values()]) {
      if (pending.sent && !pending.repeat) {
        pending.reject(new ConnectionLost("The connection was lost before the answer came."));
      }
    }
  }

  fail(error) {
    for (const pending of [...this.#pending.values()]) pending.reject(error);
  }
}

// --- snapshots.js ---

class SnapshotSubscription extends Subscription {
  #snapshot;
  #begun = null;
  #state = null;
  #stale = false;
  #known = -1;
  #pending = null;
  #turn = Promise.resolve();
  #wakeUp = () => {};

  constructor(host, address, { snapshot, ...options }) {
    if ((options.since ?? options.last ?? null) !== null) throw new TypeError("A snapshot says itself where to begin.");
    super(host, address, options);
    this.#snapshot = snapshot;
    let gaps = 0;
    const set = (count) => {
      gaps = count;
      this.#missed();
    };
    Object.defineProperty(this, "gaps", { get: () => gaps, set, enumerable: true });
  }

  async open() {
    if (!this._closed) {
      this.#begun ??= this.#ask().then((found) => {
        this.since = found.position;
        this.#take(found);
      });
      try {
        await Promise.race([this.#begun, this._over]);
      } catch (problem) {
        this.#begun = null;
        throw problem;
      }
    }
    return super.open();
  }

  next() {
    const mine = this.#turn.then(() => this.#read());
    this.#turn = mine.catch(() => {});
    return mine;
  }

  async #read() {
    for (;;) {
      this.#pending ??= super.next();
      const woken = new Promise((resolve) => (this.#wakeUp = () => resolve(null)));
      if (this.#stale) await this.#renew();
      else if (!this.#state) {
        try {
          const result = await Promise.race([this.#pending, woken]);
          if (result && !this.#stale && !this.#state) {
            this.#pending = null;
            if (result.done || !this.#isKnown(result.value)) return result;
          }
        } catch (problem) {
          this.#pending = null;
          throw problem;
        }
      }
      const value = this.#state;
      this.#state = null;
      if (value) return { done: false, value };
    }
  }

  #isKnown({ address, seq }) {
    return address === this.address && seq !== null && seq <= this.#known;
  }

  #missed() {
    this.#stale = true;
    this._handout.dropOwn();
    this.#wakeUp();
  }

  async #renew() {
    const delay = new Backoff();
    while (this.#stale && !this._closed) {
      this.#stale = false;
      try {
        const found = await Promise.race([this.#ask(), this._over]);
        if (found && !this.#stale) this.#take(found);
      } catch (problem) {
        this.#stale = true;
        this._host.onError(problem, this);
        await Promise.race([sleep(delay.pause()), this._over]);
      }
    }
    if (this._closed) this.#stale = false;
  }

  async #ask() {
    const found = await this.#snapshot();
    if (!isPosition(found?.position)) throw new TypeError("A snapshot is { state, position: { epoch, seq } }.");
    return found;
  }

  #take({ state, position }) {
    const { seq, epoch } = position;
    this.#known = seq;
    this._handout.taken = { seq, epoch: epoch ?? null };
    this.#state = new Message({ type: "snapshot", room: this.room, channel: this.channel });
    this.#state.snapshot = state;
    this.#wakeUp();
  }
}

// --- asks.js ---

const GRACE = 5_000;
const REMEMBERED = 1_000;

class Asks {
  #open = new Map();
  #taken = new Set();

  wait(id, to, timeout) {
    if (this.#open.has(id)) throw new RangeError(`A question with the id ${id} is waiting for its reply already.`);
    return new Promise((resolve, reject) => {
      const settled = (finish) => (value) => {
        clearTimeout(timer);
        this.#open.delete(id);
        finish(value);
      };
      const late = () => this.#open.get(id)?.reject(new TimedOut(`${to} did not answer within ${timeout / 1000} s.`));
      const timer = setTimeout(late, timeout + GRACE);
      this.#open.set(id, { resolve: settled(resolve), reject: settled(reject) });
    });
  }

  failed(id, problem) {
    this.#open.get(id)?.reject(problem);
  }

  take(frame) {
    if (frame.type !== "reply" || typeof frame.correlation !== "string") return false;
    const waiting = this.#open.get(frame.correlation);
    if (!waiting) return this.#taken.has(frame.id);
    this.#taken.add(frame.id);
    if (this.#taken.size > REMEMBERED) this.#taken.delete([...this.#taken][0]);
    const reply = new Message(frame);
    if (reply.error === null) waiting.resolve(reply);
    else waiting.reject(new AskFailed(reply));
    return true;
  }

  refused(frame) {
    const error = frame.error ?? frame;
    if (error.code === "ASK_TIMEOUT") this.#open.get(String(frame.request_id))?.reject(refusal(error));
  }

  fail(error) {
    for (const waiting of [...this.#open.values()]) waiting.reject(error);
  }
}

function asking(frame, to, { timeout, durable }) {
  const ask = { timeout: timeout / 1000, ...(durable ? { durable } : {}) };
  const [room, channel] = to.includes(":") ? splitAddress(to) : ["", to];
  if (room === "" || room === "pm") return Object.assign(frame, { type: "private", to: [channel], ask });
  return Object.assign(frame, { room, channel, ask });
}

// --- jobs.js ---

const SHORTEST_LOOK = 1_000;

const isGone = (problem) =>
  problem instanceof ClaimLost || (problem instanceof ServerError && problem.code === "CLAIM_NOT_FOUND");

class Job {
  #lost = new AbortController();
  #look;

  constructor(host, claimed, address) {
    this._host = host;
    this.claim = claimed.claim;
    this.attempt = claimed.attempt;
    this.lease = claimed.lease * 1000;
    this.address = address;
    this.message = new Message(claimed.message);
    this.state = "claimed";
    this.#watch();
  }

  get payload() {
    return this.message.payload;
  }

  get text() {
    return this.message.text;
  }

  get seq() {
    return this.message.seq;
  }

  get lost() {
    return this.#lost.signal;
  }

  done(result = null) {
    return this.#finish("done", { result: result ?? null });
  }

  release({ delay = 0, error = null } = {}) {
    return this.#finish("release", { delay: delay / 1000, ...(error === null ? {} : { error }) });
  }

  reject(error = null) {
    return this.#finish("reject", error === null ? {} : { error });
  }

  async renew() {
    try {
      const { lease } = await this._host.requests.command("renew", { claim: this.claim }, { repeat: true });
      this.lease = lease * 1000;
    } catch (problem) {
      if (isGone(problem)) this.#lose(problem);
      throw problem;
    }
  }

  async #finish(command, parameters) {
    const connections = this._host.connections();
    try {
      const answer = await this._host.requests.command(command, { claim: this.claim, ...parameters }, { repeat: true });
      this.#over(command === "release" ? "released" : command === "reject" ? "rejected" : "done");
      return answer;
    } catch (problem) {
      if (!isGone(problem)) throw problem;
      const mayBeOwn = command !== "done" && connections !== this._host.connections();
      if (mayBeOwn) {
        this.#over(command === "release" ? "released" : "rejected");
        return { claim: this.claim, seq: this.seq, state: "ready" };
      }
      this.#lose(problem);
      throw problem;
    }
  }

  async _surely(finish) {
    const delay = new Backoff();
    for (;;) {
      try {
        await finish();
        return;
      } catch (problem) {
        const { failure } = this._host.requests.line;
        if (problem === failure || !(isTransient(problem) || problem instanceof ConnectionLost)) throw problem;
        await sleep(delay.pause((problem).retryAfter ?? null));
      }
    }
  }

  #watch() {
    this.#look = setTimeout(
      async () => {
        try {
          await this.renew();
        } catch (problem) {
          if (!(problem instanceof ArqonBusError)) throw problem;
        }
        if (this.state === "claimed") this.#watch();
      },
      Math.max(SHORTEST_LOOK, this.lease / 2),
    );
    (this.#look).unref?.();
  }

  #lose(problem) {
    if (this.state !== "claimed") return;
    this.#over("lost");
    this.#lost.abort(problem);
  }

  #over(state) {
    clearTimeout(this.#look);
    this.state = state;
    this._host.onOver(this);
  }

  _fail(error) {
    if (this.state !== "claimed") return;
    this.#over("lost");
    this.#lost.abort(error);
  }
}

// --- claims.js ---

const MOST_WAIT = 25_000;

class Claims {
  #held = new Map();
  #told = new Map();
  #owed = new Map();
  #queue = new KeyedQueue();
  #host;

  constructor({ line, requests, connections }) {
    this.line = line;
    this.requests = requests;
    this.connections = connections;
    this.#host = {
      requests,
      connections,
      onOver: (job) => {
        const held = this.#held.get(job.address);
        if (held?.delete(job) && !held.size) this.#held.delete(job.address);
      },
    };
  }

  async claim(address, { max, wait }) {
    await this.line.whenUp();
    const found = await this.#queue.run(address, () => this.#recover(address, max));
    return found.length ? found : this.#claim(address, { max, wait });
  }

  async #recover(address, max) {
    const connections = this.connections();
    if (this.#told.get(address) === connections) return [];
    const have = [...(this.#held.get(address) ?? [])].map((job) => job.claim);
    const jobs = await this.#claim(address, { max, wait: 0, have });
    const owed = (this.#owed.get(address) ?? 0) - jobs.length;
    if (jobs.length === max && owed > 0) this.#owed.set(address, owed);
    else {
      this.#owed.delete(address);
      this.#told.set(address, connections);
    }
    return jobs;
  }

  async #claim(address, { max, wait, have }) {
    const seconds = Math.min(wait, MOST_WAIT) / 1000;
    const parameters = { channel: address, max, wait: seconds, ...(have ? { have } : {}) };
    try {
      const timeout = wait + this.requests.timeout;
      const { claims } = await this.requests.command("claim", parameters, { repeat: false, timeout });
      return claims.map((claimed) => this.#add(address, claimed));
    } catch (problem) {
      if (problem instanceof TimedOut || problem instanceof ConnectionLost) {
        this.#told.delete(address);
        this.#owed.set(address, (this.#owed.get(address) ?? 0) + max);
      }
      throw problem;
    }
  }

  #add(address, claimed) {
    const job = new Job(this.#host, claimed, address);
    const held = this.#held.get(address) ?? new Set();
    this.#held.set(address, held.add(job));
    return job;
  }

  fail(error) {
    for (const held of [...this.#held.values()]) for (const job of [...held]) job._fail(error);
  }
}

// --- outgoing.js ---

function messageFrame(type, message, { payload, metadata, deliverAt, id = newId() }) {
  const frame = { type, id };
  if (message !== null && typeof message === "object") {
    if (payload !== undefined) throw new TypeError("Give the payload once: as `message` or as `payload`.");
    frame.payload = message;
  } else {
    if (message !== undefined && message !== null) frame.message = message;
    if (payload !== undefined) frame.payload = payload;
  }
  if (metadata !== undefined) frame.metadata = metadata;
  if (deliverAt !== undefined && deliverAt !== null) frame.deliver_at = sinceTime(deliverAt);
  return frame;
}

function addressed(frame, address) {
  if (address === null || address === undefined) return frame;
  const [room, channel] = splitAddress(address);
  if (room === INBOX_ROOM) return Object.assign(frame, { type: "private", to: [channel] });
  frame.room = room;
  if (channel !== ALL) frame.channel = channel;
  return frame;
}

// --- commands.js ---

class Commands {
  constructor(requests) {
    this._requests = requests;
  }

  command(name, parameters = {}, options = {}) {
    return this._requests.command(name, parameters, options);
  }

  status({ limit = 100, after = "" } = {}) {
    return this.command("status", { limit, after }, { repeat: true });
  }

  async *clients({ type, status, skill } = {}) {
    const wanted = Object.entries({ type, status, skill }).filter(([, value]) => value !== undefined);
    for (let after = ""; after !== null;) {
      const parameters = { ...Object.fromEntries(wanted), limit: MAX_PAGE, after };
      const page = await this.command("list_clients", parameters, { repeat: true });
      yield* page.clients;
      after = page.next ?? null;
    }
  }

  ping(echo = undefined) {
    return this.command("ping", echo === undefined ? {} : { echo }, { repeat: true });
  }

  async help(command = null) {
    return (await this.command("help", command ? { command } : {}, { repeat: true })).commands;
  }

  createChannel(address, options = {}) {
    const { description = "", metadata, ephemeral = false, retention, work, presence, type = "custom" } = options;
    const parameters = { channel: address, description, type };
    if (metadata) parameters.metadata = metadata;
    if (ephemeral) parameters.ephemeral = true;
    if (retention) parameters.retention = retention;
    if (presence) parameters.presence = presence;
    if (work) parameters.work = work;
    return this.command("create_channel", parameters);
  }

  deleteChannel(address) {
    return this.command("delete_channel", { channel: address });
  }

  async listChannels(room = null) {
    const where = room ? { room } : { all: true };
    const rows = [];
    for (let after = ""; after !== null;) {
      const page = await this.command("list_channels", { ...where, limit: MAX_PAGE, after }, { repeat: true });
      rows.push(...page.channels);
      after = page.next ?? null;
    }
    return rows;
  }

  channelInfo(address) {
    return this.command("channel_info", { channel: address }, { repeat: true });
  }

  async historyPage(address, options = {}) {
    const result = await this.#historyResult(address, { fold: true, ...options });
    return { messages: result.messages.map((frame) => this._kept(frame)), next: result.next ?? null };
  }

  async *history(address, { since = null, until = null, type, sender } = {}) {
    const whole = splitAddress(address)[1] === ALL;
    const end = until === null ? null : new Date(sinceTime(until));
    let after = isPosition(since) ? since.seq : since;
    if (whole && typeof after === "number") {
      throw new TypeError("The channels of a whole room have no common seq. Give `since` as a time.");
    }
    if (after === null) after = whole ? new Date(0) : 0;
    while (after !== null) {
      const page = await this.historyPage(address, { limit: MAX_PAGE, after, type, sender });
      for (const message of page.messages) {
        if (end && message.timestamp && message.timestamp >= end) return;
        yield message;
      }
      after = page.next;
    }
  }

  #historyResult(address, { limit = 50, before = null, after = null, type, sender, fold = false }) {
    const [room, channel] = splitAddress(address);
    const parameters = { channel: `${room}:${channel}`, limit };
    for (const [name, value] of Object.entries({ before, after })) {
      const place = typeof value === "number" || (typeof value === "string" && value.startsWith(`${name}:`));
      if (value !== null) parameters[name] = place ? value : sinceTime(value);
    }
    if (type) parameters.type = type;
    if (sender) parameters.sender = sender;
    if (fold) parameters.fold = true;
    return this.command("history", parameters, { repeat: true });
  }

  async _historyFrames(address, after, limit, fold = false) {
    return (await this.#historyResult(address, { after, limit, fold })).messages;
  }

  _kept(frame) {
    return new Message(frame);
  }
}

// --- outflow.js ---

const LONGEST = 32 * 1024;
const MOST_TAKEN = 100;

const HALF = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
const FIRST_HALF = /[\ud800-\udbff]$/;

function bytesOf(unit) {
  if (unit < 0x20) return 6;
  if (unit < 0x80) return unit === 0x22 || unit === 0x5c ? 2 : 1;
  return unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
}

const wholeUntil = (text, at) => (at < text.length && FIRST_HALF.test(text.slice(at - 1, at)) ? at - 1 : at);

function longestPiece(text) {
  let at = 0;
  for (let bytes = 0; at < text.length; at += 1) {
    bytes += bytesOf(text.charCodeAt(at));
    if (bytes > LONGEST) break;
  }
  return wholeUntil(text, at);
}

class Outflow {
  #text = "";
  #half = "";
  #taken = [];
  #appends = [];
  #sent = 0;

  constructor(mode, have = 0) {
    this.mode = mode;
    this.have = have;
    this.last = have;
    this.ending = false;
    this.size = 0;
    this.full = false;
  }

  get unsent() {
    return this.#appends.length - this.#sent;
  }

  get underway() {
    return this.#sent;
  }

  get idle() {
    return !this.#appends.length && !this.#text;
  }

  get broken() {
    const [first] = this.#appends;
    return first !== undefined && first.n > this.have + (hasContent(first) ? 1 : 0);
  }

  get gathering() {
    return this.#text.length;
  }

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

  part(part) {
    if (this.mode !== "parts") throw new TypeError('This message is a text. Open it with `mode: "parts"`.');
    if (part === null || typeof part !== "object" || Array.isArray(part)) throw new TypeError("A part is an object.");
    const text = JSON.stringify(part);
    if (this.full) return;
    this.#number({ part: JSON.parse(text) }, text.length);
    this.size += text.length;
  }

  take(id) {
    this.#taken.push(id);
  }

  roll() {
    while (this.#text) {
      const cut = longestPiece(this.#text);
      this.#number({ delta: this.#text.slice(0, cut) }, cut);
      this.#text = this.#text.slice(cut);
    }
  }

  end(state, payload) {
    if (this.#half) throw halfCharacter();
    this.roll();
    this.ending = true;
    if (this.full) return;
    const end = { n: this.last, end: state };
    if (payload !== undefined) end.payload = payload;
    if (this.#taken.length) end.took = this.#taken.splice(0, MOST_TAKEN);
    const last = this.#appends.at(-1);
    if (last && this.unsent && !last.end && !(last.took && end.took)) Object.assign(last, end);
    else this.#appends.push(end);
  }

  drop(refused) {
    const isKept = (each) => !each.end && (each.n < refused.n || !hasContent(refused));
    const given = this.#appends.filter((each) => !isKept(each));
    this.#appends = this.#appends.filter(isKept);
    this.#taken.unshift(...given.flatMap((each) => each.took ?? []));
    this.#sent = 0;
    this.#text = this.#half = "";
    this.ending = this.full = false;
    this.size = this.#appends.reduce((sum, each) => sum + sizeOf(each), 0);
    this.last = this.#appends.at(-1)?.n ?? this.have;
  }

  halve(append) {
    const { delta = "" } = append;
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

  #number(content, size) {
    this.last += 1;
    const append = ({ n: this.last, ...content });
    Object.defineProperty(append, "size", { value: size });
    if (this.#taken.length) append.took = this.#taken.splice(0, MOST_TAKEN);
    this.#appends.push(append);
  }

  next() {
    if (!this.unsent) return null;
    this.#sent += 1;
    return this.#appends[this.#sent - 1];
  }

  acked(have, ended = false) {
    const done = [];
    const isDone = (first) => first && first.n <= have && (ended || !first.end);
    while (isDone(this.#appends[0])) {
      const append = (this.#appends.shift());
      done.push(append);
      this.size -= sizeOf(append);
      this.#sent = Math.max(0, this.#sent - 1);
    }
    this.have = Math.max(this.have, have);
    this.last = Math.max(this.last, this.have);
    return done;
  }

  rewind() {
    this.#sent = 0;
  }
}

const hasContent = (append) => append.delta !== undefined || append.part !== undefined;

const sizeOf = (append) => append.size ?? 0;

const halfCharacter = () =>
  new ServerError({
    code: "INVALID_JSON",
    number: 400,
    message: "The text contains half a character (a lone surrogate). Cutting a text in an emoji leaves one.",
  });

// --- pieces.js ---

function iteratorOf(source) {
  const make = source?.[Symbol.asyncIterator] ?? source?.[Symbol.iterator];
  if (typeof make === "function" && typeof source !== "string") return make.call(source);
  if (typeof source?.getReader !== "function") {
    throw new TypeError("A pipe reads an async iterable, an iterable or a ReadableStream.");
  }
  const reader = source.getReader();
  return { next: () => reader.read(), return: (value) => reader.cancel().then(() => ({ done: true, value })) };
}

async function* readPieces(source, stop) {
  const iterator = iteratorOf(source);
  const decoder = new TextDecoder();
  let wake = null;
  const onStop = () => wake?.(null);
  stop.addEventListener("abort", onStop);
  const next = () =>
    new Promise((resolve, reject) => {
      wake = resolve;
      Promise.resolve(iterator.next()).then(resolve, reject);
    });
  let finished = false;
  try {
    while (!stop.aborted) {
      const result = await next();
      if (result === null) break;
      if (result.done) {
        finished = true;
        break;
      }
      const { value } = result;
      if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) yield decoder.decode(value, { stream: true });
      else yield value;
    }
    const rest = decoder.decode();
    if (rest && !stop.aborted) yield rest;
  } catch (problem) {
    finished = true;
    throw problem;
  } finally {
    stop.removeEventListener("abort", onStop);
    if (!finished) Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

// --- sender.js ---

const WINDOW = 16;
const FAULTS = ["FRAME_TOO_LARGE", "VALIDATION_ERROR", "INVALID_JSON"];

class Sender {
  #round = 0;
  #syncing = false;
  #due = false;
  #stopped = false;
  #full = null;

  constructor(host, flow, stream, hooks) {
    this.host = host;
    this.flow = flow;
    this.stream = stream;
    this.hooks = hooks;
  }

  stop() {
    this.#stopped = true;
  }

  flush() {
    this.#due = this.#syncing || this.flow.underway + this.flow.unsent >= WINDOW;
    if (!this.#due) this.flow.roll();
    this.pump();
  }

  pump() {
    while (!this.#syncing && !this.#stopped && this.flow.underway < WINDOW) {
      const append = this.flow.next();
      if (!append) break;
      this.#send(append, this.#round);
    }
  }

  #goOn() {
    if (this.#full && this.flow.idle) this.#giveUp(this.#full);
    if (this.#due) this.flush();
    else this.pump();
    this.hooks.onProgress();
  }

  async #send(append, round) {
    const { of, token } = this.stream;
    const frame = { type: "append", of, ...append, ack: true, id: newId() };
    if (token) frame.token = token;
    try {
      const answer = await this.host.requests.request(frame, { repeat: false });
      this.#told(answer.stream, Boolean(append.end));
      if (append.end) this.hooks.onEnd(answer, append.payload ?? {});
      this.#goOn();
    } catch (problem) {
      if (round === this.#round && !this.#stopped) this.#refused((problem), append);
    }
  }

  #told(told, ended = false) {
    for (const append of this.flow.acked(told.have, ended)) this.hooks.onCommitted(append);
    if (told.stopping) this.hooks.onStop();
  }

  #refused(problem, append) {
    const told = problem.details?.[0];
    if (problem instanceof ConnectionLost) this.resync(0);
    else if (isTransient(problem)) this.resync(problem.retryAfter ?? null);
    else if (problem.code === "STREAM_GAP" && told?.have >= this.flow.have) {
      this.#round += 1;
      this.flow.rewind();
      this.#told(told);
      if (this.flow.broken) this.hooks.onFailure(problem);
      else this.#goOn();
    } else if (FAULTS.includes(problem.code)) this.#fault(problem, append);
    else this.hooks.onFailure(problem);
  }

  #fault(problem, append) {
    this.#round += 1;
    const told = problem.details[0];
    if (told?.have >= this.flow.have) this.#told(told);
    if (problem.code !== "FRAME_TOO_LARGE") this.#giveUp({ problem, append });
    else {
      this.#full ??= { problem: tooMuch(problem), append };
      if (!this.flow.halve(append)) this.#giveUp(this.#full, append);
    }
    this.pump();
  }

  #giveUp({ problem, append }, refused = append) {
    this.#full = null;
    this.flow.drop(refused);
    this.hooks.onFault(problem, append);
  }

  async resync(retryAfter) {
    if (this.#syncing || this.#stopped) return;
    this.#syncing = true;
    this.#round += 1;
    const delay = new Backoff();
    try {
      if (retryAfter !== 0) await sleep(delay.pause(retryAfter));
      while (!(await this.#askHave())) await sleep(delay.pause());
      this.flow.rewind();
    } catch (problem) {
      this.hooks.onFailure(problem);
    } finally {
      this.#syncing = false;
    }
    this.#goOn();
  }

  async #askHave() {
    await this.host.line.whenUp();
    if (!this.stream.opening || this.#stopped) return true;
    let told;
    try {
      told = (await this.host.requests.request(this.stream.opening, { repeat: true })).stream;
    } catch (problem) {
      if (isTransient(problem)) return false;
      if (problem instanceof ServerError) return true;
      throw problem;
    }
    if (told) this.#told(told);
    if (told && told.state !== "open" && !this.flow.ending) throw streamEnded(told);
    return true;
  }
}

const tooMuch = ({ code, number, reason: message, details }) =>
  new ServerError({
    ...{ code, number, details },
    message: `${message} That limit is ARQONBUS_FRAME_BYTES. The server keeps the text that fits.`,
  });

// --- out-stream.js ---

const ROLL_UP = 40;
const MOST_BEHIND = 256 * 1024;
const ENOUGH = 16 * 1024;

class OutStream {
  #flow;
  #sender;
  #stop = new AbortController();
  #failure = null;
  #fault = null;
  #timer;
  #nextFlush = 0;
  #ending = null;
  #ended = null;
  #waiting = new Set();
  #steers = [];
  #steered = new Set();
  #untaken = new Set();

  constructor(host, told, { address, opening = null, token = null }) {
    this.host = host;
    this.address = address;
    this.of = told.of;
    this.mode = told.mode;
    this.attempt = told.attempt;
    this.state = told.state ?? "open";
    this.#flow = new Outflow(told.mode, told.have);
    this.#sender = new Sender(
      host,
      this.#flow,
      { of: told.of, opening, token },
      {
        onCommitted: (append) => host.onCommitted(this.of, append),
        onStop: () => this._stopRequested(),
        onEnd: (answer, payload) => this.#isOver(answer, payload),
        onFault: (problem, append) => this.#refused(problem, append),
        onFailure: (problem) => this._fail(problem),
        onProgress: () => this.#changed(),
      },
    );
    if (told.stopping) this._stopRequested();
    if (this.state !== "open") this.#failure = streamEnded(told);
  }

  get have() {
    return this.#flow.have;
  }

  get stopRequested() {
    return this.#stop.signal;
  }

  write(text) {
    return quietly(async () => {
      this.#check();
      this.#flow.write(text);
      const pause = this.#nextFlush - performance.now();
      if (pause <= 0 || this.#flow.gathering > ENOUGH) this.#flush();
      else this.#timer ??= setTimeout(() => this.#flush(), pause);
      await this.#room();
    });
  }

  part(part) {
    return quietly(async () => {
      this.#check();
      this.#flow.part(part);
      this.#sender.pump();
      await this.#room();
    });
  }

  async flush() {
    this.#check();
    this.#flush();
    await this.#until(() => this.#flow.idle);
  }

  async pipe(source) {
    this.#check();
    try {
      for await (const piece of readPieces(source, this.stopRequested)) {
        if (typeof piece === "string") await this.write(piece);
        else await this.part((piece));
      }
    } catch (problem) {
      if (!this.#failure) await this.end("aborted").catch(() => {});
      throw problem;
    }
    if (this.#failure) throw this.#failure;
  }

  end(state = "complete", payload = undefined) {
    if (this.#ending) return this.#ending;
    const ending = quietly(() => this.#end(state, payload));
    this.#ending = ending;
    ending.catch(() => {
      if (!this.#failure) this.#ending = null;
    });
    return ending;
  }

  async #end(state, payload) {
    try {
      if (this.#failure) throw this.#failure;
      if (this.#fault && state === "complete") throw this.#fault;
      clearTimeout(this.#timer);
      const ended = new Promise((resolve, reject) => (this.#ended = { resolve, reject, state, payload }));
      this.#flow.end(state, payload);
      this.#sender.pump();
      return await ended;
    } catch (problem) {
      const told = (problem)?.details?.[0];
      if (problem instanceof ServerError && problem.code === "STREAM_ENDED" && told?.state === "stopped") {
        return this.#endOf({ stream: told, duplicate: true });
      }
      throw problem;
    } finally {
      this.#ended = null;
    }
  }

  #check() {
    if (this.#failure) throw this.#failure;
    if (this.#fault) throw this.#fault;
    if (this.#ending) throw new ArqonBusError("The streamed message has ended.");
  }

  async #room() {
    if (this.#flow.size > MOST_BEHIND) await this.#until(() => this.#flow.size <= MOST_BEHIND);
  }

  async #until(reached) {
    for (;;) {
      if (this.#failure) throw this.#failure;
      if (this.#fault) throw this.#fault;
      if (reached()) return;
      await new Promise((resolve) => this.#waiting.add(() => resolve(undefined)));
    }
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#nextFlush = performance.now() + ROLL_UP;
    this.#sender.flush();
  }

  #changed() {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  #isOver(answer, payload) {
    this.state = answer.stream.state;
    const end = this.#endOf(answer);
    this.#ended?.resolve(end);
    this.host.onEnd(end, payload);
    this.host.onOver(this);
    this.#sender.stop();
    this.#changed();
  }

  #endOf({ stream: { state, have }, seq = null, duplicate = false }) {
    return { of: this.of, seq, state, have, duplicate, untaken: [...this.#untaken] };
  }

  #refused(problem, append) {
    const isContent = !append.end || append.delta !== undefined || append.part !== undefined;
    if (isContent) this.#fault = problem;
    if (this.#ended?.state === "aborted" && isContent) this.#flow.end("aborted", this.#ended.payload);
    else this.#ended?.reject(problem);
    this.#changed();
  }

  _goOn(retryAfter = 0) {
    this.#sender.resync(retryAfter);
  }

  _stopRequested() {
    this.#stop.abort(new DOMException("Somebody asked to stop the streamed message.", "AbortError"));
  }

  _steer(frame) {
    if (this.#steered.has(frame.id)) return;
    this.#steered.add(frame.id);
    this.#untaken.add(frame.id);
    const take = (id) => {
      this.#untaken.delete(id);
      this.#flow.take(id);
    };
    this.#steers.push(new Steer(frame, take));
    this.#changed();
  }

  _replaced() {
    const message = "Another owner adopted the streamed message.";
    const details = [{ of: this.of, have: this.have }];
    this._fail(new ServerError({ code: "STREAM_LOST", number: 409, message, details }));
  }

  _fail(problem) {
    if (this.#failure || this.state !== "open") return;
    this.#failure = problem;
    const told = (problem)?.details?.[0];
    if ((problem)?.code === "STREAM_ENDED" && told?.state) this.state = told.state;
    clearTimeout(this.#timer);
    callListener(() => this.#stop.abort(problem));
    this.#sender.stop();
    this.#ended?.reject(problem);
    this.host.onOver(this);
    this.#changed();
  }

  async *steers() {
    for (;;) {
      const steer = this.#steers.shift();
      if (steer) yield steer;
      else if (this.#failure || this.#ending || this.state !== "open") return;
      else await new Promise((resolve) => this.#waiting.add(() => resolve(undefined)));
    }
  }
}

class Steer extends Message {
  #take;

  constructor(frame, take) {
    super(frame);
    this.#take = take;
  }

  took() {
    this.#take?.(this.id);
    this.#take = null;
  }
}

function quietly(work) {
  const promise = work();
  promise.catch(() => {});
  return promise;
}

// --- streams.js ---

function streamId(stream) {
  const of = typeof stream === "string" ? stream : (stream?.of ?? stream?.id);
  if (typeof of !== "string" || !of) throw new TypeError("Give the id of a streamed message, or the message.");
  return of;
}

class Streams {
  #own = new Map();
  #host;

  constructor({ line, requests, answers }) {
    this.requests = requests;
    this.#host = {
      line,
      requests,
      onCommitted: (of, { n, delta, part }) => {
        if (delta !== undefined || part !== undefined) answers.get(of)?.append({ n, delta, part });
      },
      onEnd: ({ of, ...end }, payload) => answers.ended(of, end, payload),
      onOver: (stream) => {
        if (this.#own.get(stream.of) === stream) this.#own.delete(stream.of);
      },
    };
  }

  owns(of) {
    return this.#own.has(of);
  }

  async open(frame, mode, timeout) {
    const opening = { ...frame, id: frame.id ?? newId(), stream: { mode }, ack: true };
    const answer = await this.requests.request(opening, { repeat: true, timeout }).catch((problem) => {
      throw frame.id ? openedElsewhere(problem, frame.id) : problem;
    });
    const address = `${answer.room}:${answer.channel}`;
    return this.#add(new OutStream(this.#host, { ...answer.stream, mode }, { address, opening }));
  }

  async adopt(of, keep, place = null) {
    const told = await this.#adopted({ of, keep }, place);
    const address = told.room ? `${told.room}:${told.channel}` : "";
    return this.#add(new OutStream(this.#host, told, { address, token: told.token }));
  }

  async #adopted(parameters, place) {
    if (place === null) return this.requests.command("adopt_stream", parameters, { repeat: true });
    const [room, channel] = splitAddress(place);
    const frame = { type: "command", id: newId(), command: "adopt_stream", parameters, room, channel };
    try {
      return (await this.requests.request(frame, { repeat: true })).result;
    } catch (problem) {
      const missing = problem instanceof ServerError && problem.code === "STREAM_NOT_FOUND";
      throw missing ? elsewhere(problem, parameters.of) : problem;
    }
  }

  stop(of) {
    return this.requests.command("stop_stream", { of }, { repeat: true });
  }

  #add(stream) {
    this.#own.get(stream.of)?._replaced();
    if (stream.state === "open") this.#own.set(stream.of, stream);
    return stream;
  }

  notice({ event, of, message }) {
    if (event !== "stop_requested" && event !== "steer") return false;
    const stream = this.#own.get(of);
    if (event === "steer") stream?._steer(message);
    else stream?._stopRequested();
    return true;
  }

  goOn(retryAfter) {
    for (const stream of [...this.#own.values()]) stream._goOn(retryAfter);
  }

  fail(error) {
    for (const stream of [...this.#own.values()]) stream._fail(error);
  }
}

function elsewhere({ code, number, details }, run, whose = "another channel") {
  const name = run.replace(/^arq_/, "");
  const message = `The run '${name}' names a message of ${whose}. A run is unique on the whole bus.`;
  return new ServerError({ code, number, message, details });
}

function openedElsewhere(problem, run) {
  if (!(problem instanceof ServerError && problem.code === "VALIDATION_ERROR")) return problem;
  if (!problem.details.some((fault) => fault?.field === "id")) return problem;
  if (problem.reason.includes("another channel")) return elsewhere(problem, run);
  return problem.reason.includes("Another stream") ? elsewhere(problem, run, "another client or channel") : problem;
}

// --- publisher.js ---

const PLAIN_RUN = /^[\w.-]{1,100}$/;

class Publisher extends Commands {
  #echoes;
  #unacked;

  constructor(parts, settings, echoes) {
    super(parts.requests);
    this._settings = settings;
    this.#echoes = echoes;
    this.#unacked = new Semaphore(settings.maxUnacked);
    this._streams = new Streams(parts);
  }

  _echoes(address) {
    return this.#echoes(address);
  }

  async publish(address, message, options = {}) {
    const frame = addressed(messageFrame(options.type ?? "event", message, options), address);
    if (options.steer !== undefined && options.steer !== null) frame.steer = streamId(options.steer);
    if (frame.type === "private") return this._publish(frame, { ...options, ack: true });
    if (options.echo ?? this.#echoes(address)) frame.echo = true;
    return this._publish(frame, options);
  }

  async private(to, message, options = {}) {
    const frame = messageFrame("private", message, options);
    frame.to = Array.isArray(to) ? to : [to];
    return this._publish(frame, { ...options, ack: true });
  }

  async _publish(frame, { ack = true, timeout = this._settings.timeout }) {
    await this.#unacked.acquire();
    try {
      if (!ack) {
        await this._requests.send(this._requests.encode(frame), timeout);
        return { id: frame.id, room: frame.room ?? "", channel: frame.channel ?? ALL, seq: null, duplicate: false };
      }
      const answer = await this._requests.request({ ...frame, ack: true }, { repeat: true, timeout });
      const { room, channel, seq = null, duplicate = false } = answer;
      const receipt = { id: frame.id, room, channel, seq, duplicate };
      if (answer.kept === false) receipt.kept = false;
      return typeof answer.steered === "boolean" ? { ...receipt, steered: answer.steered } : receipt;
    } finally {
      this.#unacked.release();
    }
  }

  async stream(
    address,
    { run, mode = "text", type = "event", echo, timeout = this._settings.timeout, ...options } = {},
  ) {
    if (run !== undefined && !PLAIN_RUN.test(run)) {
      throw new TypeError("A run has 1 to 100 letters, digits, `.`, `_` and `-`.");
    }
    const frame = addressed(messageFrame(type, undefined, { id: run, ...options }), address);
    if (frame.type !== "private" && (echo ?? this.#echoes(address))) frame.echo = true;
    return this._streams.open(frame, mode, timeout);
  }

  adoptStream(stream, { keep = true, address = null } = {}) {
    return this._streams.adopt(streamId(stream), keep, address);
  }

  stopStream(stream) {
    return this._streams.stop(streamId(stream));
  }

  async streamText(message, callback) {
    for (;;) {
      try {
        for await (const delta of message.deltas()) callListener(callback, message.text, delta, message);
        return message.state;
      } catch (problem) {
        if (!(problem instanceof StreamReset)) throw problem;
        callListener(callback, "", null, message);
      }
    }
  }

  async send(frame) {
    await this._requests.send(this._requests.encode(frame));
  }
}

// --- amending.js ---

class Amending extends Publisher {
  async edit(message, content, options = {}) {
    const { message: text, payload } = messageFrame("amend", content, { payload: options.payload });
    if (text === undefined && payload === undefined) throw new TypeError("An edit needs a text, a payload, or both.");
    const given = { ...(text === undefined ? {} : { message: text }), ...(payload === undefined ? {} : { payload }) };
    return this.#amend(message, "edit", given, options);
  }

  async delete(message, options = {}) {
    return this.#amend(message, "delete", {}, options);
  }

  async react(message, reaction, options = {}) {
    return this.#amend(message, "react", { reaction }, options);
  }

  async unreact(message, reaction, options = {}) {
    return this.#amend(message, "unreact", { reaction }, options);
  }

  eraseMessage(address, seq) {
    return this.command("erase_message", { channel: address, seq });
  }

  async #amend(message, what, given, options) {
    const { id, room, channel, seq = null } = (message ?? {});
    const address = (message)?.address ?? (room && `${room}:${channel}`);
    if (typeof id !== "string" || !id || typeof address !== "string") {
      throw new TypeError("Give a message, its receipt, or an object with its `address` and `id`.");
    }
    const frame = addressed({ ...messageFrame("amend", undefined, options), of: id, do: what, ...given }, address);
    if (seq !== null) frame.of_seq = seq;
    if (this._echoes(address)) frame.echo = true;
    return this._publish(frame, { ...options, ack: true });
  }
}

// --- decisions.js ---

const LARGEST_PAGE = 100;
const LONGEST_WAIT = 25_000;
const AT_ONCE = 1_000;

const named = (decision) => (typeof decision === "string" ? decision : decision.decision);

class Deciding extends Amending {
  async decideByHuman(address, { timeout = null, ...options }) {
    const until = timeout === null ? Infinity : performance.now() + timeout;
    let found;
    try {
      found = await this.requestDecision(address, options);
    } catch (problem) {
      const rejected = problem instanceof ServerError && problem.code === "REJECTED_BEFORE" && problem.details[0];
      if (!rejected?.decision) throw problem;
      return this.awaitDecision(rejected.decision, { wait: 0 });
    }
    const pause = new Backoff();
    while (found.state === "pending") {
      const left = until - performance.now();
      if (left <= 0) throw new TimedOut(`Nobody decided "${options.title}" in time.`);
      const next = await this.#look(found.decision, Math.min(LONGEST_WAIT, left), pause);
      found = next ?? found;
    }
    return found;
  }

  async #look(decision, wait, pause) {
    const began = performance.now();
    let found = null;
    let retryAfter = null;
    try {
      found = await this.awaitDecision(decision, { wait });
    } catch (problem) {
      const again = problem instanceof TimedOut || problem instanceof ConnectionLost;
      if (!again && !(problem instanceof ServerError && problem.retry)) throw problem;
      retryAfter = problem instanceof ServerError ? problem.retryAfter : null;
    }
    if (found && (found.state !== "pending" || performance.now() - began >= Math.min(wait, AT_ONCE))) pause.reset();
    else await sleep(Math.min(wait, pause.pause(retryAfter)));
    return found;
  }

  requestDecision(address, { key, title, action, args = {}, allow, schema, expires, onExpiry }) {
    const [room, channel] = splitAddress(address);
    const given = { allow, schema, expires: expires === undefined ? undefined : expires / 1000, on_expiry: onExpiry };
    const rest = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    const parameters = { channel: `${room}:${channel}`, key, title, action, args, ...rest };
    return this.command("request_decision", parameters, { repeat: true });
  }

  awaitDecision(decision, { wait = LONGEST_WAIT } = {}) {
    const parameters = { decision: named(decision), wait: wait / 1000 };
    return this.command("await_decision", parameters, { repeat: true, timeout: wait + this._settings.timeout });
  }

  decide(decision, answer, { args, comment } = {}) {
    const parameters = {
      decision: named(decision),
      answer,
      ...(args ? { args } : {}),
      ...(comment ? { comment } : {}),
    };
    return this.command("decide", parameters, { repeat: true });
  }

  cancelDecision(decision) {
    return this.command("cancel_decision", { decision: named(decision) }, { repeat: true });
  }

  consumeDecision(decision) {
    return this.command("consume_decision", { decision: named(decision) });
  }

  async *listDecisions({ address, room, state, mine, toDecide } = {}) {
    const given = { channel: address, room, state, mine, to_decide: toDecide };
    const wanted = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    for (let after = undefined; after !== null;) {
      const parameters = { ...wanted, limit: LARGEST_PAGE, ...(after === undefined ? {} : { after }) };
      const page = await this.command("list_decisions", parameters, { repeat: true });
      yield* page.decisions;
      after = page.next ?? null;
    }
  }
}

// --- job-worker.js ---

const LONGEST_DELAY = 300_000;
const BUSY = "LIMIT_REACHED";

function giveBack(jobs) {
  for (const job of jobs) job._surely(() => job.release()).catch(() => {});
}

class JobWorker {
  #running = new Set();
  #delay = new Backoff();
  #close = () => {};
  #closing = new Promise((resolve) => (this.#close = resolve));

  constructor(claims, address, handler, { concurrency = 1, wait = 25_000, onError }) {
    if (!(Number.isInteger(concurrency) && concurrency >= 1)) throw new RangeError("`concurrency` must be 1 or more.");
    if (typeof handler !== "function") throw new TypeError("A handler is a function: `bus.work(address, (job) => …)`.");
    this.claims = claims;
    this.address = address;
    this.handler = handler;
    this.concurrency = concurrency;
    this.wait = wait;
    this.onError = onError;
    this.failure = null;
    this.closed = false;
    this.ended = this.#run();
  }

  get running() {
    return this.#running.size;
  }

  async close() {
    this.closed = true;
    this.#close();
    await Promise.all(this.#running);
  }

  async #run() {
    try {
      while (!this.closed) await this.#claimOnce();
    } catch (problem) {
      this.failure = problem;
      this.closed = true;
      if (!(problem instanceof BusClosed)) this.onError(problem);
    }
    await Promise.all(this.#running);
  }

  async #claimOnce() {
    const max = Math.min(100, this.concurrency - this.#running.size);
    if (max <= 0) {
      await Promise.race([...this.#running, this.#closing]);
      return;
    }
    const began = performance.now();
    const claiming = this.claims.claim(this.address, { max, wait: this.wait });
    let jobs;
    try {
      jobs = await Promise.race([claiming, this.#closing.then(() => [])]);
    } catch (problem) {
      await this.#refused(problem);
      return;
    }
    if (this.closed) claiming.then(giveBack, () => {});
    else if (jobs.length) {
      this.#delay.reset();
      for (const job of jobs) this.#start(job);
    } else if (performance.now() - began < this.wait / 2) await this.#pause(null);
  }

  async #refused(problem) {
    if (problem === this.claims.line.failure) throw problem;
    if (problem instanceof ConnectionLost) return;
    if (!isTransient(problem) && problem?.code !== BUSY) throw problem;
    await this.#pause(problem.retryAfter ?? null);
  }

  async #pause(retryAfter) {
    await Promise.race([sleep(this.#delay.pause(retryAfter)), this.#closing]);
  }

  #start(job) {
    const running = this.#handle(job)
      .catch((problem) => problem instanceof BusClosed || this.onError(problem))
      .then(() => void this.#running.delete(running));
    this.#running.add(running);
  }

  async #handle(job) {
    let result;
    try {
      result = await this.handler(job, this);
    } catch (problem) {
      if (job.state === "lost" && problem === job.lost.reason) return;
      report(problem);
      if (job.state === "claimed") await this.#release(job, problem);
      return;
    }
    if (job.state === "lost") throw job.lost.reason;
    if (job.state === "claimed") await this.#done(job, result);
  }

  async #done(job, result) {
    try {
      await job._surely(() => job.done(result));
    } catch (problem) {
      if (job.state === "claimed" && problem !== this.claims.line.failure) {
        if (isRefusedForGood(problem))
          await job._surely(() => job.reject(`The result was refused. ${errorText(problem)}`));
        else await this.#release(job, problem);
      }
      throw problem;
    }
  }

  async #release(job, problem) {
    const delay = Math.min(LONGEST_DELAY, 1_000 * 2 ** job.attempt);
    await job._surely(() => job.release({ delay, error: errorText(problem) }));
  }
}

// --- marks.js ---

class Marks {
  #kept = new Map();
  #readers = new Map();
  #refused = new Map();
  #sending = new Map();

  constructor(send, onError) {
    this.send = send;
    this.onError = onError;
  }

  learn(address, { seq, epoch }) {
    this.#kept.set(address, { seq, epoch: epoch ?? null });
  }

  get(address) {
    return this.#kept.get(address) ?? null;
  }

  reader(address) {
    const reader = new MarkReader(this, address);
    const others = this.#readers.get(address) ?? new Set();
    if (!others.size) this.#refused.delete(address);
    this.#readers.set(address, others.add(reader));
    return reader;
  }

  remove(reader) {
    const others = this.#readers.get(reader.address);
    if (!others?.delete(reader)) return;
    if (others.size) this.move(reader.address);
    else this.#readers.delete(reader.address);
  }

  move(address) {
    if (this.#sending.has(address) || !this.#due(address)) return;
    const sending = this.#send(address)
      .catch((problem) => (problem instanceof BusClosed ? undefined : this.onError(problem)))
      .finally(() => {
        this.#sending.delete(address);
        this.move(address);
      });
    this.#sending.set(address, sending);
  }

  async settled(address) {
    await this.#sending.get(address);
  }

  #due(address) {
    const readers = [...(this.#readers.get(address) ?? [])];
    if (!readers.length || readers.some((each) => each.place === null)) return null;
    const places = readers.map((each) => (each.place));
    const slowest = places.reduce((one, other) => (other.seq < one.seq ? other : one));
    const [kept, refused] = [this.#kept.get(address), this.#refused.get(address)];
    if (refused && !isAnotherLog(refused, slowest)) return null;
    return !kept || isAnotherLog(kept, slowest) || slowest.seq > kept.seq ? slowest : null;
  }

  async #send(address) {
    const delay = new Backoff();
    for (let due; (due = this.#due(address));) {
      try {
        const { seq, epoch } = await this.send(address, due);
        this.learn(address, { seq: Math.max(seq, due.seq), epoch });
      } catch (problem) {
        if (!isTransient(problem)) {
          this.#refused.set(address, due);
          throw problem;
        }
        await sleep(delay.pause((problem).retryAfter ?? null));
      }
    }
  }
}

class MarkReader {
  constructor(marks, address) {
    this.marks = marks;
    this.address = address;
    this.place = null;
  }

  reached(place) {
    const { place: before } = this;
    if (before && before.seq >= place.seq && !isAnotherLog(before, place)) return;
    this.place = { ...place };
    this.marks.move(this.address);
  }

  close() {
    this.marks.remove(this);
  }
}

// --- deadlines.js ---

const BETWEEN_SERVERS = 1_000;
const FROM_HERE = 60_000;

class Deadlines {
  #server = null;
  #since = 0;

  async learn(ping) {
    try {
      const time = Date.parse((await ping()).timestamp);
      if (!Number.isNaN(time)) [this.#server, this.#since] = [time, performance.now()];
    } catch {
    }
  }

  over({ raw, timestamp }) {
    const timeout = Number(raw.ask?.timeout) * 1000;
    if (timestamp === null) return false;
    const ended = timestamp.getTime() + timeout;
    if (this.#server === null) return ended + FROM_HERE < Date.now();
    return ended + BETWEEN_SERVERS < this.#server + performance.now() - this.#since;
  }
}

// --- responder.js ---

const OVER = ["QUESTION_ENDED", "QUESTION_NOT_FOUND"];

function payloadOf(value) {
  if (value === undefined || value === null) return {};
  const isObject = typeof value === "object" && !Array.isArray(value);
  return (isObject ? value : { result: value });
}

const isUnsendable = (problem) => problem instanceof ServerError || !(problem instanceof ArqonBusError);

class Responder {
  #running = new Set();
  #open = new Set();
  #read = null;
  #deadlines = new Deadlines();

  constructor(inbox, handler, { concurrency, marks, reply, ping, onError }) {
    if (typeof handler !== "function") throw new TypeError("A handler is a function: `bus.answers((question) => …)`.");
    this.inbox = inbox;
    this.handler = handler;
    this.free = new Semaphore(concurrency);
    this.marks = marks;
    this.reply = reply;
    this.ping = ping;
    this.onError = onError;
    this.ended = this.#listen();
  }

  async open() {
    await this.inbox.open();
    return this;
  }

  async close() {
    await this.inbox.close();
    await this.ended;
  }

  async #listen() {
    await this.#deadlines.learn(this.ping);
    const delay = new Backoff();
    for (;;) {
      try {
        for await (const message of this.inbox) {
          delay.reset();
          await this.#took(message);
        }
        break;
      } catch (problem) {
        if (isTransient(problem)) await sleep(delay.pause((problem).retryAfter ?? null));
        else {
          if (!(problem instanceof BusClosed)) this.onError(problem);
          break;
        }
      }
    }
    await Promise.all(this.#running);
    this.marks?.close();
  }

  async #took(message) {
    const { seq } = message;
    if (seq === null) return;
    const asks = message.question && !this.#deadlines.over(message);
    if (asks) {
      await this.free.acquire();
      this.#open.add(seq);
    }
    this.#read = this.inbox.position && { seq, epoch: this.inbox.position.epoch || null };
    if (!asks) return this.#moved();
    const running = this.#answer(message)
      .catch((problem) => problem instanceof BusClosed || this.onError(problem))
      .then(() => {
        this.#running.delete(running);
        this.free.release();
        this.#open.delete(seq);
        this.#moved();
      });
    this.#running.add(running);
  }

  #moved() {
    if (!this.#read) return;
    const first = Math.min(...this.#open);
    const seq = Math.min(this.#read.seq, first - 1);
    if (seq > 0) this.marks?.reached({ seq, epoch: this.#read.epoch });
  }

  async #answer(question) {
    if (this.#deadlines.over(question)) return;
    let answer;
    try {
      answer = [payloadOf(await this.handler(question)), null];
    } catch (problem) {
      report(problem);
      answer = [{}, errorText(problem)];
    }
    const delay = new Backoff();
    for (;;) {
      try {
        await this.reply(question, ...answer);
        return;
      } catch (problem) {
        const { code, retryAfter = null } = (problem);
        if (OVER.includes(code)) return;
        if (isTransient(problem) && !this.#deadlines.over(question)) await sleep(delay.pause(retryAfter));
        else if (answer[1] === null && isUnsendable(problem)) answer = [{}, errorText(problem)];
        else throw problem;
      }
    }
  }
}

// --- teamwork.js ---

class Teamwork extends Deciding {
  #claims;
  #hooks;
  #onError;
  #status = null;

  constructor(parts, settings, hooks) {
    super(parts, settings, hooks.echoes);
    this.#hooks = hooks;
    this.#onError = hooks.onError;
    this.#claims = new Claims({ ...parts, connections: hooks.connections });
    this._marks = new Marks((address, { seq, epoch }) => this.mark(address, seq, { epoch }), hooks.onError);
    this._asks = new Asks();
  }

  async mark(address, seq, { back = false, epoch = null } = {}) {
    const [room, channel] = splitAddress(address);
    const parameters = { room, channel, seq, ...(back ? { back } : {}), ...(epoch ? { epoch } : {}) };
    const marked = await this.command("mark", parameters, { repeat: true });
    this._marks.learn(`${room}:${channel}`, marked);
    return marked;
  }

  work(address, handler, options = {}) {
    splitAddress(address);
    return new JobWorker(this.#claims, address, handler, { ...options, onError: this.#onError });
  }

  claim(address, { max = 1, wait = 0 } = {}) {
    splitAddress(address);
    return this.#claims.claim(address, { max, wait });
  }

  workOverview(address) {
    return this.command("work", { channel: address }, { repeat: true });
  }

  retryJob(address, seq) {
    return this.command("retry_job", { channel: address, seq }, { repeat: true });
  }

  discardJob(address, seq) {
    return this.command("discard_job", { channel: address, seq }, { repeat: true });
  }

  async ask(to, message, { timeout = 30_000, durable = false, ...options } = {}) {
    const frame = asking(messageFrame(options.type ?? "event", message, options), to, { timeout, durable });
    const reply = this._asks.wait(frame.id, to, timeout);
    reply.catch(() => {});
    try {
      const receipt = await this._publish(frame, { timeout: Math.min(timeout, this._settings.timeout) });
      if (receipt.duplicate) await this.#findReply(frame.id);
    } catch (problem) {
      this._asks.failed(frame.id, problem);
    }
    return reply;
  }

  async #findReply(correlation) {
    const { messages } = await this.historyPage(this.#hooks.inbox({}).address, { type: "reply", limit: 500 });
    for (const { raw } of messages) if (raw.correlation === correlation) this._asks.take(raw);
  }

  answers(handler, { since = "mark", concurrency = 16 } = {}) {
    const inbox = this.#hooks.inbox({ since });
    return new Responder(inbox, handler, {
      concurrency,
      marks: since === "mark" ? this._marks.reader(inbox.address) : null,
      reply: (question, payload, error) => this.reply(question, payload, { error }),
      ping: () => this.command("ping", {}, { repeat: true }),
      onError: this.#onError,
    });
  }

  reply(question, payload = {}, { error = null, id = newId() } = {}) {
    const to = typeof question === "string" ? question : question.id;
    const frame = { type: "reply", id, to_message: to, payload, ...(error === null ? {} : { error }) };
    if (typeof question !== "string" && question.replyTo !== null) frame.reply_to = question.replyTo;
    return this._publish(frame, {});
  }

  async setStatus(options = {}) {
    const said = Object.entries(options).filter(([, value]) => value !== undefined && value !== null);
    this.#status = said.length && !options.ttl ? options : null;
    const parameters = Object.fromEntries(said);
    if (options.ttl) parameters.ttl = options.ttl / 1000;
    await this.command("set_status", parameters, { repeat: true });
  }

  _resumeTeamwork() {
    if (!this.#status) return;
    this.setStatus(this.#status).catch((problem) => isTransient(problem) || this.#onError(problem));
  }

  _endTeamwork(error) {
    this._asks.fail(error);
    this.#claims.fail(error);
  }
}

// --- bus.js ---

const SERVER_ID = "arqonbus_server";

class Bus extends Teamwork {
  #listeners = new Listeners();
  #answers;
  #logs = new Logs((address) => this.#answers.leave(address));

  constructor(dial, registration, settings, identity = null) {
    const line = new Line();
    const requests = new Requests(line, settings.timeout, (problem) => {
      if (problem.code === "RATE_LIMITED") this._streams.goOn(problem.retryAfter ?? 1_000);
      this._emit("error", problem);
    });
    const answers = new Answers((growth) => this.#folded(growth));
    const echoes = (address) =>
      this.#logs.subscriptionsOf(address || this.address).some((each) => each.echo);
    const onError = (problem) => this._emit("error", problem);
    super({ line, requests, answers }, settings, {
      echoes,
      onError,
      connections: () => this.connections,
      inbox: (options) => this.inbox(options),
    });
    this.#answers = answers;
    this._line = line;
    this._buffer = settings.buffer;
    this._identity = identity;
    const connection = new Connection(
      dial,
      registration,
      settings,
      { line, requests, identity },
      {
        positions: () => this.#logs.positions(memberships.wanted()),
        onRegistered: (answer, asked) => {
          for (const [address, place] of Object.entries(answer.marks ?? {})) this._marks.learn(address, place);
          memberships.registered(answer.channels ?? {}, asked);
        },
        onFrame: (frame) => this.#receive(frame),
        onConnected: () => {
          memberships.reconcile();
          if (connection.connections > 1) followings.reconnected();
          this._streams.goOn();
          this.#answers.reconnected();
          if (connection.connections > 1) this._resumeTeamwork();
        },
        onState: (state) => {
          callListener(settings.onState, state);
          this._emit("state", state);
        },
        onEnd: (error) => this.#end(error),
      },
    );
    const { _marks: marks, _asks: asks } = this;
    const memberships = new Memberships(
      { line, connection, requests, commands: this, logs: this.#logs, marks },
      onError,
    );
    const followings = new Followings({ line, requests, logs: this.#logs });
    this._followings = followings;
    this._connection = connection;
    this._memberships = memberships;
    this._host = {
      answers: this.#answers,
      marks,
      mark: (address, seq) => this.mark(address, seq),
      takesReply: (frame) => asks.take(frame),
      get clientId() {
        return connection.clientId;
      },
      get closed() {
        return connection.state === "closed";
      },
      attach: (subscription) => memberships.attach(subscription),
      detach: (subscription) => memberships.detach(subscription),
      historyFrames: (address, after, limit) => this._historyFrames(address, after, limit),
      onError: (problem, subscription) => this._emit("error", problem, subscription),
      bus: this,
    };
    this._roomHost = Object.create(this._host, {
      attach: { value: (subscription) => followings.attach(subscription) },
      detach: { value: (subscription) => followings.detach(subscription) },
    });
  }

  get clientId() {
    return this._connection.clientId;
  }

  get registered() {
    return this._connection.registered;
  }

  get connections() {
    return this._connection.connections;
  }

  get state() {
    return this._connection.state;
  }

  get connected() {
    return this._line.connected;
  }

  get address() {
    return this._connection.address;
  }

  get role() {
    return String(this.registered.role ?? "");
  }

  get failure() {
    return this._line.failure;
  }

  get resumeToken() {
    return this._connection.resumeToken;
  }

  get identityKept() {
    return this._identity && this._identity.kept;
  }

  async _open() {
    await this._connection.open();
    return this;
  }

  close() {
    this._connection.end(new BusClosed("The bus is closed."));
    this._line.link?.close();
  }

  whenConnected() {
    return this._line.whenUp();
  }

  reconnectNow() {
    this._connection.reconnectNow();
  }

  on(event, listener) {
    return this.#listeners.add(event, listener);
  }

  _emit(event, ...values) {
    this.#listeners.emit(event, ...values);
  }

  #end(error) {
    this._streams.fail(error);
    this.#answers.leave();
    this._endTeamwork(error);
    for (const subscription of this.#logs.all) {
      if (error instanceof BusClosed) subscription._finish();
      else subscription._fail(error);
    }
  }

  #receive(frame) {
    const { type, room, channel, seq } = frame;
    if (type === "error") this._asks.refused(frame);
    if (type === "ack" || (["command_response", "error"].includes(type) && seq === undefined)) {
      this._requests.answered(frame);
      return;
    }
    const notice = type === "system" && frame.from === SERVER_ID && seq === undefined;
    if (notice && this._streams.notice(frame.payload ?? {})) return;
    if (typeof room !== "string" || typeof channel !== "string") return;
    const address = `${room}:${channel}`;
    if (notice) this.#notice(address, frame);
    else if (isAppend(frame)) this.#append(address, frame);
    else this.#message(address, frame);
  }

  #message(address, frame) {
    if (Number.isInteger(frame.seq)) {
      this.#logs.advance(address, frame.seq);
      if (isOpening(frame) || isStreamEnd(frame)) this.#answers.take(frame);
      this._asks.take(frame);
    }
    for (const subscription of this.#logs.receivers(address)) subscription._deliver(address, frame);
  }

  #append(address, frame) {
    const known = this.#answers.get(frame.of);
    const growth = this.#answers.append(address, frame);
    if (!growth.sender && this._streams.owns(frame.of)) growth.sender = this.clientId;
    if (known && !frame.snapshot) return;
    for (const subscription of this.#logs.receivers(address)) subscription._grows(growth);
  }

  async #folded({ of, seq, address }) {
    try {
      const [frame] = await this._historyFrames(address, Number(seq) - 1, 1, true);
      return frame?.id === of ? frame : null;
    } catch (problem) {
      if (problem instanceof ServerError && problem.number === 404) return null;
      throw problem;
    }
  }

  _kept(frame) {
    const grows =
      isOpening(frame) && frame.stream.state === "open" && this.#logs.live.has(`${frame.room}:${frame.channel}`);
    const message =
      grows || this.#answers.get(frame.id) ? new Message(frame, false, this.#answers.take(frame)) : super._kept(frame);
    message._mark = this._host.mark;
    message._bus = this;
    return message;
  }

  #notice(address, frame) {
    if (frame.payload?.event === "unsubscribed") {
      const error =
        frame.payload.reason === "DELETED"
          ? { code: "CHANNEL_NOT_FOUND", number: 404, message: `${address} was deleted.` }
          : { code: "REVOKED", number: 403, message: `Your access to ${address} was withdrawn.` };
      this._memberships.ended(address, new ServerError(error));
    } else if (!this._followings.notice(address, frame.payload)) {
      const readers = [...this.#logs.subscriptionsOf(address), ...this.#logs.followersOf(address)];
      for (const subscription of readers) subscription._deliverNotice(frame);
    }
    this._emit("notice", frame);
  }

  subscribe(address, options = {}, listener = null) {
    if (typeof options === "function") [options, listener] = [{}, options];
    const settings = { buffer: this._buffer, ...options };
    const { snapshot } = settings;
    const subscription = snapshot
      ? new SnapshotSubscription(this._host, address, { ...settings, snapshot })
      : new Subscription(this._host, address, settings);
    if (listener) subscription._listen(listener);
    return subscription;
  }

  follow(room, options = {}, listener = null) {
    if (typeof options === "function") [options, listener] = [{}, options];
    const subscription = new RoomSubscription(this._roomHost, room, { buffer: this._buffer, ...options });
    if (listener) subscription._listen(listener);
    return subscription;
  }

  inbox(options = {}, listener = null) {
    if (typeof options === "function") [options, listener] = [{}, options];
    return this.subscribe(`${INBOX_ROOM}:${this.clientId}`, { ...options, broadcasts: false }, listener);
  }

  join(address, options = {}) {
    return this._memberships.join(address, options);
  }

  async leave(address) {
    return this._memberships.leave(address);
  }
}

// --- identity.js ---

const HAND_OVER = 2_000;

const newClientId = () => `me-${newId().slice(4, 20)}`;

function pageStore(key) {
  try {
    const storage = globalThis.localStorage;
    storage.getItem(key);
    return { get: () => storage.getItem(key), set: (text) => storage.setItem(key, text) };
  } catch {
    return null;
  }
}

class Identity {
  #unlock = null;
  #released = false;

  constructor(given, openTimeout) {
    this.name = typeof given === "string" ? given : null;
    this.store = typeof given === "string" ? pageStore(`arqonbus.identity.${given}`) : given;
    this.openTimeout = openTimeout;
    this.loaded = false;
    this.chosen = false;
    this.clientId = null;
    this.token = null;
    this.kept = this.store !== null;
    if (!this.kept) {
      console.warn(`ArqonBus: no storage is available, so the identity "${given}" ends with this page or process.`);
    }
  }

  async load(clientId) {
    if (this.loaded) return;
    if (this.name !== null && this.kept) await this.#lock();
    const { store } = this;
    const text = store && (await askApplication("Getting the identity", this.openTimeout, () => store.get()));
    const found = this.#parse(text, clientId);
    this.chosen = Boolean(clientId);
    this.clientId = clientId || found?.client_id || newClientId();
    this.token = found?.resume_token ?? null;
    this.loaded = true;
  }

  #parse(text, clientId) {
    if (!text) return null;
    let problem = "The identity's store contains something that is not an identity. Empty it to start as a new client.";
    try {
      const found = JSON.parse(text);
      if (typeof found.client_id === "string" && typeof found.resume_token === "string") {
        if (!clientId || found.client_id === clientId) return found;
        const advice = `Give ${clientId} a store of its own.`;
        problem = `This is the identity of ${found.client_id}, not of ${clientId}. ${advice}`;
      }
    } catch {
    }
    if (this.name !== null) return null;
    throw new AttemptFailed(new ConnectionFailed(problem), { final: true });
  }

  renew() {
    if (this.name === null || this.chosen || this.token === null) return false;
    console.warn(
      `ArqonBus: somebody else has logged in since, so ${this.clientId} cannot be resumed. A new client starts.`,
    );
    this.clientId = newClientId();
    this.token = null;
    return true;
  }

  async keep(clientId, token) {
    if (clientId === this.clientId && token === this.token) return;
    this.clientId = clientId;
    this.token = token;
    const { store } = this;
    if (store === null) return;
    try {
      await within(this.openTimeout, () => store.set(JSON.stringify({ client_id: clientId, resume_token: token })));
      this.kept = true;
    } catch (problem) {
      this.kept = false;
      console.warn("ArqonBus: the identity could not be stored, so it ends with this page or process:", problem);
    }
  }

  release() {
    this.#released = true;
    this.#unlock?.();
  }

  async #lock() {
    const { locks } = globalThis.navigator ?? {};
    if (!locks?.request || this.#unlock) return;
    await (
      new Promise((resolve, reject) => {
        const waiting = new AbortController();
        const timer = setTimeout(() => {
          waiting.abort();
          const text = `Another page of this browser is connected with the identity "${this.name}".`;
          reject(new AttemptFailed(new IdentityInUse(text), { final: false }));
        }, HAND_OVER);
        const acquired = () => {
          clearTimeout(timer);
          resolve();
          if (this.#released) return undefined;
          return (new Promise((unlock) => (this.#unlock = unlock)));
        };
        locks.request(`arqonbus.identity.${this.name}`, { signal: waiting.signal }, acquired).catch((problem) => {
          if (problem?.name === "AbortError") return;
          clearTimeout(timer);
          resolve();
        });
      })
    );
  }
}

// --- connect.js ---

function registrationOf({ clientId, clientType = "app", room, channel, screenName, avatar, personality, card }) {
  const registration = {
    ...{ client_id: clientId, client_type: clientType, room, channel },
    ...{ screen_name: screenName, avatar, personality, card },
  };
  for (const key of Object.keys(registration)) {
    if (registration[key] === undefined || registration[key] === null) delete registration[key];
  }
  const fault = frameFault(JSON.stringify(registration));
  if (fault) throw fault;
  return registration;
}

const isIdentity = (identity) =>
  typeof identity === "string" ? identity : typeof identity.get === "function" && typeof identity.set === "function";

function checkCredentials({ ticket, identity = null, resumeToken = null, clientId }) {
  if (ticket && typeof ticket !== "function") {
    throw new TypeError("A ticket is valid for one connection. Give a function that fetches one: `ticket: () => …`.");
  }
  if (identity !== null && !isIdentity(identity)) {
    const store = "`identity: { get: () => …, set: (text) => … }`";
    throw new TypeError(`An identity is a name, or a store for one text: ${store}.`);
  }
  if (resumeToken !== null && (identity !== null || !clientId)) {
    throw new TypeError("A `resumeToken` needs the `clientId` that it proves. Do not combine it with `identity`.");
  }
}

async function connect(url = "ws://localhost:8765/", options = {}) {
  const Implementation = options.WebSocket ?? globalThis.WebSocket;
  if (!Implementation) {
    throw new TypeError(
      "This runtime has no WebSocket of its own (node 20 needs --experimental-websocket). " +
        'Give one: connect(url, { WebSocket: (await import("ws")).WebSocket })',
    );
  }
  const registration = registrationOf(options);
  checkCredentials(options);
  const { token, ticket, onFrame, openTimeout = 10_000, identity = null, resumeToken = null } = options;
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

// --- index.js ---

const VERSION = "1.0.0";

export {
  ArqonBusError,
  AskFailed,
  Backoff,
  Bus,
  BusClosed,
  CLOSE_CODES,
  ClaimLost,
  ClosedByServer,
  ConnectionFailed,
  ConnectionLost,
  Fold,
  IdentityInUse,
  Job,
  JobWorker,
  Message,
  OutStream,
  Responder,
  RoomSubscription,
  ServerError,
  Steer,
  StreamReset,
  Subscription,
  TimedOut,
  VERSION,
  comesBack,
  connect,
  fold,
  splitAddress,
};
