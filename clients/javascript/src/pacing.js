/** How often and how much at once: pauses between attempts, frames a second, unacknowledged publishes. */

import { sleep } from "./timing.js";

/** Growing pauses with jitter. A `retry_after` of the server is obeyed, and the jitter is added to it. */
export class Backoff {
  /** @param {{ first?: number, most?: number, factor?: number, jitter?: () => number }} [options] */
  constructor({ first = 250, most = 15_000, factor = 2, jitter = Math.random } = {}) {
    this.first = first;
    this.most = most;
    this.factor = factor;
    this.jitter = jitter;
    this.attempts = 0;
  }

  /**
   * Milliseconds before the next attempt. Each call makes the following pause longer.
   * @param {number | null} [retryAfter] milliseconds that the server asked for
   */
  pause(retryAfter = null) {
    const step = Math.min(this.most, this.first * this.factor ** Math.min(this.attempts, 32));
    this.attempts += 1;
    // The server spreads its clients itself. The client only spreads them within a tenth of a second.
    if (retryAfter !== null) return Math.max(0, retryAfter) + 100 * this.jitter();
    // Half of the pause is random, so that the clients of a server that failed do not all return at once.
    return step * (0.5 + 0.5 * this.jitter());
  }

  /** Start with a short pause again, because the connection is back. */
  reset() {
    this.attempts = 0;
  }
}

/** Keeps the client below the server's limit of frames a second, so that the server refuses none. */
export class Pacer {
  constructor() {
    this.rate = 0;
    this.level = 0;
    this.updated = performance.now();
    this.heldUntil = 0;
    /** @type {Promise<void> | null} */
    this.last = null;
  }

  /** @param {unknown} rate frames a second, from the welcome frame */
  limit(rate) {
    this.rate = typeof rate === "number" && rate > 0 ? 0.9 * rate : 0;
    this.level = this.rate;
    this.updated = performance.now();
  }

  /**
   * Send no frame for some time.
   * @param {number} time milliseconds
   */
  hold(time) {
    this.heldUntil = Math.max(this.heldUntil, performance.now() + time);
    this.level = 0;
  }

  /** Wait until one frame may be sent. Frames are sent in the order of the calls. */
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

/** A semaphore: at most `count` holders at once, and the others wait in order. */
export class Semaphore {
  /** @param {number} count */
  constructor(count) {
    this.free = count;
    /** @type {(() => void)[]} */
    this.waiting = [];
  }

  async acquire() {
    if (this.free > 0) this.free -= 1;
    else await /** @type {Promise<void>} */ (new Promise((resolve) => this.waiting.push(resolve)));
  }

  release() {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}

/** Runs the work of each key one after another, in the order of the calls. */
export class KeyedQueue {
  constructor() {
    /** @type {Map<string, Promise<void>>} the last work of each key */
    this.last = new Map();
  }

  /**
   * The result of `work`, which starts when the work before it with the same key has ended.
   * @template T
   * @param {string} key
   * @param {() => T | Promise<T>} work
   * @returns {Promise<T>}
   */
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
