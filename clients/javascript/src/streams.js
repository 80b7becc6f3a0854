/** The streamed messages that this client owns, and what it asks of those of others. */

import { newId } from "./frames.js";
import { OutStream } from "./out-stream.js";

/** @import { StreamMode } from "../arqonbus.d.ts" */
/** @import { Answers } from "./answers.js" */
/** @import { Frame } from "./frames.js" */
/** @import { Line } from "./line.js" */
/** @import { OutStreamHost } from "./out-stream.js" */
/** @import { Requests } from "./requests.js" */

/**
 * The id of a streamed message, given as such or as the message.
 * @param {string | { of?: string, id?: string }} stream
 */
export function streamId(stream) {
  const of = typeof stream === "string" ? stream : (stream?.of ?? stream?.id);
  if (typeof of !== "string" || !of) throw new TypeError("Give the id of a streamed message, or the message.");
  return of;
}

/** Opens and adopts streams, and passes on what the server tells their owner. */
export class Streams {
  /** @type {Map<string, OutStream>} those that are open */
  #own = new Map();
  /** @type {OutStreamHost} */
  #host;

  /** @param {{ line: Line, requests: Requests, answers: Answers }} parts */
  constructor({ line, requests, answers }) {
    this.requests = requests;
    this.#host = {
      line,
      requests,
      // The server sends an owner no copy of its own parts. Readers here see them as soon as they are kept.
      onCommitted: (of, { n, delta, part }) => {
        if (delta !== undefined || part !== undefined) answers.get(of)?.append({ n, delta, part });
      },
      onEnd: ({ of, ...end }, payload) => answers.ended(of, end, payload),
      onOver: (stream) => {
        if (this.#own.get(stream.of) === stream) this.#own.delete(stream.of);
      },
    };
  }

  /** @param {string} of */
  owns(of) {
    return this.#own.has(of);
  }

  /**
   * Publish a message that opens a stream. With the id of one that is open, go on with that.
   * @param {Frame} frame
   * @param {StreamMode} mode
   * @param {number} timeout
   */
  async open(frame, mode, timeout) {
    const opening = { ...frame, id: frame.id ?? newId(), stream: { mode }, ack: true };
    const answer = await this.requests.request(opening, { repeat: true, timeout });
    const address = `${answer.room}:${answer.channel}`;
    return this.#add(new OutStream(this.#host, { ...answer.stream, mode }, { address, opening }));
  }

  /**
   * Become the owner of a stream.
   * @param {string} of
   * @param {boolean} keep whether its text is kept
   */
  async adopt(of, keep) {
    const told = await this.requests.command("adopt_stream", { of, keep }, { repeat: true });
    const address = told.room ? `${told.room}:${told.channel}` : "";
    return this.#add(new OutStream(this.#host, told, { address, token: told.token }));
  }

  /**
   * Ask the owner of a stream to stop.
   * @param {string} of
   */
  stop(of) {
    return this.requests.command("stop_stream", { of }, { repeat: true });
  }

  /** @param {OutStream} stream */
  #add(stream) {
    // The same stream of this client before: its token is void, and only one of both may send.
    this.#own.get(stream.of)?._replaced();
    if (stream.state === "open") this.#own.set(stream.of, stream);
    return stream;
  }

  /**
   * A notice of the server arrived. Returns whether it is for the owner of a stream.
   * @param {Frame} payload
   */
  notice({ event, of, message }) {
    if (event !== "stop_requested" && event !== "steer") return false;
    const stream = this.#own.get(of);
    if (event === "steer") stream?._steer(message);
    else stream?._stopRequested();
    return true;
  }

  /**
   * Connected again, or a frame was refused without saying which.
   * @param {number} [retryAfter] milliseconds
   */
  goOn(retryAfter) {
    for (const stream of [...this.#own.values()]) stream._goOn(retryAfter);
  }

  /**
   * The bus has ended.
   * @param {Error} error
   */
  fail(error) {
    for (const stream of [...this.#own.values()]) stream._fail(error);
  }
}
