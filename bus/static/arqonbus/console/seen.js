/** Tells the server how far the visitor has looked at a channel, so that the list of rooms shows what is new. */

/** The shortest time between two marks, in milliseconds. */
const PAUSE = 1_000;

/** The mark of one channel that is in sight. */
export class Seen {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #next = 0;
  #marked = -1;
  #over = false;

  /**
   * @param {import("./session.js").App} app
   * @param {string} address
   */
  constructor(app, address) {
    this.app = app;
    this.address = address;
    this.seq = 0;
    this.visible = () => this.#plan();
    document.addEventListener("visibilitychange", this.visible);
  }

  /**
   * The newest messages up to `seq` are in sight.
   * @param {number | null | undefined} seq
   */
  reached(seq) {
    if (!Number.isInteger(seq) || Number(seq) <= this.seq) return;
    this.seq = Number(seq);
    this.app.rooms.read(this.address, this.seq);
    this.#plan();
  }

  /** The visitor looks elsewhere. What was seen is marked nevertheless. */
  close() {
    document.removeEventListener("visibilitychange", this.visible);
    if (this.#timer) this.#mark();
    this.#over = true;
  }

  #plan() {
    if (this.#over || this.#timer || document.hidden || this.seq <= this.#marked) return;
    this.#timer = setTimeout(() => this.#mark(), Math.max(0, this.#next - performance.now()));
  }

  async #mark() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { seq } = this;
    if (seq <= this.#marked) return;
    this.#marked = seq;
    this.#next = performance.now() + PAUSE;
    try {
      await this.app.session.bus.mark(this.address, seq);
    } catch (problem) {
      // Who may not read the history has no mark. After any other fault the next message tries it again.
      this.#over = [400, 403, 404].includes(/** @type {any} */ (problem).number);
      return;
    }
    this.#plan();
  }
}
