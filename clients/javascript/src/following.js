/** Follow a room: the messages of all of its channels, also of those to come, without being a member. */

import { ALL, INBOX_ROOM } from "./addresses.js";
import { report } from "./application.js";
import { ArqonBusError, ServerError, TimedOut } from "./errors.js";
import { newId } from "./frames.js";
import { KeyedQueue } from "./pacing.js";
import { placeIn } from "./positions.js";
import { Subscription } from "./subscription.js";

/** @import { FollowOptions, Position } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */
/** @import { Growth } from "./growth.js" */
/** @import { Line } from "./line.js" */
/** @import { LogAnswer, Logs } from "./logs.js" */
/** @import { Message } from "./message.js" */
/** @import { Place } from "./positions.js" */
/** @import { Requests } from "./requests.js" */
/** @import { SubscriptionHost } from "./listening.js" */

/** The place in a log that does not exist yet. */
const UNBORN = Object.freeze({ seq: 0, epoch: "" });

/**
 * Messages of all channels of a room that this client may join, each exactly once and in the order of its channel.
 * `bus.follow` makes them. A channel that comes, or that the client may join from now on, begins by itself.
 */
export class RoomSubscription extends Subscription {
  /**
   * @param {SubscriptionHost} host
   * @param {string} room
   * @param {FollowOptions & { buffer: number }} options
   */
  constructor(host, room, { since, ...options }) {
    if (!room || String(room).includes(":") || room === ALL || room === INBOX_ROOM) {
      throw new TypeError(`${JSON.stringify(room)} is not the name of a room.`);
    }
    super(host, `${room}:${ALL}`, options);
    /** Whether the room has more channels than one connection may follow. */
    this.truncated = false;
    /** @type {Map<string, Position>} the places behind the messages that were handed out, or where channels began */
    this._places = new Map(Object.entries(since ?? {}));
    /** @type {Map<string, Position>} where to go on in the channels that are not followed now */
    this._from = new Map(this._places);
  }

  /**
   * The places behind the last messages handed out, by the name of the channel. Each followed channel has one,
   * also before its first message. Store them, and give them to `since` later to go on from there.
   * @returns {Record<string, Position>}
   */
  get positions() {
    return Object.fromEntries(this._places);
  }

  /** The names of the channels that are followed now. `*` is the log of the whole room. */
  get channels() {
    return [...this._cursors.keys()].map(nameOf);
  }

  /**
   * @override
   * @returns {Promise<IteratorResult<Message, undefined>>}
   */
  async next() {
    const result = await super.next();
    const message = result.value;
    if (message && message.seq !== null && message.room === this.room) {
      const epoch = this._cursors.get(message.address)?.epoch ?? "";
      this._places.set(message.channel, { seq: message.seq, epoch });
    }
    return result;
  }

  // --- what the logs tell it ---

  /**
   * @override
   * @param {string} address
   */
  // eslint-disable-next-line no-unused-vars
  _receives(address) {
    return false; // It receives its room as a follower.
  }

  /**
   * @override
   * @param {string} address
   * @param {Frame} frame
   */
  _deliver(address, frame) {
    if (this._cursors.has(address) || !Number.isInteger(frame.seq)) super._deliver(address, frame);
  }

  /**
   * @override
   * @param {Growth} growth
   */
  _grows(growth) {
    if (this._cursors.has(growth.address)) super._grows(growth);
  }

  /**
   * @override
   * @param {string} address
   * @param {Place} place
   * @param {{ lost: boolean, silent: boolean }} news
   */
  _continueAt(address, place, { lost }) {
    const cursor = this._cursors.get(address);
    if (cursor && (lost || cursor.isAnotherLog(place))) this._startAt(address, place, true);
  }

  /** The positions for a request: behind what has arrived, also if it was not handed out. */
  _asked() {
    const asked = new Map([...this._from].filter(([name]) => !this._cursors.has(`${this.room}:${name}`)));
    for (const [address, { last, head, epoch }] of this._cursors) {
      if (last !== null) asked.set(nameOf(address), { seq: Math.max(last, head), epoch });
    }
    return asked;
  }

  /**
   * @override
   * @param {string} address
   * @param {Place} place
   * @param {boolean} [gap]
   */
  _startAt(address, place, gap = false) {
    super._startAt(address, place, gap);
    const before = this._places.get(nameOf(address));
    const another = Boolean(before) && typeof before?.epoch === "string" && before.epoch !== place.epoch;
    // After a gap the older place stays, so that a later page learns of the gap, too.
    if (!before || (another && !gap)) this._places.set(nameOf(address), { seq: place.seq, epoch: place.epoch ?? "" });
  }

