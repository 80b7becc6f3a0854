/** The logs that reach a client, how far it has read them, and the subscriptions that receive them. */

import { ALL, INBOX_ROOM, isJoinable, splitAddress } from "./addresses.js";
import { isAnotherLog, placeIn } from "./positions.js";

/** @import { Position } from "../arqonbus.d.ts" */
/** @import { Place, LogRow } from "./positions.js" */
/** @import { Subscription } from "./subscription.js" */

/**
 * What the server says about a log in its answer to a join or a registration.
 * @typedef {LogRow & { recovered?: boolean | null, first_seq?: number, new?: boolean,
 *   positions?: Record<string, LogRow> }} LogAnswer
 */

/**
 * The place from which a log goes on: behind the asked one, or before its first message where the asked one is lost.
 * @param {LogAnswer} row
 * @param {number} asked
 */
export const resumedPlace = (row, asked) => placeIn(row, row.recovered === false ? Number(row.first_seq) - 1 : asked);

/** What one client receives: its subscriptions, and the place in each log. Only `continueAt` sets a place. */
export class Logs {
  /** @param {(address: string) => void} [onDropped] gets each log of which nothing arrives any more */
  constructor(onDropped = () => {}) {
    this.onDropped = onDropped;
    /** @type {Map<string, Place>} how far each log was received, for the next registration */
    this.places = new Map();
    /** @type {Set<string>} the logs that reach the client on this connection */
    this.live = new Set();
    /** @type {Map<string, number>} the first message that the client may see, where there are earlier ones */
    this.first = new Map();
    /** @type {Map<string, Set<Subscription>>} */
    this.byAddress = new Map();
    /** @type {Set<Subscription>} */
    this.all = new Set();
    /** @type {Map<string, Set<Subscription>>} the subscriptions to whole rooms, by room */
    this.byRoom = new Map();
  }

  // --- subscriptions ---

  /**
   * From now on every frame of its logs reaches the subscription.
   * @param {Subscription} subscription
   */
  add(subscription) {
    const { address } = subscription;
    const others = this.byAddress.get(address) ?? new Set();
    this.byAddress.set(address, others.add(subscription));
    this.all.add(subscription);
    for (const log of [`${subscription.room}:${ALL}`, `${ALL}:${ALL}`]) {
      const place = this.places.get(log);
      if (log !== address && place && this.live.has(log) && subscription._receives(log)) {
        subscription._startAt(log, place);
      }
    }
  }

  /**
   * The subscription has ended: nothing reaches it any more, and nothing is joined for it.
   * @param {Subscription} subscription
   */
  remove(subscription) {
    this.all.delete(subscription);
    const others = this.byAddress.get(subscription.address);
    others?.delete(subscription);
    if (others && !others.size) this.byAddress.delete(subscription.address);
  }

  /**
   * The subscriptions of exactly this address.
   * @param {string} address
   */
  subscriptionsOf(address) {
    return [...(this.byAddress.get(address) ?? [])];
  }

  /**
   * The subscriptions that receive a log's messages. The log of a whole room is for each of its channels.
   * @param {string} address
   * @returns {Iterable<Subscription>}
   */
  receivers(address) {
    const followers = this.followersOf(address);
    if (address.endsWith(`:${ALL}`)) return [...[...this.all].filter((each) => each._receives(address)), ...followers];
    const readers = this.byAddress.get(address) ?? [];
    return followers.length ? [...readers, ...followers] : readers;
  }

  // --- followed rooms ---

  /**
   * The subscriptions to the whole room of an address.
   * @param {string} address
   */
  followersOf(address) {
    return this.byRoom.size ? [...(this.byRoom.get(splitAddress(address)[0]) ?? [])] : [];
  }

  /** @param {Subscription} subscription one to a whole room */
  addFollower(subscription) {
    const { room } = subscription;
    this.byRoom.set(room, (this.byRoom.get(room) ?? new Set()).add(subscription));
    this.all.add(subscription);
  }

  /** @param {Subscription} subscription one to a whole room that has ended */
  removeFollower(subscription) {
    this.all.delete(subscription);
    const others = this.byRoom.get(subscription.room);
    others?.delete(subscription);
    if (others && !others.size) this.byRoom.delete(subscription.room);
  }

  // --- places ---

  /**
   * A log goes on behind `place`.
   *
   * Subscriptions that read another log under this address, or did not receive it for a while, start there too and
   * report a gap. The others keep their own place, and skip what the server sends twice.
   * @param {string} address
   * @param {Place} place
   * @param {boolean} [lost] whether the messages between the client's own place and this one are gone
   */
  continueAt(address, place, lost = false) {
    const silent = !this.live.has(address);
    this.places.set(address, place);
    this.live.add(address);
    for (const subscription of this.receivers(address)) subscription._continueAt(address, place, { lost, silent });
  }

