/** The methods of a bus that amend messages: edit, delete, react. Each amendment is a message of its own. */

import { addressed, messageFrame } from "./outgoing.js";
import { Publisher } from "./publisher.js";

/** @import * as Types from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */

/** Amendments of the messages of a bus. */
export class Amending extends Publisher {
  /**
   * Replace the text of a message, its payload, or both. The message of somebody else needs the right to manage. It
   * resolves when the edit is durable. Throws MESSAGE_NOT_FOUND, FORBIDDEN and the like.
   * @param {Types.Amended} message a message, the receipt of one, or an object with its `address` and `id`
   * @param {string | Types.JsonObject} content the text, or an object, which is the payload
   * @param {Types.AmendOptions & { payload?: Types.JsonObject }} [options]
   * @returns {Promise<Types.Receipt>}
   */
  async edit(message, content, options = {}) {
    const { message: text, payload } = messageFrame("amend", content, { payload: options.payload });
    if (text === undefined && payload === undefined) throw new TypeError("An edit needs a text, a payload, or both.");
    const given = { ...(text === undefined ? {} : { message: text }), ...(payload === undefined ? {} : { payload }) };
    return this.#amend(message, "edit", given, options);
  }

  /**
   * Delete a message for its readers. The log keeps what it said; `eraseMessage` removes that, too.
   * @param {Types.Amended} message
   * @param {Types.AmendOptions} [options]
   * @returns {Promise<Types.Receipt>}
   */
  async delete(message, options = {}) {
    return this.#amend(message, "delete", {}, options);
  }

  /**
   * React to any message, with an emoji or another short text.
   * @param {Types.Amended} message
   * @param {string} reaction
   * @param {Types.AmendOptions} [options]
   * @returns {Promise<Types.Receipt>}
   */
  async react(message, reaction, options = {}) {
    return this.#amend(message, "react", { reaction }, options);
  }

  /**
   * Take the own reaction back.
   * @param {Types.Amended} message
   * @param {string} reaction
   * @param {Types.AmendOptions} [options]
   * @returns {Promise<Types.Receipt>}
   */
  async unreact(message, reaction, options = {}) {
    return this.#amend(message, "unreact", { reaction }, options);
  }

  /**
   * Erase what a message and its amendments say, everywhere and for good (managers only).
   * @param {string} address
   * @param {number} seq
   * @returns {Promise<Types.JsonObject>}
   */
  eraseMessage(address, seq) {
    return this.command("erase_message", { channel: address, seq });
  }

  /**
   * @param {Types.Amended} message
   * @param {string} what
   * @param {Frame} given
   * @param {Types.AmendOptions} options
   */
  async #amend(message, what, given, options) {
    const { id, room, channel, seq = null } = /** @type {Frame} */ (message ?? {});
    const address = /** @type {Frame} */ (message)?.address ?? (room && `${room}:${channel}`);
    if (typeof id !== "string" || !id || typeof address !== "string") {
      throw new TypeError("Give a message, its receipt, or an object with its `address` and `id`.");
    }
    const frame = addressed({ ...messageFrame("amend", undefined, options), of: id, do: what, ...given }, address);
    if (seq !== null) frame.of_seq = seq;
    if (this._echoes(address)) frame.echo = true;
    return this._publish(frame, { ...options, ack: true });
  }
}
