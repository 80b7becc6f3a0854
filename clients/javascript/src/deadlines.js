/** Whether the time of a question is over. The server's clock counts, since it ends the question. */

/** @import { Message } from "./message.js" */

/** How far the clocks of two servers may differ, in milliseconds. */
const BETWEEN_SERVERS = 1_000;
/** How far the clock of this machine may differ from the server's, where the server's time is not known. */
const FROM_HERE = 60_000;

/** Knows a time that is on the server now, or was a moment ago. So no question counts as over that is still open. */
export class Deadlines {
  /** @type {number | null} */
  #server = null;
  #since = 0;

  /**
   * Ask the server for its time.
   * @param {() => Promise<{ timestamp: string }>} ping
   */
  async learn(ping) {
    try {
      const time = Date.parse((await ping()).timestamp);
      // The answer was on its way for a while, so the time on the server is later than this.
      if (!Number.isNaN(time)) [this.#server, this.#since] = [time, performance.now()];
    } catch {
      // The clock of this machine must do.
    }
  }

  /**
   * Whether nobody waits for the reply to a question any more.
   * @param {Message} question
   */
  over({ raw, timestamp }) {
    const timeout = Number(raw.ask?.timeout) * 1000;
    if (timestamp === null) return false;
    const ended = timestamp.getTime() + timeout;
    if (this.#server === null) return ended + FROM_HERE < Date.now();
    return ended + BETWEEN_SERVERS < this.#server + performance.now() - this.#since;
  }
}
