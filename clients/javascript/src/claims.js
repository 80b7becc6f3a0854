/** The jobs that this client has claimed, and how it claims more. */

import { ConnectionLost, TimedOut } from "./errors.js";
import { Job } from "./jobs.js";
import { KeyedQueue } from "./pacing.js";

/** @import { ClaimedJob } from "../arqonbus.d.ts" */
/** @import { JobHost } from "./jobs.js" */
/** @import { Line } from "./line.js" */
/** @import { Requests } from "./requests.js" */

/** The longest wait that the server allows, in milliseconds. */
const MOST_WAIT = 25_000;

/** Claims jobs. A claim whose answer was lost with its connection is found again. */
export class Claims {
  /** @type {Map<string, Set<Job>>} by the address of their channel */
  #held = new Map();
  /** @type {Map<string, number>} the connection on which the server was told which jobs of a channel are held here */
  #told = new Map();
  /** @type {Map<string, number>} how many jobs of a channel may have been in answers that did not come */
  #owed = new Map();
  #queue = new KeyedQueue();
  /** @type {JobHost} */
  #host;

  /** @param {{ line: Line, requests: Requests, connections: () => number }} parts */
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

  /**
   * Claim at most `max` jobs. With `wait` milliseconds the server answers when there is a job, and with none after
   * that time. Throws ServerError, and ConnectionLost after a break.
   * @param {string} address
   * @param {{ max: number, wait: number }} options
   * @returns {Promise<Job[]>}
   */
  async claim(address, { max, wait }) {
    await this.line.whenUp();
    const found = await this.#queue.run(address, () => this.#recover(address, max));
    return found.length ? found : this.#claim(address, { max, wait });
  }

  /**
   * The first claim on a connection: jobs that the server counts as this client's, and of which it never heard.
   * @param {string} address
   * @param {number} max
   */
  async #recover(address, max) {
    const connections = this.connections();
    if (this.#told.get(address) === connections) return [];
    const have = [...(this.#held.get(address) ?? [])].map((job) => job.claim);
    const jobs = await this.#claim(address, { max, wait: 0, have });
    const owed = (this.#owed.get(address) ?? 0) - jobs.length;
    // A full answer may have left some out.
    if (jobs.length === max && owed > 0) this.#owed.set(address, owed);
    else {
      this.#owed.delete(address);
      this.#told.set(address, connections);
    }
    return jobs;
  }

  /**
   * @param {string} address
   * @param {{ max: number, wait: number, have?: string[] }} options
   * @returns {Promise<Job[]>}
   */
  async #claim(address, { max, wait, have }) {
    const seconds = Math.min(wait, MOST_WAIT) / 1000;
    const parameters = { channel: address, max, wait: seconds, ...(have ? { have } : {}) };
    try {
      const timeout = wait + this.requests.timeout;
      const { claims } = await this.requests.command("claim", parameters, { repeat: false, timeout });
      return claims.map((/** @type {ClaimedJob} */ claimed) => this.#add(address, claimed));
    } catch (problem) {
      // The server may have handed out jobs in an answer that did not come.
      if (problem instanceof TimedOut || problem instanceof ConnectionLost) {
        this.#told.delete(address);
        this.#owed.set(address, (this.#owed.get(address) ?? 0) + max);
      }
      throw problem;
    }
  }

  /**
   * @param {string} address
   * @param {ClaimedJob} claimed
   */
  #add(address, claimed) {
    const job = new Job(this.#host, claimed, address);
    const held = this.#held.get(address) ?? new Set();
    this.#held.set(address, held.add(job));
    return job;
  }

  /**
   * The bus has ended.
   * @param {Error} error
   */
  fail(error) {
    for (const held of [...this.#held.values()]) for (const job of [...held]) job._fail(error);
  }
}
