/** The streamed messages that this client owns, and what it asks of those of others. */

import { splitAddress } from "./addresses.js";
import { ServerError } from "./errors.js";
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
    const answer = await this.requests.request(opening, { repeat: true, timeout }).catch((problem) => {
      throw frame.id ? openedElsewhere(problem, frame.id) : problem;
    });
    const address = `${answer.room}:${answer.channel}`;
    return this.#add(new OutStream(this.#host, { ...answer.stream, mode }, { address, opening }));
  }

  /**
   * Become the owner of a stream.
   * @param {string} of
   * @param {boolean} keep whether its text is kept
   * @param {string | null} [place] the address of its channel. A stream of another one is refused.
   */
  async adopt(of, keep, place = null) {
    const told = await this.#adopted({ of, keep }, place);
    const address = told.room ? `${told.room}:${told.channel}` : "";
    return this.#add(new OutStream(this.#host, told, { address, token: told.token }));
  }

  /**
   * @param {{ of: string, keep: boolean }} parameters
   * @param {string | null} place
   */
  async #adopted(parameters, place) {
    if (place === null) return this.requests.command("adopt_stream", parameters, { repeat: true });
    const [room, channel] = splitAddress(place);
    // Beside the parameters, where an older server ignores them.
    const frame = { type: "command", id: newId(), command: "adopt_stream", parameters, room, channel };
    try {
      return (await this.requests.request(frame, { repeat: true })).result;
    } catch (problem) {
      const missing = problem instanceof ServerError && problem.code === "STREAM_NOT_FOUND";
      throw missing ? elsewhere(problem, parameters.of) : problem;
    }
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

/**
 * @param {ServerError} problem
 * @param {string} run
 * @param {string} [whose]
 */
function elsewhere({ code, number, details }, run, whose = "another channel") {
  const name = run.replace(/^arq_/, "");
  const message = `The run '${name}' names a message of ${whose}. A run is unique on the whole bus.`;
  return new ServerError({ code, number, message, details });
}

/**
 * What a refused opening means for a run.
 * @param {unknown} problem
 * @param {string} run
 */
function openedElsewhere(problem, run) {
  if (!(problem instanceof ServerError && problem.code === "VALIDATION_ERROR")) return problem;
  if (!problem.details.some((fault) => fault?.field === "id")) return problem;
  // The server compares the channels of one sender. Of another sender it knows only that the id is taken.
  if (problem.reason.includes("another channel")) return elsewhere(problem, run);
  return problem.reason.includes("Another stream") ? elsewhere(problem, run, "another client or channel") : problem;
}
