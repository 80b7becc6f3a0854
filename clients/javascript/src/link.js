/** One WebSocket connection, from its handshake to its end. */

import { askApplication, callListener } from "./application.js";
import { ArqonBusError, AttemptFailed, ClosedByServer, ConnectionFailed, ServerError, comesBack } from "./errors.js";
import { replacementFor } from "./frames.js";
import { sleep } from "./timing.js";

/** @import { ConnectOptions } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */

/**
 * How to connect.
 * @typedef {object} Dial
 * @property {string} url
 * @property {ConnectOptions["token"]} [token]
 * @property {ConnectOptions["ticket"]} [ticket]
 * @property {ConnectOptions["onFrame"]} [onFrame]
 * @property {(problem: ArqonBusError) => void} [onUnreadable]
 * @property {number} openTimeout milliseconds
 * @property {new (url: string, protocols?: string | string[]) => any} WebSocket
 */

/** How long the close may take that follows a refusal, in milliseconds. */
const CLOSE_AFTER_REFUSAL = 1_000;

/**
 * The ticket or token as a sub-protocol, or null without either. Throws AttemptFailed when the application's function
 * fails: the next attempt asks again.
 * @param {Dial} dial
 */
async function credential(dial) {
  for (const [name, prefix] of /** @type {const} */ ([
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

/** A connection. Frames wait in a queue until `deliver` is called, so their order is that of the wire. */
export class Link {
  /** @type {(code: number) => void} */
  #finish = () => {};

  /**
   * @param {any} socket a WebSocket
   * @param {Dial} dial
   */
  constructor(socket, dial) {
    this.socket = socket;
    this.dial = dial;
    /** @type {Frame} */
    this.welcome = {};
    /**
     * The last error frame that answered no request. It usually explains the close that follows.
     * @type {ServerError | null}
     */
    this.lastError = null;
    this.registered = false;
    /** @type {number | null} */
    this.closeCode = null;
    this.receivedAt = performance.now();
    /** How many frames arrived. */
    this.frames = 0;
    /** @type {((frame: Frame) => void) | null} */
    this.handler = null;
    /** @type {Frame[]} */
    this.queue = [];
    /** @type {(() => void) | null} */
    this.wake = null;
    /** @type {Promise<number>} */
    this.ended = new Promise((resolve) => (this.#finish = resolve));
    socket.onmessage = (/** @type {any} */ event) => this.#received(event.data);
    socket.onclose = (/** @type {any} */ event) => this.#closed(event.code || 1006);
    socket.onerror = () => {
      // Node 20 reports a failed connection by an error alone. Elsewhere the close event follows.
      if (socket.readyState === 0) this.#closed(1006);
    };
  }

  /**
   * Connect and receive the welcome frame. Throws AttemptFailed.
   * @param {Dial} dial
   */
  static async dial(dial) {
    const shown = await credential(dial);
    const protocols = shown ? ["arqonbus.v1", shown] : ["arqonbus.v1"];
    let socket;
    try {
      socket = new dial.WebSocket(dial.url, protocols);
    } catch (problem) {
      const cause = /** @type {Error} */ (problem).message;
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

  /**
   * Send the registration; the payload of `registered`. Throws AttemptFailed.
   * @param {Frame} registration
   * @returns {Promise<Frame>}
   */
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

  /**
   * Pass every frame from now on, and those in the queue, to `handler` in order.
   * @param {(frame: Frame) => void} handler
   */
  deliver(handler) {
    this.handler = handler;
    for (const frame of this.queue.splice(0)) handler(frame);
  }

  /**
   * Send a text; false when the connection is not open.
   * @param {string} text
   */
  send(text) {
    if (this.socket.readyState !== 1) return false;
    callListener(this.dial.onFrame, "out", text);
    this.socket.send(text);
    return true;
  }

  /** End it. A dead connection does not answer the closing handshake, so nothing waits for that. */
  close(code = 1000) {
    try {
      this.socket.close(1000);
    } catch {
      // The socket is not open yet. Some implementations throw, and close it nevertheless.
    }
    this.#closed(code);
  }

  /**
   * The next frame. Throws AttemptFailed.
   * @param {string} step what the server has to do, for the error
   * @returns {Promise<Frame>}
   */
  async #next(step) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
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

  /** What an error frame before the registration means. The close that usually follows says more. */
  async #refusal() {
    await Promise.race([this.ended, sleep(CLOSE_AFTER_REFUSAL)]);
    if (this.closeCode !== null) return this.#failure();
    const error = /** @type {ServerError} */ (this.lastError);
    this.close();
    return new AttemptFailed(error, { final: !error.retry, retryAfter: error.retryAfter });
  }

  /** What the end of the connection means for this attempt. */
  #failure() {
    const error = this.lastError;
    const code = /** @type {number} */ (this.closeCode);
    if (!comesBack(code)) return new AttemptFailed(new ClosedByServer(code, error), { final: true });
    const cause = error ?? new ConnectionFailed(`${this.dial.url} cannot be reached (${code})`);
    return new AttemptFailed(cause, { final: false, retryAfter: error ? error.retryAfter : null });
  }

  /** @param {any} data a text, or bytes */
  #received(data) {
    if (this.closeCode !== null) return;
    this.receivedAt = performance.now();
    this.frames += 1;
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    let frame;
    try {
      frame = JSON.parse(text);
    } catch (problem) {
      const cause = /** @type {Error} */ (problem).message;
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

  /** @param {number} code */
  #closed(code) {
    if (this.closeCode !== null) return;
    this.closeCode = code;
    this.socket.onclose = this.socket.onmessage = null;
    this.#finish(code);
  }
}
