/** How far this client has dealt with each log, as the server remembers it. */

import { BusClosed, isTransient } from "./errors.js";
import { Backoff } from "./pacing.js";
import { isAnotherLog } from "./positions.js";
import { sleep } from "./timing.js";

/** @import { Marked } from "../arqonbus.d.ts" */
/** @import { Place } from "./positions.js" */

/** The marks of one client. Readers that mark by themselves move them together, and never past the slowest. */
export class Marks {
  /** @type {Map<string, Place>} the marks that the server has, as far as they are known */
  #kept = new Map();
  /** @type {Map<string, Set<MarkReader>>} */
  #readers = new Map();
  /** @type {Map<string, Place>} where the server refused a mark. Marking of that log ends with the first refusal. */
  #refused = new Map();
  /** @type {Map<string, Promise<void>>} the marks that are on their way: one for each log */
  #sending = new Map();

  /**
   * @param {(address: string, place: Place) => Promise<Marked>} send moves the mark at the server
   * @param {(problem: unknown) => void} onError gets why a mark was refused that a reader moved by itself
   */
  constructor(send, onError) {
    this.send = send;
    this.onError = onError;
  }

  /**
   * The server said where a mark is.
   * @param {string} address
   * @param {Place} place
   */
  learn(address, { seq, epoch }) {
    this.#kept.set(address, { seq, epoch: epoch ?? null });
  }

  /** @param {string} address */
  get(address) {
    return this.#kept.get(address) ?? null;
  }

  /**
   * A reader that moves the mark of a log behind what it has dealt with.
   * @param {string} address
   */
  reader(address) {
    const reader = new MarkReader(this, address);
    const others = this.#readers.get(address) ?? new Set();
    if (!others.size) this.#refused.delete(address);
    this.#readers.set(address, others.add(reader));
    return reader;
  }

  /** @param {MarkReader} reader it reads no more, so nothing waits for it */
  remove(reader) {
    const others = this.#readers.get(reader.address);
    if (!others?.delete(reader)) return;
    if (others.size) this.move(reader.address);
    else this.#readers.delete(reader.address);
  }

  /**
   * A reader went on. One mark of a log is on its way at a time, and the next one is the newest.
   * @param {string} address
   */
  move(address) {
    if (this.#sending.has(address) || !this.#due(address)) return;
    const sending = this.#send(address)
      .catch((problem) => (problem instanceof BusClosed ? undefined : this.onError(problem)))
      .finally(() => {
        this.#sending.delete(address);
        this.move(address);
      });
    this.#sending.set(address, sending);
  }

  /**
   * Wait until the server has the marks of a log that its readers moved.
   * @param {string} address
   */
  async settled(address) {
    await this.#sending.get(address);
  }

  /**
   * The place that every reader of a log has reached, if the mark is not there yet.
   * @param {string} address
   * @returns {Place | null}
   */
  #due(address) {
    const readers = [...(this.#readers.get(address) ?? [])];
    if (!readers.length || readers.some((each) => each.place === null)) return null;
    const places = readers.map((each) => /** @type {Place} */ (each.place));
    const slowest = places.reduce((one, other) => (other.seq < one.seq ? other : one));
    const [kept, refused] = [this.#kept.get(address), this.#refused.get(address)];
    if (refused && !isAnotherLog(refused, slowest)) return null;
    return !kept || isAnotherLog(kept, slowest) || slowest.seq > kept.seq ? slowest : null;
  }

  /** @param {string} address */
  async #send(address) {
    const delay = new Backoff();
    for (let due; (due = this.#due(address));) {
      try {
        const { seq, epoch } = await this.send(address, due);
        // The mark of another reader of the same principal may be further.
        this.learn(address, { seq: Math.max(seq, due.seq), epoch });
      } catch (problem) {
        if (!isTransient(problem)) {
          this.#refused.set(address, due);
          throw problem;
        }
        await sleep(delay.pause(/** @type {any} */ (problem).retryAfter ?? null));
      }
    }
  }
}

/** How far one reader of a log is. */
export class MarkReader {
  /**
   * @param {Marks} marks
   * @param {string} address
   */
  constructor(marks, address) {
    this.marks = marks;
    this.address = address;
    /** @type {Place | null} it has dealt with everything up to here */
    this.place = null;
  }

  /** @param {Place} place */
  reached(place) {
    const { place: before } = this;
    if (before && before.seq >= place.seq && !isAnotherLog(before, place)) return;
    this.place = { ...place };
    this.marks.move(this.address);
  }

  close() {
    this.marks.remove(this);
  }
}
