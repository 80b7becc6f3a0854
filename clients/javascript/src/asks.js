/** The questions of this client that wait for their reply. */

import { splitAddress } from "./addresses.js";
import { AskFailed, TimedOut, refusal } from "./errors.js";
import { Message } from "./message.js";

/** @import { Frame } from "./frames.js" */

/** How much later than the server this client gives up, in milliseconds. The server says who did not answer. */
const GRACE = 5_000;
/** So many replies are remembered as taken, because a break may bring them again. */
const REMEMBERED = 1_000;

/**
 * @typedef {object} Waiting
 * @property {(reply: Message) => void} resolve
 * @property {(problem: unknown) => void} reject
 */

/** Gives each reply to the question that waits for it. */
export class Asks {
  /** @type {Map<string, Waiting>} by correlation */
  #open = new Map();
  /** @type {Set<string>} the ids of the replies that were taken, the oldest first */
  #taken = new Set();

  /**
   * The reply to a question, once it comes. Throws ServerError (ASK_TIMEOUT), AskFailed and TimedOut.
   * @param {string} id of the question's frame, which is its correlation
   * @param {string} to who is asked
   * @param {number} timeout milliseconds
   * @returns {Promise<Message>}
   */
  wait(id, to, timeout) {
    if (this.#open.has(id)) throw new RangeError(`A question with the id ${id} is waiting for its reply already.`);
    return new Promise((resolve, reject) => {
      const settled = (/** @type {(value: any) => void} */ finish) => (/** @type {any} */ value) => {
        clearTimeout(timer);
        this.#open.delete(id);
        finish(value);
      };
      const late = () => this.#open.get(id)?.reject(new TimedOut(`${to} did not answer within ${timeout / 1000} s.`));
      const timer = setTimeout(late, timeout + GRACE);
      this.#open.set(id, { resolve: settled(resolve), reject: settled(reject) });
    });
  }

  /**
   * A question could not be sent.
   * @param {string} id
   * @param {unknown} problem
   */
  failed(id, problem) {
    this.#open.get(id)?.reject(problem);
  }

  /**
   * A message of the inbox arrived. Returns whether it is the reply to a question of this client, which nobody else is
   * to read.
   * @param {Frame} frame
   */
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

  /**
   * An error of the server that names a frame: perhaps that of a question whose time is over.
   * @param {Frame} frame
   */
  refused(frame) {
    const error = frame.error ?? frame;
    if (error.code === "ASK_TIMEOUT") this.#open.get(String(frame.request_id))?.reject(refusal(error));
  }

  /**
   * The bus has ended.
   * @param {Error} error
   */
  fail(error) {
    for (const waiting of [...this.#open.values()]) waiting.reject(error);
  }
}

/**
 * Say in a frame whom it asks: one client, or a work channel.
 * @param {Frame} frame
 * @param {string} to a client id, or `room:channel`
 * @param {{ timeout: number, durable: boolean }} options
 * @returns {Frame}
 */
export function asking(frame, to, { timeout, durable }) {
  const ask = { timeout: timeout / 1000, ...(durable ? { durable } : {}) };
  const [room, channel] = to.includes(":") ? splitAddress(to) : ["", to];
  if (room === "" || room === "pm") return Object.assign(frame, { type: "private", to: [channel], ask });
  return Object.assign(frame, { room, channel, ask });
}
