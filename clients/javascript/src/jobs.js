/** A job of a work channel, as the worker has it that claimed it. */

import { ArqonBusError, ClaimLost, ConnectionLost, ServerError, isTransient } from "./errors.js";
import { Message } from "./message.js";
import { Backoff } from "./pacing.js";
import { sleep } from "./timing.js";

/** @import { ClaimedJob, JobDone, JobReturned } from "../arqonbus.d.ts" */
/** @import { Requests } from "./requests.js" */

/** The shortest pause between two looks whether a job is still that of its worker, in milliseconds. */
const SHORTEST_LOOK = 1_000;

/**
 * What a job needs of its bus.
 * @typedef {object} JobHost
 * @property {Requests} requests
 * @property {() => number} connections how many connections there were
 * @property {(job: Job) => void} onOver nothing more is to be said of the job
 */

/**
 * Whether an error says that the job is no longer that of this worker.
 * @param {unknown} problem
 * @returns {problem is ServerError}
 */
const isGone = (problem) =>
  problem instanceof ClaimLost || (problem instanceof ServerError && problem.code === "CLAIM_NOT_FOUND");

/** One claimed job. `bus.work` gives it to a handler, and `bus.claim` to code that finishes jobs itself. */
export class Job {
  #lost = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #look;

  /**
   * @param {JobHost} host
   * @param {ClaimedJob} claimed
   * @param {string} address
   */
  constructor(host, claimed, address) {
    this._host = host;
    /** The name of this acquisition. It is a secret. */
    this.claim = claimed.claim;
    /** How often the job was claimed, this time included. */
    this.attempt = claimed.attempt;
    /** How long the job is this worker's without a renewal, in milliseconds. */
    this.lease = claimed.lease * 1000;
    this.address = address;
    this.message = new Message(claimed.message);
    /**
     * `claimed` as long as it is this worker's.
     * @type {"claimed" | "done" | "released" | "rejected" | "lost"}
     */
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

  /** Aborts when the job is no longer this worker's. `lost.reason` is then the error. Give it to `fetch`. */
  get lost() {
    return this.#lost.signal;
  }

  /**
   * The job is done. `result` is any JSON. If the job is a question, `result` becomes its reply.
   * Throws ClaimLost.
   * @param {unknown} [result]
   * @returns {Promise<JobDone>}
   */
  done(result = null) {
    return this.#finish("done", { result: result ?? null });
  }

  /**
   * Give the job back. It is out again after `delay` milliseconds. Throws ClaimLost.
   * @param {{ delay?: number, error?: string | null }} [options]
   * @returns {Promise<JobReturned>}
   */
  release({ delay = 0, error = null } = {}) {
    return this.#finish("release", { delay: delay / 1000, ...(error === null ? {} : { error }) });
  }

  /**
   * The job can never be done: it is dead at once. Throws ClaimLost.
   * @param {string | null} [error]
   * @returns {Promise<JobReturned>}
   */
  reject(error = null) {
    return this.#finish("reject", error === null ? {} : { error });
  }

  /**
   * Ask whether the job is still this worker's, and renew the lease. The server renews the leases of connected clients
   * by itself. Throws ClaimLost.
   */
  async renew() {
    try {
      const { lease } = await this._host.requests.command("renew", { claim: this.claim }, { repeat: true });
      this.lease = lease * 1000;
    } catch (problem) {
      if (isGone(problem)) this.#lose(problem);
      throw problem;
    }
  }

  /**
   * @param {"done" | "release" | "reject"} command
   * @param {Record<string, unknown>} parameters
   */
  async #finish(command, parameters) {
    const connections = this._host.connections();
    try {
      const answer = await this._host.requests.command(command, { claim: this.claim, ...parameters }, { repeat: true });
      this.#over(command === "release" ? "released" : command === "reject" ? "rejected" : "done");
      return answer;
    } catch (problem) {
      if (!isGone(problem)) throw problem;
      // The answer to the first of two equal frames may have been lost with its connection.
      const mayBeOwn = command !== "done" && connections !== this._host.connections();
      if (mayBeOwn) {
        this.#over(command === "release" ? "released" : "rejected");
        return { claim: this.claim, seq: this.seq, state: "ready" };
      }
      this.#lose(problem);
      throw problem;
    }
  }

  /**
   * Finish it for code that cannot try again: as long as the server is away or busy, try again.
   * @param {() => Promise<unknown>} finish
   */
  async _surely(finish) {
    const delay = new Backoff();
    for (;;) {
      try {
        await finish();
        return;
      } catch (problem) {
        const { failure } = this._host.requests.line;
        if (problem === failure || !(isTransient(problem) || problem instanceof ConnectionLost)) throw problem;
        await sleep(delay.pause(/** @type {any} */ (problem).retryAfter ?? null));
      }
    }
  }

  /** Look from time to time whether the job is still this worker's: a person may have discarded it. */
  #watch() {
    this.#look = setTimeout(
      async () => {
        try {
          await this.renew();
        } catch (problem) {
          // `lost` says it, or the next look.
          if (!(problem instanceof ArqonBusError)) throw problem;
        }
        if (this.state === "claimed") this.#watch();
      },
      Math.max(SHORTEST_LOOK, this.lease / 2),
    );
    // A job that nobody finishes must not keep a program alive.
    /** @type {any} */ (this.#look).unref?.();
  }

  /** @param {Error} problem */
  #lose(problem) {
    if (this.state !== "claimed") return;
    this.#over("lost");
    this.#lost.abort(problem);
  }

  /** @param {Job["state"]} state */
  #over(state) {
    clearTimeout(this.#look);
    this.state = state;
    this._host.onOver(this);
  }

  /**
   * The bus has ended, so nothing can be said of the job any more.
   * @param {Error} error
   */
  _fail(error) {
    if (this.state !== "claimed") return;
    this.#over("lost");
    this.#lost.abort(error);
  }
}
