/** Frames out, and the answers to them: what was sent, what waits, and what is sent again after a break. */

import { ConnectionLost, TimedOut, isBusy, refusal } from "./errors.js";
import { frameFault, newId, rewriteJson, tooDeep } from "./frames.js";
import { Backoff, Pacer } from "./pacing.js";
import { sleep } from "./timing.js";

/** @import { CommandOptions } from "../arqonbus.d.ts" */
/** @import { ServerError } from "./errors.js" */
/** @import { Frame, FrameLimits } from "./frames.js" */
/** @import { Line } from "./line.js" */
/** @import { Link } from "./link.js" */

/** @typedef {(answer: Frame) => void} OnAnswer runs before the client looks at any frame that follows the answer */

/**
 * A frame that is to be sent.
 * @typedef {object} Sending
 * @property {string} text
 * @property {boolean} sent
 * @property {boolean} done
 * @property {boolean} [repeat] whether sending it twice does no harm
 * @property {() => void} [forget] ends its wait for a connection
 */

/**
 * A frame that waits for its answer.
 * @typedef {object} Waiting
 * @property {string} id
 * @property {boolean} repeat
 * @property {OnAnswer | null} onAnswer
 * @property {(frame: Frame) => void} resolve
 * @property {(problem: unknown) => void} reject
 */

/** @typedef {Sending & Waiting} Pending */

/** Above so many unsent bytes in the socket, sending waits. */
const HIGH_WATER = 1024 * 1024;

/** The requests of one client. */
export class Requests {
  /** @type {Map<string, Pending>} */
  #pending = new Map();
  #pacer = new Pacer();
  /** @type {FrameLimits} */
  #limits = {};
  /** Whether the unanswered requests are being sent again after a RATE_LIMITED. */
  #repeating = false;

  /**
   * @param {Line} line
   * @param {number} timeout milliseconds for a request, breaks of the connection included
   * @param {(problem: ServerError) => void} onError gets the errors that answer no request
   */
  constructor(line, timeout, onError) {
    this.line = line;
    this.timeout = timeout;
    this.onError = onError;
  }

  /** @param {Record<string, number | undefined>} limits those of the welcome frame */
  setLimits(limits) {
    this.#pacer.limit(limits.frames_per_second);
    this.#limits = { bytes: limits.frame_bytes ?? 0, depth: limits.depth ?? 0 };
  }

  // --- requests ---

  /**
   * Run a command of the protocol. Throws ServerError, TimedOut and ConnectionLost.
   * @param {string} name
   * @param {Record<string, unknown>} [parameters]
   * @param {CommandOptions} [options]
   * @returns {Promise<any>} its `result`
   */
  async command(name, parameters = {}, { repeat = false, timeout = undefined, id = newId() } = {}) {
    const answer = await this.request({ type: "command", id, command: name, parameters }, { repeat, timeout });
    return answer.result;
  }

  /**
   * Send a frame and wait for its answer, with `repeat` also across breaks of the connection.
   * @param {Frame} frame
   * @param {{ repeat: boolean, timeout?: number, onAnswer?: OnAnswer | null }} options
   * @returns {Promise<Frame>}
   */
  async request(frame, { repeat, timeout = this.timeout, onAnswer = null }) {
    const text = this.encode(frame);
    const delay = new Backoff();
    const until = performance.now() + timeout;
    /** @type {Error | null} */
    let refused = null;
    for (;;) {
      try {
        return await this.#once(frame.id, text, repeat, onAnswer, until);
      } catch (problem) {
        const pause = delay.pause(/** @type {any} */ (problem).retryAfter ?? null);
        // The outcome is that of the last attempt, and the reason is what the attempts before it learned.
        if (refused && problem instanceof TimedOut) problem.message += ` Its last answer was: ${refused.message}`;
        if (!repeat || !isBusy(problem) || performance.now() + pause >= until) throw problem;
        refused = /** @type {Error} */ (problem);
        await sleep(pause);
      }
    }
  }

