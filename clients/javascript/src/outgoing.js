/** The frames of an application's messages. */

import { ALL, INBOX_ROOM, splitAddress } from "./addresses.js";
import { newId } from "./frames.js";
import { sinceTime } from "./positions.js";

/** @import { PublishOptions } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */

/**
 * The frame of a new message.
 * @param {string} type
 * @param {unknown} message a text, or an object, which is the payload
 * @param {Pick<PublishOptions, "payload" | "metadata" | "id" | "deliverAt">} options
 * @returns {Frame}
 */
export function messageFrame(type, message, { payload, metadata, deliverAt, id = newId() }) {
  /** @type {Frame} */
  const frame = { type, id };
  if (message !== null && typeof message === "object") {
    if (payload !== undefined) throw new TypeError("Give the payload once: as `message` or as `payload`.");
    frame.payload = message;
  } else {
    if (message !== undefined && message !== null) frame.message = message;
    if (payload !== undefined) frame.payload = payload;
  }
  if (metadata !== undefined) frame.metadata = metadata;
  if (deliverAt !== undefined && deliverAt !== null) frame.deliver_at = sinceTime(deliverAt);
  return frame;
}

/**
 * Say in a frame where it goes. Messages to an inbox become private ones.
 * @param {Frame} frame
 * @param {string | null | undefined} address without one it goes to the initial channel
 * @returns {Frame}
 */
export function addressed(frame, address) {
  if (address === null || address === undefined) return frame;
  const [room, channel] = splitAddress(address);
  if (room === INBOX_ROOM) return Object.assign(frame, { type: "private", to: [channel] });
  frame.room = room;
  if (channel !== ALL) frame.channel = channel;
  return frame;
}
