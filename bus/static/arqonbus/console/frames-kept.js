/** What this page said and heard: the visitor's frames, and apart from them the page's own, which are many. */
import { Ring } from "./store.js";

/** @typedef {import("./session.js").FrameRecord} FrameRecord */

/** The newest `size` frames of each of both kinds. So the page's own push none of the visitor's out. */
export class FramesKept {
  /** @param {number} size */
  constructor(size) {
    /** @type {Ring<FrameRecord>} */
    this.visitors = new Ring(size);
    /** @type {Ring<FrameRecord>} */
    this.own = new Ring(size);
  }

  /** How many frames there ever were. */
  get total() {
    return this.visitors.total + this.own.total;
  }

  /** @param {Omit<FrameRecord, "place">} frame */
  push(frame) {
    (frame.own ? this.own : this.visitors).push({ ...frame, place: this.total });
  }

  /**
   * The kept frames, oldest first.
   * @param {boolean} own whether those of the page itself are among them
   */
  items(own) {
    if (!own) return [...this.visitors.items];
    return [...this.visitors.items, ...this.own.items].sort((one, other) => one.place - other.place);
  }
}
