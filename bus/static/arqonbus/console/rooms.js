/** Rooms and channels with their counts, loaded every two seconds. What the page itself sees counts at once. */
import { config } from "./session.js";
import { Observable, repeat } from "./store.js";

const PAUSE = 2000;
/** @typedef {import("../arqonbus.js").ChannelRow} ChannelRow */
/**
 * `asked`: how many messages there were at the last answer; `unread`: how many came since the visitor looked.
 * @typedef {ChannelRow & { address: string, asked: number, rate: number }} Channel
 */
/** @typedef {{ room: string, channels: Channel[], participants: number, messages: number, unread: number }} Room */

/** The room in which the bus publishes about itself. */
const OWN_ROOM = config.system_room;

export class Rooms {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    /** @type {Map<string, Channel>} by address */
    this.channels = new Map();
    this.rooms = new Observable(/** @type {Room[]} */ ([]));
    /** @type {Map<string, number>} how far the visitor has looked at channels, which the server may not know yet */
    this.looked = new Map();
    /** @type {unknown} */
    this.error = null;
    this.loaded = false;
    this.askedAt = 0;
    this.loop = repeat(() => this.#load(), PAUSE);
  }

  /** Load again now, because something was created or removed. */
  refresh() {
    this.loop.now();
  }

  async #load() {
    const { bus } = this.session;
    if (!bus?.connected) return;
    let rows;
    try {
      rows = await bus.listChannels();
      this.error = null;
    } catch (problem) {
      this.error = problem;
      return;
    }
    const now = performance.now();
    const passed = (now - this.askedAt) / 1000;
    const before = this.channels;
    this.channels = new Map();
    /** @type {Map<string, Room>} */
    const rooms = new Map();
    for (const row of rows) {
      const address = `${row.room}:${row.channel}`;
      const old = before.get(address);
      const rate = old && this.askedAt ? Math.max(0, (row.messages - old.asked) / passed) : 0;
      const entry = { ...row, address, asked: row.messages, rate: old ? (old.rate + rate) / 2 : 0 };
      if (entry.rate < 0.05) entry.rate = 0;
      // The page may have seen a newer message than the answer knows of.
      if (old && old.messages > row.messages && old.created_at === row.created_at) entry.messages = old.messages;
      this.#leaveOut(entry);
      this.channels.set(address, entry);
      const room = rooms.get(row.room) ?? { room: row.room, channels: [], participants: 0, messages: 0, unread: 0 };
      rooms.set(row.room, room);
      room.channels.push(entry);
      room.participants += row.participants ?? 0;
      room.messages += entry.messages;
      room.unread += entry.unread ?? 0;
    }
    this.askedAt = now;
    this.loaded = true;
    this.rooms.value = [...rooms.values()];
    this.rooms.changed();
  }

  /**
   * The page saw a message of a channel.
   * @param {string} address
   * @param {number | null} seq
   */
  saw(address, seq) {
    const entry = this.channels.get(address);
    if (!entry || seq === null || seq <= entry.messages) return;
    const room = this.rooms.value.find((each) => each.room === entry.room);
    if (room) room.messages += seq - entry.messages;
    entry.messages = seq;
  }

  /**
   * The visitor has seen a channel up to `seq`.
   * @param {string} address
   * @param {number} seq
   */
  read(address, seq) {
    this.looked.set(address, seq);
    const entry = this.channels.get(address);
    if (!entry?.unread) return;
    this.#leaveOut(entry);
    this.rooms.changed();
  }

  /**
   * Leave what the visitor has seen out of the count. A server without a mark gives no count.
   * @param {Channel} entry
   */
  #leaveOut(entry) {
    const seq = this.looked.get(entry.address);
    if (!entry.unread || seq === undefined) return;
    const unread = Math.min(entry.unread, Math.max(0, entry.messages - seq));
    const room = this.rooms.value.find((each) => each.room === entry.room);
    if (room && this.channels.get(entry.address) === entry) room.unread -= entry.unread - unread;
    entry.unread = unread;
  }

  /** How many messages are new to the visitor. */
  get unread() {
    return this.rooms.value.reduce((sum, each) => sum + each.unread, 0);
  }

  /** How many messages clients ever published to the visible channels. Those of the bus itself are not counted. */
  get total() {
    return this.#sum("messages");
  }

  /** The same, a second. */
  get rate() {
    return this.#sum("rate");
  }

  /** @param {"messages" | "rate"} name */
  #sum(name) {
    let sum = 0;
    for (const each of this.channels.values()) if (each.room !== OWN_ROOM) sum += each[name];
    return sum;
  }
}
