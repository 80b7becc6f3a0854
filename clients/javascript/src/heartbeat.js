/** Finds connections that are dead although nothing closed them. */

/** @import { Link } from "./link.js" */

/** How soon a connection has to answer when there is reason to doubt it, in milliseconds. */
const SOON = 5_000;
/** A timer that fires so much too late belongs to a page in the background, or to a machine that slept. */
const LATE = 2_000;

/**
 * Pings a quiet connection, and ends one that does not answer. Browsers show neither the server's pings nor that the
 * network is gone.
 */
export class Heartbeat {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #due = 0;
  /**
   * The ping that was sent last: how many frames had arrived before it, how many bytes waited, and its deadline.
   * @type {{ frames: number, waiting: number, until: number } | null}
   */
  #ping = null;
  /** Whether a late timer gave the connection another chance. */
  #spared = false;

  /**
   * @param {Link} link
   * @param {number} interval milliseconds of silence before a ping, and for its answer
   */
  constructor(link, interval) {
    this.link = link;
    this.interval = interval;
    this.soon = Math.min(SOON, interval);
    this.#schedule(interval);
  }

  stop() {
    clearTimeout(this.#timer);
  }

  /** Ping now, and expect an answer within `time` milliseconds. */
  check(time = this.soon) {
    const { link } = this;
    const until = performance.now() + time;
    const open = this.#openPing();
    if (link.closeCode !== null || (open && open.until <= until)) return;
    const sent = open ?? { frames: link.frames, waiting: link.socket.bufferedAmount };
    this.#ping = { ...sent, until };
    link.send(JSON.stringify({ type: "command", command: "ping" }));
    this.#schedule(time);
  }

  /** The ping that is not answered yet, or null. Any frame is an answer. */
  #openPing() {
    return this.#ping?.frames === this.link.frames ? this.#ping : null;
  }

  /** @param {number} time */
  #schedule(time) {
    clearTimeout(this.#timer);
    this.#due = performance.now() + time;
    this.#timer = setTimeout(() => this.#inspect(), time);
    /** @type {any} */ (this.#timer).unref?.();
  }

  #inspect() {
    const { link } = this;
    const now = performance.now();
    // The page could not see an answer meanwhile, and one that arrived may be queued behind this very timer.
    const late = now - this.#due > LATE;
    const open = this.#openPing();
    if (!open) {
      this.#ping = null;
      this.#spared = false;
      const quiet = now - link.receivedAt;
      if (late || quiet >= this.interval) this.check(late ? this.soon : this.interval);
      else this.#schedule(this.interval - quiet);
    } else if (link.socket.bufferedAmount < open.waiting || (late && !this.#spared)) {
      // A slow connection takes the bytes before the ping bit by bit. That is a sign of life, too.
      this.#spared = late;
      this.#ping = null;
      this.check();
    } else link.close(1006);
  }
}
