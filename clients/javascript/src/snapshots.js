/** Subscriptions that begin with a state of the application, and take it again whenever messages are lost. */

import { Message } from "./message.js";
import { Backoff } from "./pacing.js";
import { isPosition } from "./positions.js";
import { Subscription } from "./subscription.js";
import { sleep } from "./timing.js";

/** @import { Snapshot, SubscribeOptions } from "../arqonbus.d.ts" */
/** @import { SubscriptionHost } from "./listening.js" */

/** A subscription with a `snapshot`. Each state comes as a message, in the place of all messages that it knows of. */
export class SnapshotSubscription extends Subscription {
  /** @type {() => Snapshot | Promise<Snapshot>} */
  #snapshot;
  /** @type {Promise<void> | null} the first state is there */
  #begun = null;
  /** @type {Message | null} a state that was not read yet */
  #state = null;
  /** Whether messages were lost since the last state. */
  #stale = false;
  /** The last message that the state knows of. */
  #known = -1;
  /** @type {Promise<IteratorResult<Message, undefined>> | null} */
  #pending = null;
  /** @type {Promise<unknown>} */
  #turn = Promise.resolve();
  /** @type {() => void} */
  #wakeUp = () => {};

  /**
   * @param {SubscriptionHost} host
   * @param {string} address
   * @param {SubscribeOptions & { buffer: number, snapshot: () => Snapshot | Promise<Snapshot> }} options
   */
  constructor(host, address, { snapshot, ...options }) {
    if ((options.since ?? options.last ?? null) !== null) throw new TypeError("A snapshot says itself where to begin.");
    super(host, address, options);
    this.#snapshot = snapshot;
    let gaps = 0;
    const set = (/** @type {number} */ count) => {
      gaps = count;
      this.#missed();
    };
    // Each loss is counted here, before any message behind it.
    Object.defineProperty(this, "gaps", { get: () => gaps, set, enumerable: true });
  }

  /** @override */
  async open() {
    if (!this._closed) {
      this.#begun ??= this.#ask().then((found) => {
        this.since = found.position;
        this.#take(found);
      });
      try {
        await Promise.race([this.#begun, this._over]);
      } catch (problem) {
        this.#begun = null;
        throw problem;
      }
    }
    return super.open();
  }

  /**
   * @override
   * @returns {Promise<IteratorResult<Message, undefined>>}
   */
  next() {
    const mine = this.#turn.then(() => this.#read());
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** @returns {Promise<IteratorResult<Message, undefined>>} */
  async #read() {
    for (;;) {
      this.#pending ??= super.next();
      /** @type {Promise<null>} */
      const woken = new Promise((resolve) => (this.#wakeUp = () => resolve(null)));
      if (this.#stale) await this.#renew();
      else if (!this.#state) {
        try {
          const result = await Promise.race([this.#pending, woken]);
          if (result && !this.#stale && !this.#state) {
            this.#pending = null;
            if (result.done || !this.#isKnown(result.value)) return result;
          }
        } catch (problem) {
          this.#pending = null;
          throw problem;
        }
      }
      const value = this.#state;
      this.#state = null;
      if (value) return { done: false, value };
    }
  }

  /** @param {Message} message */
  #isKnown({ address, seq }) {
    return address === this.address && seq !== null && seq <= this.#known;
  }

  #missed() {
    this.#stale = true;
    // What waits lies before the loss. The next state knows of it.
    this._handout.dropOwn();
    this.#wakeUp();
  }

  /** Take the state again. While that fails, it is repeated. */
  async #renew() {
    const delay = new Backoff();
    while (this.#stale && !this._closed) {
      this.#stale = false;
      try {
        const found = await Promise.race([this.#ask(), this._over]);
        if (found && !this.#stale) this.#take(found);
      } catch (problem) {
        this.#stale = true;
        this._host.onError(problem, this);
        await Promise.race([sleep(delay.pause()), this._over]);
      }
    }
    if (this._closed) this.#stale = false;
  }

  /** @returns {Promise<Snapshot>} */
  async #ask() {
    const found = await this.#snapshot();
    if (!isPosition(found?.position)) throw new TypeError("A snapshot is { state, position: { epoch, seq } }.");
    return found;
  }

  /** @param {Snapshot} found */
  #take({ state, position }) {
    const { seq, epoch } = position;
    this.#known = seq;
    this._handout.taken = { seq, epoch: epoch ?? null };
    this.#state = new Message({ type: "snapshot", room: this.room, channel: this.channel });
    this.#state.snapshot = state;
    this.#wakeUp();
  }
}
