/** Runs a handler for each job of a work channel. */

import { report } from "./application.js";
import { BusClosed, ConnectionLost, errorText, isRefusedForGood, isTransient } from "./errors.js";
import { Backoff } from "./pacing.js";
import { sleep } from "./timing.js";

/** @import { JobHandler, WorkOptions } from "../arqonbus.d.ts" */
/** @import { Claims } from "./claims.js" */
/** @import { Job } from "./jobs.js" */

/** The longest pause before a job whose handler failed is out again, in milliseconds. */
const LONGEST_DELAY = 300_000;
/** The server has too many claims of this client for now. */
const BUSY = "LIMIT_REACHED";

/** @param {Job[]} jobs that came when nothing here wants them any more */
function giveBack(jobs) {
  for (const job of jobs) job._surely(() => job.release()).catch(() => {});
}

/** A handler at work on one channel. `bus.work` makes it. */
export class JobWorker {
  /** @type {Set<Promise<void>>} */
  #running = new Set();
  #delay = new Backoff();
  /** @type {() => void} */
  #close = () => {};
  /** @type {Promise<void>} */
  #closing = new Promise((resolve) => (this.#close = resolve));

  /**
   * @param {Claims} claims
   * @param {string} address
   * @param {JobHandler} handler
   * @param {WorkOptions & { onError: (problem: unknown) => void }} options
   */
  constructor(claims, address, handler, { concurrency = 1, wait = 25_000, onError }) {
    if (!(Number.isInteger(concurrency) && concurrency >= 1)) throw new RangeError("`concurrency` must be 1 or more.");
    if (typeof handler !== "function") throw new TypeError("A handler is a function: `bus.work(address, (job) => …)`.");
    this.claims = claims;
    this.address = address;
    this.handler = handler;
    this.concurrency = concurrency;
    this.wait = wait;
    this.onError = onError;
    /** @type {unknown} what ended it, or null */
    this.failure = null;
    this.closed = false;
    /** @type {Promise<void>} resolves when it claims no more, and its last handler has ended */
    this.ended = this.#run();
  }

  /** How many handlers are running. */
  get running() {
    return this.#running.size;
  }

  /** Claim no more, and wait for the handlers that are running. */
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
    /** @type {Job[]} */
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

  /** @param {any} problem */
  async #refused(problem) {
    if (problem === this.claims.line.failure) throw problem;
    if (problem instanceof ConnectionLost) return;
    if (!isTransient(problem) && problem?.code !== BUSY) throw problem;
    await this.#pause(problem.retryAfter ?? null);
  }

  /** @param {number | null} retryAfter milliseconds that the server asked for */
  async #pause(retryAfter) {
    await Promise.race([sleep(this.#delay.pause(retryAfter)), this.#closing]);
  }

  /** @param {Job} job */
  #start(job) {
    const running = this.#handle(job)
      .catch((problem) => problem instanceof BusClosed || this.onError(problem))
      .then(() => void this.#running.delete(running));
    this.#running.add(running);
  }

  /** @param {Job} job */
  async #handle(job) {
    /** @type {unknown} */
    let result;
    try {
      result = await this.handler(job, this);
    } catch (problem) {
      // The end of the work is no fault of the handler.
      if (job.state === "lost" && problem === job.lost.reason) return;
      report(problem);
      if (job.state === "claimed") await this.#release(job, problem);
      return;
    }
    if (job.state === "lost") throw job.lost.reason;
    if (job.state === "claimed") await this.#done(job, result);
  }

  /**
   * @param {Job} job
   * @param {unknown} result what its handler returned
   */
  async #done(job, result) {
    try {
      await job._surely(() => job.done(result));
    } catch (problem) {
      if (job.state === "claimed" && problem !== this.claims.line.failure) {
        // Another attempt would end in the same way.
        if (isRefusedForGood(problem))
          await job._surely(() => job.reject(`The result was refused. ${errorText(problem)}`));
        else await this.#release(job, problem);
      }
      throw problem;
    }
  }

  /**
   * @param {Job} job
   * @param {unknown} problem
   */
  async #release(job, problem) {
    const delay = Math.min(LONGEST_DELAY, 1_000 * 2 ** job.attempt);
    await job._surely(() => job.release({ delay, error: errorText(problem) }));
  }
}
