/** A message as applications see it. */

import { INBOX_ROOM } from "./addresses.js";
import { isoTime } from "./positions.js";

/** @import { Frame } from "./frames.js" */

/**
 * @param {any} value
 * @returns {Record<string, any>} an empty object for anything but an object
 */
const objectOr = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});

/** One delivered message. */
export class Message {
  /**
   * @param {Frame} frame
   * @param {boolean} [afterGap]
   */
  constructor(frame, afterGap = false) {
    this.id = String(frame.id ?? "");
    this.type = String(frame.type ?? "event");
    this.room = String(frame.room ?? "");
    this.channel = String(frame.channel ?? "");
    /** The sender's client id. The server vouches for it. */
    this.sender = String(frame.from ?? "");
    /**
     * The place in the channel's log. It is null on ephemeral channels and for notices of the server.
     * @type {number | null}
     */
    this.seq = Number.isInteger(frame.seq) ? frame.seq : null;
    this.payload = objectOr(frame.payload);
    /**
     * What the sender gave as `message`, nearly always a text.
     * @type {unknown}
     */
    this.content = frame.message ?? null;
    this.metadata = objectOr(frame.metadata);
    /** Messages before this one are lost to this reader: they were pruned, or their log was rebuilt. */
    this.afterGap = afterGap;
    /** The frame as it arrived. */
    this.raw = frame;
  }

  /** The server's time. */
  get timestamp() {
    const time = isoTime(this.raw.timestamp);
    return time === null ? null : new Date(time);
  }

  /** The message's text. It is empty when there is none. */
  get text() {
    if (typeof this.content === "string") return this.content;
    return typeof this.payload.message === "string" ? this.payload.message : "";
  }

  /** `room:channel`. */
  get address() {
    return `${this.room}:${this.channel}`;
  }

  /** `payload.event` of the server's notices, such as `client_joined`. */
  get event() {
    return this.type === "system" && typeof this.payload.event === "string" ? this.payload.event : null;
  }

  /** Whether the content of this message can no longer be read. `payload` is then empty. */
  get unreadable() {
    return this.raw.unreadable === true;
  }

  /** Whether it arrived through an inbox. */
  get private() {
    return this.room === INBOX_ROOM;
  }
}
