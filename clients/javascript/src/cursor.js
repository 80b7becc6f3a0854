/** How far a subscription has read one log. */

import { isAnotherLog } from "./positions.js";

/** @import { Place } from "./positions.js" */

/** A place in a log, with what is known about the messages behind it. */
export class Cursor {
  constructor() {
    /** @type {number | null} the last message that was taken; null before the first place */
    this.last = null;
    /** @type {string | null} which log it is; null as long as the server has not named it */
    this.epoch = null;
    /** The highest seq that passed without being taken. */
    this.head = 0;
    /** Whether messages up to `head` are still to be read from the history. */
    this.lagging = false;
    /** Whether messages before the next one are lost. */
    this.gap = false;
    /** Counts the starts, so that a page of history from before one is not used after it. */
    this.generation = 0;
  }

  /**
   * Read from behind `place` on, whatever was read before.
   * @param {Place} place
   */
  startAt({ seq, epoch }) {
    this.last = this.head = seq;
    this.epoch = epoch ?? null;
    this.lagging = false;
    this.generation += 1;
  }

  /**
   * Whether `place` belongs to another log, as far as both logs are known.
   * @param {Place} place
   */
  isAnotherLog(place) {
    return isAnotherLog(this, place);
  }

  /**
   * Messages from `seq` on do not fit into the buffer. The history has them.
   * @param {number} seq
   */
  lagBefore(seq) {
    this.last ??= seq - 1;
    this.head = seq;
    this.lagging = true;
  }

  /**
   * Read the history up to `head` at least.
   * @param {number} head
   */
  lagTo(head) {
    this.last ??= 0;
    this.head = Math.max(this.head, head);
    this.lagging = true;
  }

  /**
   * Go on behind `seq`, although messages up to it were not found.
   * @param {number} seq
   */
  skipTo(seq) {
    this.last = seq;
    this.lagging = false;
    this.gap = true;
  }
}
