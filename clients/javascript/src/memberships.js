/** Which channels a client is in, and why: joins, leaves, and the subscriptions that need them. */

import { isJoinable } from "./addresses.js";
import { report } from "./application.js";
import { ArqonBusError, ServerError, TimedOut, isTransient } from "./errors.js";
import { newId } from "./frames.js";
import { resumedPlace } from "./logs.js";
import { Backoff, KeyedQueue } from "./pacing.js";
import { MARK, isAnotherLog, isPosition, placeIn, sinceTime } from "./positions.js";
import { sleep } from "./timing.js";

/** @import { Joined, Position, Since } from "../arqonbus.d.ts" */
/** @import { Connection } from "./connection.js" */
/** @import { Frame } from "./frames.js" */
/** @import { Line } from "./line.js" */
/** @import { LogAnswer, Logs } from "./logs.js" */
/** @import { Marks } from "./marks.js" */
/** @import { Requests } from "./requests.js" */
/** @import { Subscription } from "./subscription.js" */
/** @import { Teamwork } from "./teamwork.js" */

/** The memberships of one client. */
export class Memberships {
  /** The joins and leaves of one channel run one after another, so that none ends the membership of another. */
  #queue = new KeyedQueue();

  /**
   * @param {{ line: Line, connection: Connection, requests: Requests, commands: Teamwork, logs: Logs,
   *   marks: Marks }} parts
   * @param {(problem: Error) => void} onError gets the error that ended a membership from `join`
   */
  constructor({ line, connection, requests, commands, logs, marks }, onError) {
    this.line = line;
    this.connection = connection;
    this.requests = requests;
    this.commands = commands;
    this.logs = logs;
    this.marks = marks;
    this.onError = onError;
    /**
     * Channels that the application joined, which stay while subscriptions come and go. The value says whether it wants
     * the parts of streamed messages.
     * @type {Map<string, boolean>}
     */
    this.kept = new Map();
    /** @type {Set<string>} where the server was told to send no parts, on this connection */
    this.quiet = new Set();
    /** @type {Set<string>} where the server has the client as a member, or may have: an answer can be lost */
    this.members = new Set();
    /** @type {Map<string, Set<Subscription>>} the subscriptions that are about to join a channel */
    this.opening = new Map();
  }

  /** The channels that something here needs: `join`, a subscription, or one that is opening. */
  wanted() {
    const addresses = [...this.kept.keys(), ...this.logs.byAddress.keys(), ...this.opening.keys()];
    return new Set(addresses.filter((address) => isJoinable(address) && this.#isNeeded(address)));
  }

  /** @param {string} address */
  #isNeeded(address) {
    return this.#isUsed(address) || [...(this.opening.get(address) ?? [])].some((each) => !each.closed);
  }

  /**
   * Whether something that is in the channel already needs it.
   * @param {string} address
   */
  #isUsed(address) {
    return this.kept.has(address) || this.logs.byAddress.has(address);
  }

