/** Whether the client is connected. `Connection` changes it, and everything that sends waits for it. */

/** @import { Link } from "./link.js" */

/** The current connection, if any, and what ended the bus for good. */
export class Line {
  constructor() {
    /** @type {Link | null} */
    this.link = null;
    /** Whether the link is registered, and the unanswered requests of the link before it were sent again. */
    this.up = false;
    /** @type {Error | null} what ended the bus for good */
    this.failure = null;
    /** @type {Set<() => void>} */
    this.waiters = new Set();
  }

  get connected() {
    return this.up && !this.failure;
  }

  /** Wait until it is up. Throws what ended the bus for good. */
  async whenUp() {
    while (!this.up && !this.failure) await this.change();
    if (this.failure) throw this.failure;
  }

  /**
   * Wait until the line is up or the bus has ended. `waiting.forget()` ends the wait earlier, and leaves nothing here.
   * @param {{ forget?: () => void }} [waiting]
   * @returns {Promise<void>}
   */
  change(waiting = {}) {
    return new Promise((resolve) => {
      this.waiters.add(resolve);
      waiting.forget = () => {
        this.waiters.delete(resolve);
        resolve();
      };
    });
  }

  /** Wake everything that waits for a change. */
  wakeAll() {
    for (const wake of this.waiters) wake();
    this.waiters.clear();
  }
}
