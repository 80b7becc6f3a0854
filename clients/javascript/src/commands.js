/** The commands of the protocol as methods, and reading the history. */

import { ALL, splitAddress } from "./addresses.js";
import { MAX_PAGE } from "./catch-up.js";
import { Message } from "./message.js";
import { isPosition, sinceTime } from "./positions.js";

/** @import * as Types from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */
/** @import { Requests } from "./requests.js" */

/** @typedef {{ messages: Message[], next: number | string | null }} Page */

/** What a client can ask the server. */
export class Commands {
  /** @param {Requests} requests */
  constructor(requests) {
    this._requests = requests;
  }

  /**
   * Run any command of the protocol; its `result`. With `repeat` it is sent again after a break, as doing it twice does
   * no harm.
   * @param {string} name
   * @param {Types.JsonObject} [parameters]
   * @param {Types.CommandOptions} [options]
   * @returns {Promise<any>}
   */
  command(name, parameters = {}, options = {}) {
    return this._requests.command(name, parameters, options);
  }

  /**
   * The server, its figures, and the channels and clients that you may see. The clients come in pages.
   * @param {{ limit?: number, after?: string }} [options]
   * @returns {Promise<Types.Status>}
   */
  status({ limit = 100, after = "" } = {}) {
    return this.command("status", { limit, after }, { repeat: true });
  }

  /**
   * The connected clients that you may see, over all pages: all of them, or those of a type, with a status, or with a
   * skill on their card.
   * @param {Types.ClientFilter} [filter]
   * @returns {AsyncGenerator<Types.ClientRow, void, undefined>}
   */
  async *clients({ type, status, skill } = {}) {
    const wanted = Object.entries({ type, status, skill }).filter(([, value]) => value !== undefined);
    for (let after = ""; after !== null;) {
      const parameters = { ...Object.fromEntries(wanted), limit: MAX_PAGE, after };
      const page = await this.command("list_clients", parameters, { repeat: true });
      yield* page.clients;
      after = page.next ?? null;
    }
  }

  /**
   * Ask for a pong.
   * @param {unknown} [echo] comes back in the answer
   */
  ping(echo = undefined) {
    return this.command("ping", echo === undefined ? {} : { echo }, { repeat: true });
  }

  /**
   * The commands with their parameters, or one of them.
   * @param {string | null} [command]
   * @returns {Promise<Types.CommandDescription[]>}
   */
  async help(command = null) {
    return (await this.command("help", command ? { command } : {}, { repeat: true })).commands;
  }

  /**
   * Create a permanent channel (admins only). `retention`: `{ count: messages, age: seconds }`. With `work` it hands
   * each message to one worker: `{ lease: seconds, attempts, hold: seconds, dead: address }`.
   * @param {string} address
   * @param {NonNullable<Parameters<Types.Bus["createChannel"]>[1]>} [options]
   * @returns {Promise<Types.JsonObject>}
   */
  createChannel(address, options = {}) {
    const { description = "", metadata, ephemeral = false, retention, work, presence, type = "custom" } = options;
    /** @type {Frame} */
    const parameters = { channel: address, description, type };
    if (metadata) parameters.metadata = metadata;
    if (ephemeral) parameters.ephemeral = true;
    if (retention) parameters.retention = retention;
    if (presence) parameters.presence = presence;
    if (work) parameters.work = work;
    return this.command("create_channel", parameters);
  }

  /**
   * Delete an empty channel (admins only).
   * @param {string} address
   * @returns {Promise<Types.JsonObject>}
   */
  deleteChannel(address) {
    return this.command("delete_channel", { channel: address });
  }

  /**
   * The channels of a room that you may see, over all pages; of all rooms without one.
   * @param {string | null} [room]
   * @returns {Promise<Types.ChannelRow[]>}
   */
  async listChannels(room = null) {
    const where = room ? { room } : { all: true };
    /** @type {Types.ChannelRow[]} */
    const rows = [];
    for (let after = ""; after !== null;) {
      const page = await this.command("list_channels", { ...where, limit: MAX_PAGE, after }, { repeat: true });
      rows.push(...page.channels);
      after = page.next ?? null;
    }
    return rows;
  }

  /**
   * A channel's members, metadata and head.
   * @param {string} address
   * @returns {Promise<Types.ChannelInfo>}
   */
  channelInfo(address) {
    return this.command("channel_info", { channel: address }, { repeat: true });
  }

  // --- history ---

  /**
   * One page, oldest first: the newest `limit` messages (before `before`), or the first ones behind `after`. Both are
   * exclusive: a seq, a time, or the `next` of a page that was read with the same one (`before`, if with neither).
   * `limit` is at most 500. A streamed message is one message, with what has arrived of it. With `fold: false` its
   * opening and its end are two.
   * @param {string} address
   * @param {Types.HistoryOptions} [options]
   * @returns {Promise<Page>}
   */
  async historyPage(address, options = {}) {
    const result = await this.#historyResult(address, { fold: true, ...options });
    return { messages: result.messages.map((frame) => this._kept(frame)), next: result.next ?? null };
  }

  /**
   * Every message of a channel (or of a whole room: `"science"`) from `since` on, oldest first, over all pages.
   * @param {string} address
   * @param {{ since?: Types.Since, until?: string | Date | null, type?: string, sender?: string }} [options]
   * @returns {AsyncGenerator<Message, void, undefined>}
   */
  async *history(address, { since = null, until = null, type, sender } = {}) {
    const whole = splitAddress(address)[1] === ALL;
    const end = until === null ? null : new Date(sinceTime(until));
    /** @type {number | string | Date | null} */
    let after = isPosition(since) ? since.seq : since;
    if (whole && typeof after === "number") {
      throw new TypeError("The channels of a whole room have no common seq. Give `since` as a time.");
    }
    if (after === null) after = whole ? new Date(0) : 0;
    while (after !== null) {
      /** @type {Page} */
      const page = await this.historyPage(address, { limit: MAX_PAGE, after, type, sender });
      for (const message of page.messages) {
        if (end && message.timestamp && message.timestamp >= end) return;
        yield message;
      }
      // A page may be shorter than asked for, even empty, before the end.
      after = page.next;
    }
  }

  /**
   * @param {string} address
   * @param {Types.HistoryOptions} options
   * @returns {Promise<{ messages: Frame[], next?: number | string | null }>}
   */
  #historyResult(address, { limit = 50, before = null, after = null, type, sender, fold = false }) {
    const [room, channel] = splitAddress(address);
    /** @type {Frame} */
    const parameters = { channel: `${room}:${channel}`, limit };
    for (const [name, value] of Object.entries({ before, after })) {
      const place = typeof value === "number" || (typeof value === "string" && value.startsWith(`${name}:`));
      if (value !== null) parameters[name] = place ? value : sinceTime(value);
    }
    if (type) parameters.type = type;
    if (sender) parameters.sender = sender;
    if (fold) parameters.fold = true;
    return this.command("history", parameters, { repeat: true });
  }

  /**
   * The frames behind a seq, as they were delivered, or with streamed messages in one.
   * @param {string} address
   * @param {number} after
   * @param {number} limit
   * @param {boolean} [fold]
   */
  async _historyFrames(address, after, limit, fold = false) {
    return (await this.#historyResult(address, { after, limit, fold })).messages;
  }

  /**
   * A message of the history.
   * @param {Frame} frame
   */
  _kept(frame) {
    return new Message(frame);
  }
}
