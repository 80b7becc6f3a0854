/** Runs a handler for each question in this client's inbox, and sends what it returns as the reply. */

import { report } from "./application.js";
import { Deadlines } from "./deadlines.js";
import { ArqonBusError, BusClosed, ServerError, errorText, isTransient } from "./errors.js";
import { Backoff, Semaphore } from "./pacing.js";
import { sleep } from "./timing.js";

/** @import { AnswerHandler, JsonObject } from "../arqonbus.d.ts" */
/** @import { MarkReader } from "./marks.js" */
/** @import { Message } from "./message.js" */
/** @import { Subscription } from "./subscription.js" */

/** What the server says when nobody waits for a reply any more. */
const OVER = ["QUESTION_ENDED", "QUESTION_NOT_FOUND"];

/**
 * What a handler returned, as a payload.
 * @param {unknown} value
 * @returns {JsonObject}
 */
export function payloadOf(value) {
  if (value === undefined || value === null) return {};
  const isObject = typeof value === "object" && !Array.isArray(value);
  return /** @type {JsonObject} */ (isObject ? value : { result: value });
}

/**
 * Whether a reply was refused, by the server or because it is no JSON.
 * @param {unknown} problem
 */
const isUnsendable = (problem) => problem instanceof ServerError || !(problem instanceof ArqonBusError);

/** A handler that answers. `bus.answers` makes it. */
export class Responder {
  /** @type {Set<Promise<void>>} */
  #running = new Set();
  /** @type {Set<number>} the seqs of the questions whose handlers are running */
  #open = new Set();
  /** @type {{ seq: number, epoch: string | null } | null} the newest message that was read */
  #read = null;
  #deadlines = new Deadlines();

  /**
   * @param {Subscription} inbox
   * @param {AnswerHandler} handler
   * @param {{ concurrency: number, marks: MarkReader | null,
   *   reply: (question: Message, payload: JsonObject, error: string | null) => Promise<unknown>,
   *   ping: () => Promise<{ timestamp: string }>, onError: (problem: unknown) => void }} options `marks` moves the mark
   *   of the inbox behind what is answered, and `ping` tells the server's time
   */
  constructor(inbox, handler, { concurrency, marks, reply, ping, onError }) {
    if (typeof handler !== "function") throw new TypeError("A handler is a function: `bus.answers((question) => …)`.");
    this.inbox = inbox;
    this.handler = handler;
    this.free = new Semaphore(concurrency);
    this.marks = marks;
    this.reply = reply;
    this.ping = ping;
    this.onError = onError;
    /** @type {Promise<void>} resolves when it answers no more */
    this.ended = this.#listen();
  }

  /** Wait until questions reach the handler. Throws ServerError. */
  async open() {
    await this.inbox.open();
    return this;
  }

  /** Take no more questions, and wait for the handlers that are running. */
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
        if (isTransient(problem)) await sleep(delay.pause(/** @type {any} */ (problem).retryAfter ?? null));
        else {
          if (!(problem instanceof BusClosed)) this.onError(problem);
          break;
        }
      }
    }
    await Promise.all(this.#running);
    this.marks?.close();
  }

  /** @param {Message} message */
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

  /** Every message before the first open question is dealt with. */
  #moved() {
    if (!this.#read) return;
    const first = Math.min(...this.#open);
    const seq = Math.min(this.#read.seq, first - 1);
    if (seq > 0) this.marks?.reached({ seq, epoch: this.#read.epoch });
  }

  /** @param {Message} question */
  async #answer(question) {
    // It may have waited for its place.
    if (this.#deadlines.over(question)) return;
    /** @type {[payload: JsonObject, error: string | null]} */
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
        const { code, retryAfter = null } = /** @type {any} */ (problem);
        if (OVER.includes(code)) return;
        if (isTransient(problem) && !this.#deadlines.over(question)) await sleep(delay.pause(retryAfter));
        else if (answer[1] === null && isUnsendable(problem)) answer = [{}, errorText(problem)];
        else throw problem;
      }
    }
  }
}