  /**
   * @param {string} id
   * @param {string} text
   * @param {boolean} repeat
   * @param {OnAnswer | null} onAnswer
   * @param {number} until
   * @returns {Promise<Frame>}
   */
  #once(id, text, repeat, onAnswer, until) {
    return new Promise((resolve, reject) => {
      if (this.#pending.has(id)) throw new RangeError(`A request with the id ${id} is waiting for its answer already.`);
      /** @type {<T>(finish: (value: T) => void) => (value: T) => void} */
      const settled = (finish) => (value) => {
        clearTimeout(timer);
        pending.forget?.();
        if (this.#pending.get(id) === pending) this.#pending.delete(id);
        pending.done = true;
        finish(value);
      };
      /** @type {Pending} */
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

  /**
   * Send a text without waiting for an answer. It waits for the connection at most `timeout` milliseconds.
   * @param {string} text
   * @param {number} [timeout]
   * @returns {Promise<void>}
   */
  send(text, timeout = this.timeout) {
    return new Promise((resolve, reject) => {
      /** @type {Sending} */
      const sending = { text, sent: false, done: false };
      /** @type {<T>(finish: (value: T) => void) => (value: T) => void} */
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

  /**
   * The text of a frame. Throws ServerError for what no server accepts, and what ended the bus.
   * @param {Frame | string} frame
   */
  encode(frame) {
    if (this.line.failure) throw this.line.failure;
    let text;
    try {
      text = typeof frame === "string" ? frame : JSON.stringify(frame);
    } catch (problem) {
      // The nesting is so deep that the encoder itself gave up.
      if (problem instanceof RangeError) throw tooDeep(this.#limits.depth);
      throw problem;
    }
    const fault = frameFault(text, this.#limits, typeof frame === "string" ? rewriteJson(text) : text);
    if (fault) throw fault;
    return text;
  }

  /** @param {Sending} pending */
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
      // If the link does not take it, the next connection sends it, or the next turn here.
      if (pending.repeat) pending.sent = true;
      pending.sent = link.send(pending.text) || pending.sent;
      if (!pending.sent) await link.ended;
    }
  }

  /** Wait until one frame may be sent: for the server's limit, and for a socket that has too much unsent. */
  async #turn() {
    await this.#pacer.turn();
    while (this.line.link && this.line.link.socket.bufferedAmount > HIGH_WATER) await sleep(10);
  }

  // --- answers ---

  /**
   * The server answered a request, or refused a frame without saying which.
   * @param {Frame} frame
   */
  answered(frame) {
    const failed = frame.type === "error" || frame.status === "error";
    if (frame.request_id != null) this.#settle(frame, failed);
    else if (failed) this.#refused(refusal(frame.error));
  }

  /**
   * @param {Frame} frame
   * @param {boolean} failed
   */
  #settle(frame, failed) {
    const pending = this.#pending.get(String(frame.request_id));
    // Nothing waits for the second answer to a frame that was sent twice.
    if (!pending) return;
    // The server did not take it and closes in a moment. The next connection sends it again.
    if (failed && pending.repeat && frame.error?.code === "RESTARTING") return;
    if (failed) pending.reject(refusal(frame.error));
    else {
      pending.onAnswer?.(frame);
      pending.resolve(frame);
    }
  }

  /** @param {ServerError} problem */
  #refused(problem) {
    if (problem.code === "RATE_LIMITED") {
      // It does not say which frame was refused. All unanswered ones are sent again, and their ids make that harmless.
      this.#pacer.hold(problem.retryAfter ?? 1_000);
      if (this.line.link && !this.#repeating) this.#repeatUnanswered(this.line.link);
    }
    this.onError(problem);
  }

  /** @param {Link} link */
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

  // --- breaks of the connection ---

  /**
   * Send on a new link, in their order, the requests that the last link left unanswered. Returns false when the link
   * broke meanwhile.
   * @param {Link} link
   */
  async sendAgain(link) {
    for (const pending of this.#repeatable()) {
      const fault = frameFault(pending.text, this.#limits);
      if (fault) {
        // This server accepts less than the one before.
        pending.reject(fault);
        continue;
      }
      await this.#pacer.turn();
      if (!link.send(pending.text)) return false;
      pending.sent = true;
    }
    return true;
  }

  /** The connection broke: requests that must not be repeated have no known outcome. */
  connectionLost() {
    for (const pending of [...this.#pending.values()]) {
      if (pending.sent && !pending.repeat) {
        pending.reject(new ConnectionLost("The connection was lost before the answer came."));
      }
    }
  }

  /**
   * The bus has ended: every request fails.
   * @param {Error} error
   */
  fail(error) {
    for (const pending of [...this.#pending.values()]) pending.reject(error);
  }
}