  /**
   * Whether anything here wants the parts of a channel's streamed messages.
   * @param {string} address
   */
  #wantsParts(address) {
    const readers = [...this.logs.subscriptionsOf(address), ...(this.opening.get(address) ?? [])];
    return this.kept.get(address) === true || readers.some((each) => each.parts && !each.closed);
  }

  // --- joining and leaving ---

  /**
   * Become a member and stay one.
   * @param {string} address
   * @param {{ parts?: boolean }} [options] whether to receive the parts of streamed messages
   * @returns {Promise<Joined>}
   */
  join(address, { parts = true } = {}) {
    return this.#queue.run(address, async () => {
      const joined = await this.#join(address, null, { parts: parts || this.#wantsParts(address) });
      this.kept.set(address, parts);
      return joined;
    });
  }

  /**
   * End a membership, and the subscriptions that need it.
   * @param {string} address
   * @returns {Promise<string[]>} the addresses of the memberships that are left
   */
  leave(address) {
    this.kept.delete(address);
    return this.#queue.run(address, async () => {
      const channels = await this.#leave(address);
      for (const subscription of this.logs.subscriptionsOf(address)) {
        subscription._finish();
        this.logs.remove(subscription);
      }
      return channels;
    });
  }

  /** @param {string} address */
  async #leave(address) {
    const result = await this.requests.command("leave_channel", { channel: address });
    this.#forget(address);
    return result.channels;
  }

  /**
   * @param {string} address
   * @param {Position | typeof MARK | null} since
   * @param {{ own?: boolean, parts?: boolean, onJoined?: ((result: Joined) => void) | null,
   *   last?: number | null }} [options] `own`: `since`
   *   is the client's own place, and not that of a new subscription; `onJoined` runs before any frame that follows the
   *   answer
   * @returns {Promise<Joined>}
   */
  async #join(address, since, { own = false, parts = this.#wantsParts(address), onJoined = null, last = null } = {}) {
    /** @type {{ channel: string, since?: number | string, epoch?: string, parts?: boolean, last?: number }} */
    const parameters = last === null ? { channel: address } : { channel: address, last };
    if (!parts) parameters.parts = false;
    if (since === MARK) parameters.since = MARK;
    else if (since) {
      parameters.since = since.seq;
      // An empty epoch says that the log was unknown.
      if (typeof since.epoch === "string") parameters.epoch = since.epoch;
      else if (own && since.seq > 0) parameters.epoch = "";
    }
    const onAnswer = (/** @type {any} */ { result }) => {
      this.members.add(address);
      if (parts) this.quiet.delete(address);
      else this.quiet.add(address);
      if (since === MARK) this.#marked(address, result);
      this.logs.joined(address, result, since === MARK ? { seq: result.mark } : since, own);
      onJoined?.(result);
    };
    const frame = { type: "command", id: newId(), command: "join_channel", parameters };
    try {
      return (await this.requests.request(frame, { repeat: true, onAnswer })).result;
    } catch (problem) {
      // The join may have succeeded, although nothing waits for its answer any more.
      if (problem instanceof TimedOut) this.members.add(address);
      throw problem;
    }
  }

  /**
   * The server answered a join from the mark on.
   * @param {string} address
   * @param {LogAnswer & { mark?: number }} result
   */
  #marked(address, result) {
    // Of another log the mark counts as absent, and everything that is left comes.
    result.mark ??= result.seq;
    this.marks.learn(address, placeIn(result, result.recovered === false ? 0 : result.mark));
  }

  /**
   * Leave a channel if nothing needs it any more.
   * @param {string} address
   */
  async #leaveUnused(address) {
    if (!isJoinable(address) || this.#isNeeded(address) || !this.members.has(address)) return;
    await this.#queue.run(address, async () => {
      if (this.#isNeeded(address) || !this.members.has(address) || address === this.connection.address) return;
      // Without a connection there is nothing to leave: the next registration does not ask for the channel.
      if (!this.line.connected) return;
      try {
        await this.#leave(address);
      } catch (problem) {
        // The client had left it already, or the connection broke.
        if (!(problem instanceof ArqonBusError)) throw problem;
      }
    });
  }

  /** @param {string} address a channel in which the client is no member any more */
  #forget(address) {
    this.members.delete(address);
    this.logs.forget(address, this.members);
  }

  /**
   * An error ended a membership and all its subscriptions. Nothing of it is joined again.
   * @param {string} address
   * @param {Error} error
   */
  ended(address, error) {
    const kept = this.kept.delete(address);
    this.#forget(address);
    for (const subscription of this.logs.subscriptionsOf(address)) {
      subscription._fail(error);
      this.logs.remove(subscription);
    }
    if (kept) this.onError(error);
  }

  // --- across connections ---

  /**
   * The server registered the client, and says where it is a member.
   * @param {Record<string, LogAnswer>} channels
   * @param {Record<string, { seq: number }>} asked the places of the registration
   */
  registered(channels, asked) {
    this.members = new Set(Object.keys(channels).filter(isJoinable));
    this.quiet.clear();
    this.logs.registered(channels, asked, this.wanted());
  }

  /** Connected again: join what is needed and leave what is not, where the server has other memberships. */
  reconcile() {
    for (const address of new Set([...this.kept.keys(), ...this.logs.byAddress.keys()])) {
      if (!isJoinable(address)) continue;
      if (!this.members.has(address)) this.#queue.run(address, () => this.#rejoin(address)).catch(report);
      else if (!this.#wantsParts(address)) this.#queue.run(address, () => this.#hush(address)).catch(report);
    }
    for (const address of this.members) this.#leaveUnused(address).catch(report);
  }

  /**
   * Say again that no parts are wanted: a registration joins with parts.
   * @param {string} address
   */
  async #hush(address) {
    if (this.quiet.has(address) || this.#wantsParts(address) || !this.#isUsed(address)) return;
    try {
      await this.#join(address, null, { parts: false });
    } catch (problem) {
      // Parts that nobody reads do no harm.
      if (!(problem instanceof ArqonBusError)) throw problem;
    }
  }

  /**
   * Join a channel again that the registration did not restore.
   * @param {string} address
   */
  async #rejoin(address) {
    const { connection, line } = this;
    const { connections } = connection;
    const delay = new Backoff();
    const isMissing = () => this.#isUsed(address) && !this.members.has(address);
    while (line.connected && connections === connection.connections && isMissing()) {
      try {
        await this.#join(address, this.logs.places.get(address) ?? null, { own: true });
      } catch (problem) {
        if (isTransient(problem)) {
          this.members.delete(address);
          await sleep(delay.pause(/** @type {any} */ (problem).retryAfter ?? null));
        } else if (problem instanceof ServerError) this.ended(address, problem);
        else return; // The next connection tries it again.
      }
    }
  }

  // --- subscriptions ---

  /**
   * Start a subscription: every frame behind the answer to its join reaches it.
   * @param {Subscription} subscription
   */
  async attach(subscription) {
    const { address } = subscription;
    const opening = this.opening.get(address) ?? new Set();
    this.opening.set(address, opening.add(subscription));
    try {
      await this.line.whenUp();
      if (subscription.joinable) await this.#queue.run(address, () => this.#enter(subscription));
      else await this.#startWithoutJoin(subscription);
    } finally {
      opening.delete(subscription);
      if (!opening.size) this.opening.delete(address);
      // The subscription may have been closed, or refused, while its join was on the way.
      this.#leaveUnused(address).catch(report);
    }
  }

  /**
   * A subscription ended: leave its channel if nothing else here needs it.
   * @param {Subscription} subscription
   */
  async detach(subscription) {
    this.logs.remove(subscription);
    await this.#leaveUnused(subscription.address);
  }

  /** @param {Subscription} subscription */
  async #enter(subscription) {
    if (subscription.closed) return;
    const { address } = subscription;
    const marked = subscription.since === MARK;
    const since = marked ? MARK : await this.#positionOf(address, subscription.since);
    if (subscription.closed) return;
    const onJoined = (/** @type {Joined} */ result) => {
      if (subscription.closed) return;
      // Because of another iterator's `since` the server may send older messages again. They are not for this one.
      const seq = since === MARK ? Number(result.mark) : since?.seq;
      if (subscription.last !== null) startWith(subscription, result);
      else if (seq === undefined) subscription._startAt(address, placeIn(result));
      else subscription._startAt(address, resumedPlace(result, seq), result.recovered === false && seq > 0);
      this.logs.add(subscription);
    };
    await this.#join(address, since, { onJoined, last: subscription.last });
  }

  /**
   * Start with a log that arrives without a membership: an inbox, or the log of a whole room.
   * @param {Subscription} subscription
   */
  async #startWithoutJoin(subscription) {
    const { address } = subscription;
    const marked = subscription.since === MARK;
    const since = marked ? await this.#markOf(address) : await this.#positionOf(address, subscription.since);
    if (subscription.closed) return;
    const current = this.logs.places.get(address);
    if (since) {
      const { place, lost } = this.logs.startOf(address, since);
      subscription._startAt(address, place, lost);
      subscription._catchUpTo(address, current?.seq ?? 0);
    } else if (current) subscription._startAt(address, current);
    this.logs.add(subscription);
  }

  /**
   * The mark of a log that arrives without a membership. Without one it begins now, and the server is told so: what
   * comes before the next start must not be lost. Questions that are still open come, too: perhaps there was no mark
   * yet when they were asked.
   * @param {string} address
   * @returns {Promise<Position>}
   */
  async #markOf(address) {
    const place = this.logs.places.get(address) ?? { seq: 0, epoch: null };
    const mark = this.marks.get(address);
    if (mark && !isAnotherLog(mark, place)) return mark;
    if (mark) return { ...mark, seq: Math.max(1, mark.seq) };
    const parameters = { channel: address, seq: place.seq, begin: true };
    this.marks.learn(address, await this.commands.command("mark", parameters, { repeat: true }));
    return this.#markOf(address);
  }

  /**
   * A `since` as a position. Throws RangeError for a text that is not a time.
   * @param {string} address
   * @param {Since | undefined} since
   * @returns {Promise<Position | null>}
   */
  async #positionOf(address, since) {
    if (since === null || since === undefined || isPosition(since)) return since ?? null;
    if (typeof since === "number") return { seq: since, epoch: null };
    const after = sinceTime(since);
    try {
      const head = await this.#headOf(address);
      const page = await this.commands.historyPage(address, { after, limit: 1, fold: false });
      const first = page.messages[0]?.seq ?? null;
      return { seq: first === null ? head : Math.min(head, first - 1), epoch: null };
    } catch (problem) {
      if (problem instanceof ServerError && problem.number === 404) return { seq: 0, epoch: null };
      throw problem;
    }
  }

  /** @param {string} address */
  async #headOf(address) {
    if (isJoinable(address)) return (await this.commands.channelInfo(address)).seq;
    return this.logs.places.get(address)?.seq ?? 0;
  }
}

/**
 * Start a subscription with the newest messages, which came with the answer to the join.
 * @param {Subscription} subscription
 * @param {Joined} joined
 */
function startWith(subscription, joined) {
  const { address } = subscription;
  const { seq } = joined;
  const frames = /** @type {Frame[]} */ (joined.messages ?? []);
  subscription._startAt(address, placeIn(joined, frames.length ? frames[0].seq - 1 : seq));
  for (const frame of frames) subscription._deliver(address, frame);
  if (frames.length && frames[frames.length - 1].seq < seq) subscription._catchUpTo(address, seq);
}
