/** What a client sends: messages, private ones, and messages that grow. */

import { ALL } from "./addresses.js";
import { callListener } from "./application.js";
import { Commands } from "./commands.js";
import { StreamReset } from "./errors.js";
import { addressed, messageFrame } from "./outgoing.js";
import { Semaphore } from "./pacing.js";
import { Streams, streamId } from "./streams.js";

/** @import { PublishOptions, Receipt, StreamOptions, StreamState } from "../arqonbus.d.ts" */
/** @import { Answers } from "./answers.js" */
/** @import { Frame } from "./frames.js" */
/** @import { Line } from "./line.js" */
/** @import { Message } from "./message.js" */
/** @import { Requests } from "./requests.js" */

/** What makes an id as it is. */
const PLAIN_RUN = /^[\w.-]{1,100}$/;

/** The messages of one client. */
export class Publisher extends Commands {
  /** @type {(address: string | null | undefined) => boolean} */
  #echoes;
  /** @type {Semaphore} */
  #unacked;

  /**
   * @param {{ line: Line, requests: Requests, answers: Answers }} parts
   * @param {{ timeout: number, maxUnacked: number }} settings
   * @param {(address: string | null | undefined) => boolean} echoes whether a subscription here asked for the client's
   *   own messages
   */
  constructor(parts, settings, echoes) {
    super(parts.requests);
    this._settings = settings;
    this.#echoes = echoes;
    this.#unacked = new Semaphore(settings.maxUnacked);
    this._streams = new Streams(parts);
  }

  /**
   * Whether the client's own messages are to come back.
   * @param {string | null | undefined} address
   */
  _echoes(address) {
    return this.#echoes(address);
  }

  /**
   * Publish to `room:channel`, to `room` for everybody in it, or with null to the initial channel.
   *
   * `message` is a text, or an object, which is the payload. With `ack` it resolves when the message is durable. The
   * message is sent again under the same id after a break, so it is published exactly once. Without `ack` it resolves
   * when the frame is on the wire.
   * @param {string | null | undefined} address
   * @param {unknown} [message]
   * @param {PublishOptions} [options]
   * @returns {Promise<Receipt>}
   */
  async publish(address, message, options = {}) {
    const frame = addressed(messageFrame(options.type ?? "event", message, options), address);
    if (options.steer !== undefined && options.steer !== null) frame.steer = streamId(options.steer);
    if (frame.type === "private") return this._publish(frame, { ...options, ack: true });
    if (options.echo ?? this.#echoes(address)) frame.echo = true;
    return this._publish(frame, options);
  }

  /**
   * Send to the inboxes of one client or several. It resolves when the message is durable. Throws TARGET_NOT_FOUND.
   * @param {string | string[]} to client ids
   * @param {unknown} [message]
   * @param {PublishOptions} [options]
   * @returns {Promise<Receipt>}
   */
  async private(to, message, options = {}) {
    const frame = messageFrame("private", message, options);
    frame.to = Array.isArray(to) ? to : [to];
    return this._publish(frame, { ...options, ack: true });
  }

  /**
   * @param {Frame} frame
   * @param {PublishOptions} options
   * @returns {Promise<Receipt>}
   */
  async _publish(frame, { ack = true, timeout = this._settings.timeout }) {
    await this.#unacked.acquire();
    try {
      if (!ack) {
        await this._requests.send(this._requests.encode(frame), timeout);
        return { id: frame.id, room: frame.room ?? "", channel: frame.channel ?? ALL, seq: null, duplicate: false };
      }
      const answer = await this._requests.request({ ...frame, ack: true }, { repeat: true, timeout });
      const { room, channel, seq = null, duplicate = false } = answer;
      /** @type {Receipt} */
      const receipt = { id: frame.id, room, channel, seq, duplicate };
      if (answer.kept === false) receipt.kept = false;
      return typeof answer.steered === "boolean" ? { ...receipt, steered: answer.steered } : receipt;
    } finally {
      this.#unacked.release();
    }
  }

  // --- streamed messages ---

  /**
   * Open a message that grows: `write` its text, or its `part`s in mode `parts`, and `end` it. `run` names it: the same
   * run again goes on with its message, and `have` says how far it is.
   * @param {string | null | undefined} address
   * @param {StreamOptions} [options]
   */
  async stream(
    address,
    { run, mode = "text", type = "event", echo, timeout = this._settings.timeout, ...options } = {},
  ) {
    if (run !== undefined && !PLAIN_RUN.test(run)) {
      throw new TypeError("A run has 1 to 100 letters, digits, `.`, `_` and `-`.");
    }
    const frame = addressed(messageFrame(type, undefined, { id: run, ...options }), address);
    if (frame.type !== "private" && (echo ?? this.#echoes(address))) frame.echo = true;
    return this._streams.open(frame, mode, timeout);
  }

  /**
   * Become the owner of a streamed message whose owner is gone. With `keep: false` its text is thrown away. The owner
   * before gets STREAM_LOST. With an `address`, a message of another channel is refused.
   * @param {string | { of?: string, id?: string }} stream
   * @param {{ keep?: boolean, address?: string | null }} [options]
   */
  adoptStream(stream, { keep = true, address = null } = {}) {
    return this._streams.adopt(streamId(stream), keep, address);
  }

  /**
   * Ask the owner of a streamed message to stop. If the owner is gone, the server ends the message.
   * @param {string | { of?: string, id?: string }} stream
   */
  stopStream(stream) {
    return this._streams.stop(streamId(stream));
  }

  /**
   * Call `callback` with the text of a message, and what is new of it, each time it grows. When a new owner throws the
   * text away, the second value is null. Resolves with the state in which it ends.
   * @param {Message} message
   * @param {(text: string, delta: any, message: Message) => unknown} callback
   * @returns {Promise<StreamState | null>}
   */
  async streamText(message, callback) {
    for (;;) {
      try {
        for await (const delta of message.deltas()) callListener(callback, message.text, delta, message);
        return message.state;
      } catch (problem) {
        if (!(problem instanceof StreamReset)) throw problem;
        callListener(callback, "", null, message);
      }
    }
  }

  /**
   * Send a frame of your own as it is. Nothing waits for its answer. Throws BusClosed, TimedOut and the like.
   * @param {Frame | string} frame
   */
  async send(frame) {
    await this._requests.send(this._requests.encode(frame));
  }
}