  /**
   * The server answered: channels begin, or go on.
   * @param {{ channels: Record<string, LogAnswer>, truncated: boolean }} result
   * @param {Map<string, Position>} asked
   */
  _answered({ channels, truncated }, asked) {
    this.truncated = truncated;
    for (const [name, row] of Object.entries(channels)) {
      const address = `${this.room}:${name}`;
      const place = asked.get(name) ?? (row.new ? { seq: 0 } : undefined);
      const cursor = this._cursors.get(address);
      const unread = () => (row.recovered ?? null) === null && row.seq > (cursor?.last ?? place?.seq ?? 0);
      if (row.recovered === false) {
        const lost = Boolean(place && place.seq > 0) || (row.new === true && Number(row.first_seq) > 1);
        this._startAt(address, placeIn(row, Number(row.first_seq) - 1), lost);
      } else if (!place) this._startAt(address, placeIn(row));
      else if (cursor?.isAnotherLog(placeIn(row))) this._startAt(address, placeIn(row), true);
      else {
        if (!cursor) this._startAt(address, placeIn(row, place.seq));
        // The connection has this log already. The history has what this subscription lacks of it.
        if (unread()) {
          if (name === ALL) this._startAt(address, placeIn(row), true);
          else this._catchUpTo(address, row.seq);
        }
      }
    }
    for (const address of [...this._cursors.keys()]) if (!(nameOf(address) in channels)) this._ends(address);
    if (!(ALL in channels)) {
      // The place in a log that is still to come tells the server that whatever comes is new.
      for (const places of [this._from, this._places]) if (!places.has(ALL)) places.set(ALL, UNBORN);
    }
  }

  /**
   * A channel ends. Where it comes back, it goes on behind what has arrived.
   * @param {string} address
   * @param {boolean} [deleted]
   */
  _ends(address, deleted = false) {
    const cursor = this._cursors.get(address);
    this._cursors.delete(address);
    if (deleted) for (const places of [this._from, this._places]) places.delete(nameOf(address));
    else if (cursor && cursor.last !== null) {
      this._from.set(nameOf(address), { seq: Math.max(cursor.last, cursor.head), epoch: cursor.epoch ?? "" });
    }
  }

  /**
   * A channel begins.
   * @param {{ channel: string, epoch: string, seq: number, recovered?: boolean }} notice
   */
  _begins(notice) {
    const address = `${this.room}:${notice.channel}`;
    if (this._cursors.has(address)) return;
    const before = this._places.get(notice.channel);
    const gap = before !== undefined && (before.epoch ?? "") === notice.epoch && before.seq < notice.seq;
    this._startAt(address, placeIn(notice), notice.recovered === false || gap);
  }
}

/** @param {string} address */
const nameOf = (address) => address.slice(address.indexOf(":") + 1);

/** The followed rooms of one client. */
export class Followings {
  /** The requests of one room run one after another. */
  #queue = new KeyedQueue();

  /** @param {{ line: Line, requests: Requests, logs: Logs }} parts */
  constructor({ line, requests, logs }) {
    this.line = line;
    this.requests = requests;
    this.logs = logs;
  }

  /** @param {Subscription} subscription */
  async attach(subscription) {
    await this.line.whenUp();
    try {
      await this.#queue.run(subscription.room, () => this.#follow(/** @type {RoomSubscription} */ (subscription)));
    } catch (problem) {
      await this.detach(subscription);
      throw problem;
    }
  }

  /** @param {RoomSubscription} subscription */
  async #follow(subscription) {
    if (subscription.closed) return;
    const { room } = subscription;
    const asked = subscription._asked();
    const onAnswer = (/** @type {any} */ { result }) => {
      if (subscription.closed) return;
      this.logs.addFollower(subscription);
      subscription._answered(result, asked);
    };
    const parameters = { room, positions: Object.fromEntries(asked) };
    await this.requests.request(
      { type: "command", id: newId(), command: "follow", parameters },
      { repeat: false, onAnswer },
    );
  }

  /** Connected again: follow again. */
  reconnected() {
    for (const [room, subscriptions] of this.logs.byRoom) {
      for (const each of subscriptions) this.#queue.run(room, () => this.#again(each)).catch(report);
    }
  }

  /** @param {Subscription} subscription */
  async #again(subscription) {
    try {
      await this.#follow(/** @type {RoomSubscription} */ (subscription));
    } catch (problem) {
      // The next connection tries it again, where this one broke.
      if (!(problem instanceof ServerError || problem instanceof TimedOut)) return;
      this.logs.removeFollower(subscription);
      subscription._fail(problem);
    }
  }

  /**
   * Whether a notice is about a followed room. Then its subscriptions get it.
   * @param {string} address
   * @param {Frame} payload
   */
  notice(address, payload) {
    if (!["followed", "unfollowed", "follow_truncated"].includes(payload?.event)) return false;
    for (const each of this.logs.followersOf(address)) {
      const subscription = /** @type {RoomSubscription} */ (each);
      if (payload.event === "followed") subscription._begins(/** @type {any} */ (payload));
      else if (payload.event === "unfollowed") subscription._ends(address, payload.reason === "DELETED");
      else subscription.truncated = true;
    }
    return true;
  }

  /** @param {Subscription} subscription */
  async detach(subscription) {
    const { room } = subscription;
    this.logs.removeFollower(subscription);
    await this.#queue.run(room, async () => {
      if (this.logs.byRoom.has(room) || !this.line.connected) return;
      try {
        await this.requests.command("unfollow", { room });
      } catch (problem) {
        // It followed no longer, or the connection broke.
        if (!(problem instanceof ArqonBusError)) throw problem;
      }
    });
  }
}
