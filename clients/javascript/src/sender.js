/** Sends the appends of one streamed message: in order, a few at once, and again after a break. */

import { ConnectionLost, ServerError, isTransient, streamEnded } from "./errors.js";
import { newId } from "./frames.js";
import { Backoff } from "./pacing.js";
import { sleep } from "./timing.js";

/** @import { JsonObject, StreamState } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */
/** @import { Line } from "./line.js" */
/** @import { Append, Outflow } from "./outflow.js" */
/** @import { Requests } from "./requests.js" */

/**
 * What the server says about a stream in an ack.
 * @typedef {{ of: string, have: number, state: StreamState, attempt: number, stopping?: boolean }} StreamTold
 */

/**
 * What a sender tells its stream.
 * @typedef {object} SenderHooks
 * @property {(append: Append) => void} onCommitted
 * @property {() => void} onStop somebody asks to stop
 * @property {(answer: Frame, payload: JsonObject) => void} onEnd the end is durable
 * @property {(problem: ServerError, append: Append) => void} onFault the server refused this append alone
 * @property {(problem: unknown) => void} onFailure nothing more can be sent
 * @property {() => void} onProgress
 */

/** So many appends wait for their answers at once. */
const WINDOW = 16;
/** The faults of one append. The message stays open, and what the server does not have is given up. */
const FAULTS = ["FRAME_TOO_LARGE", "VALIDATION_ERROR", "INVALID_JSON"];

/** Brings what an `Outflow` holds to the server. */
export class Sender {
  /** Counts the new beginnings, so that refusals from before one are not obeyed after it. */
  #round = 0;
  #syncing = false;
  /** Whether gathered text goes as soon as there is room. */
  #due = false;
  #stopped = false;
  /** @type {{ problem: ServerError, append: Append } | null} why no more text fits, while it sends what still does */
  #full = null;

  /**
   * @param {{ line: Line, requests: Requests }} host
   * @param {Outflow} flow
   * @param {{ of: string, opening: Frame | null, token: string | null }} stream `opening` is sent again after a break
   * @param {SenderHooks} hooks
   */
  constructor(host, flow, stream, hooks) {
    this.host = host;
    this.flow = flow;
    this.stream = stream;
    this.hooks = hooks;
  }

  /** Nothing more is sent. */
  stop() {
    this.#stopped = true;
  }

  /** Send the text that has gathered. While the server is behind, it goes on gathering. */
  flush() {
    this.#due = this.#syncing || this.flow.underway + this.flow.unsent >= WINDOW;
    if (!this.#due) this.flow.roll();
    this.pump();
  }

  /** Send what has its number, as far as there is room. */
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

  /**
   * @param {Append} append
   * @param {number} round
   */
  async #send(append, round) {
    const { of, token } = this.stream;
    /** @type {Frame} */
    const frame = { type: "append", of, ...append, ack: true, id: newId() };
    if (token) frame.token = token;
    try {
      const answer = await this.host.requests.request(frame, { repeat: false });
      this.#told(answer.stream, Boolean(append.end));
      if (append.end) this.hooks.onEnd(answer, append.payload ?? {});
      this.#goOn();
    } catch (problem) {
      if (round === this.#round && !this.#stopped) this.#refused(/** @type {any} */ (problem), append);
    }
  }

  /**
   * @param {StreamTold} told
   * @param {boolean} [ended]
   */
  #told(told, ended = false) {
    for (const append of this.flow.acked(told.have, ended)) this.hooks.onCommitted(append);
    if (told.stopping) this.hooks.onStop();
  }

  /**
   * @param {any} problem
   * @param {Append} append
   */
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

  /**
   * @param {ServerError} problem
   * @param {Append} append
   */
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

  /**
   * @param {{ problem: ServerError, append: Append }} fault
   * @param {Append} [refused] what cannot be sent
   */
  #giveUp({ problem, append }, refused = append) {
    this.#full = null;
    this.flow.drop(refused);
    this.hooks.onFault(problem, append);
  }

  // --- breaks ---

  /**
   * After a break: ask how far the server is, and send the rest.
   * @param {number | null} retryAfter milliseconds that the server asked for; 0 to begin at once
   */
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

  /**
   * Open it again under the same id: the server says how far it is. An adopted one just goes on.
   * @returns {Promise<boolean>} whether that is known
   */
  async #askHave() {
    await this.host.line.whenUp();
    if (!this.stream.opening || this.#stopped) return true;
    let told;
    try {
      told = (await this.host.requests.request(this.stream.opening, { repeat: true })).stream;
    } catch (problem) {
      if (isTransient(problem)) return false;
      // The server has forgotten the id, or the right is gone. The next append says what holds.
      if (problem instanceof ServerError) return true;
      throw problem;
    }
    if (told) this.#told(told);
    if (told && told.state !== "open" && !this.flow.ending) throw streamEnded(told);
    return true;
  }
}

/** @param {ServerError} problem */
const tooMuch = ({ code, number, reason: message, details }) =>
  new ServerError({
    ...{ code, number, details },
    message: `${message} That limit is ARQONBUS_FRAME_BYTES. The server keeps the text that fits.`,
  });