  /**
   * The server reports the place of a log. That is news only if the log did not reach the client, or is another one.
   * @param {string} address
   * @param {Place} place
   */
  learn(address, place) {
    const before = this.places.get(address);
    if (!before || !this.live.has(address) || isAnotherLog(before, place)) this.continueAt(address, place);
  }

  /**
   * The server answered a join.
   * @param {string} address
   * @param {LogAnswer} answer
   * @param {Position | null} since the place that was asked for
   * @param {boolean} own whether `since` is the client's own place, and not that of a new subscription
   */
  joined(address, answer, since, own) {
    if (since === null) this.learn(address, placeIn(answer));
    else this.continueAt(address, resumedPlace(answer, since.seq), answer.recovered === false && own);
    // The log of the whole room comes with the first of its channels.
    for (const [log, row] of Object.entries(answer.positions ?? {})) {
      if (log !== address) this.learn(log, placeIn(row));
    }
  }

  /**
   * The server answered a registration. Only the logs that it lists reach the client.
   * @param {Record<string, LogAnswer>} channels
   * @param {Record<string, { seq: number }>} asked the places of the registration
   * @param {Set<string>} wanted the channels that the client needs
   */
  registered(channels, asked, wanted) {
    this.live.clear();
    for (const [address, row] of Object.entries(channels)) {
      const before = asked[address];
      const lost = row.recovered === false;
      if (lost) this.first.set(address, Number(row.first_seq));
      if (before === undefined) this.continueAt(address, placeIn(row));
      else this.continueAt(address, resumedPlace(row, before.seq), lost);
    }
    for (const address of [...this.places.keys()]) {
      if (!this.live.has(address) && !this.#returns(address, wanted)) this.#drop(address);
    }
  }

  /**
   * The places for a registration, in the channels `wanted` and in the logs that arrive without a membership.
   * @param {Set<string>} wanted
   * @returns {Record<string, { epoch: string, seq: number }>}
   */
  positions(wanted) {
    /** @type {Record<string, { epoch: string, seq: number }>} */
    const positions = {};
    for (const [address, { seq, epoch }] of this.places) {
      if (this.#returns(address, wanted)) positions[address] = { epoch: epoch ?? "", seq };
    }
    return positions;
  }

  /**
   * Whether a log is to reach the client on the next connection, too.
   * @param {string} address
   * @param {Set<string>} wanted
   */
  #returns(address, wanted) {
    const [room] = splitAddress(address);
    if (isJoinable(address)) return wanted.has(address);
    if (room === INBOX_ROOM || room === ALL || [...this.receivers(address)].length > 0) return true;
    return [...wanted].some((each) => each.startsWith(`${room}:`));
  }

  /**
   * A message of a log arrived.
   * @param {string} address
   * @param {number} seq
   */
  advance(address, seq) {
    const place = this.places.get(address);
    if (place && seq <= place.seq) return;
    this.places.set(address, { seq, epoch: place?.epoch ?? null });
    this.live.add(address);
  }

  /**
   * Where a subscription starts in a log without memberships, and whether messages before that are lost. The server
   * compares the places of channels; those of other logs are compared here.
   * @param {string} address
   * @param {Position} since
   * @returns {{ place: Place, lost: boolean }}
   */
  startOf(address, since) {
    const place = this.places.get(address);
    if (!place) return { place: { seq: since.seq, epoch: since.epoch ?? null }, lost: false };
    const first = this.first.get(address) ?? 1;
    // A place without an epoch was chosen by the application. An empty epoch belongs to a log that nobody knew.
    const chosen = since.seq <= 0 || since.epoch === null || since.epoch === undefined;
    const another = !chosen && since.epoch !== place.epoch;
    // The client receives all of an inbox, so no client was ever further in it.
    const beyond = address.startsWith(`${INBOX_ROOM}:`) && since.seq > place.seq;
    const lost = another || beyond || since.seq < first - 1;
    return { place: { seq: lost ? first - 1 : since.seq, epoch: place.epoch }, lost };
  }

  /**
   * The client left a channel: its log stops, and so does the room's own log with the last of the room's channels.
   * @param {string} address
   * @param {Set<string>} members the channels in which the client is still a member
   */
  forget(address, members) {
    this.#drop(address);
    const [room] = splitAddress(address);
    if (![...members].some((other) => other.startsWith(`${room}:`))) this.#drop(`${room}:${ALL}`);
  }

  /** @param {string} address */
  #drop(address) {
    this.places.delete(address);
    this.live.delete(address);
    this.first.delete(address);
    this.onDropped(address);
  }
}
