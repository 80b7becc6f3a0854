/** A streamed message of this client: what its owner writes reaches the server once and in order, across breaks. */

import { callListener } from "./application.js";
import { ArqonBusError, ServerError, streamEnded } from "./errors.js";
import { Message } from "./message.js";
import { Outflow } from "./outflow.js";
import { readPieces } from "./pieces.js";
import { Sender } from "./sender.js";

/** @import { EndState, JsonObject, StreamEnd, StreamMode, StreamState } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */
/** @import { Line } from "./line.js" */
/** @import { Append } from "./outflow.js" */
/** @import { Requests } from "./requests.js" */
/** @import { StreamTold } from "./sender.js" */

/** How long text gathers before it is sent, in milliseconds. */
const ROLL_UP = 40;
/** Above so many UTF-16 units that the server does not have, `write` waits. */
const MOST_BEHIND = 256 * 1024;
/** Above so many the text does not gather any longer. */
const ENOUGH = 16 * 1024;
/**
 * What an owner needs of its bus.
 * @typedef {object} OutStreamHost
 * @property {Line} line
 * @property {Requests} requests
 * @property {(of: string, append: Append) => void} onCommitted
 * @property {(end: StreamEnd, payload: JsonObject) => void} onEnd
 * @property {(stream: OutStream) => void} onOver
 */

/** The owner's side of a streamed message. `bus.stream` and `bus.adoptStream` make it. */
export class OutStream {
  /** @type {Outflow} */
  #flow;
  /** @type {Sender} */
  #sender;
  #stop = new AbortController();
  /** @type {unknown} what ended it for this owner */
  #failure = null;
  /** @type {unknown} why the server refused what was written */
  #fault = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** The first text goes at once, and later ones gather. */
  #nextFlush = 0;
  /** @type {Promise<StreamEnd> | null} */
  #ending = null;
  /**
   * @type {{ resolve: (end: StreamEnd) => void, reject: (problem: unknown) => void, state: EndState,
   *   payload: JsonObject | undefined } | null}
   */
  #ended = null;
  /** @type {Set<() => void>} who waits for a change */
  #waiting = new Set();
  /** @type {Steer[]} */
  #steers = [];
  /** @type {Set<string>} */
  #steered = new Set();
  /** @type {Set<string>} the steers that the model does not have */
  #untaken = new Set();

  /**
   * @param {OutStreamHost} host
   * @param {StreamTold & { mode: StreamMode }} told
   * @param {{ address: string, opening?: Frame | null, token?: string | null }} own `opening` is sent again after a
   *   break; an adopted stream has a `token`
   */
  constructor(host, told, { address, opening = null, token = null }) {
    this.host = host;
    this.address = address;
    /** The id of the message. */
    this.of = told.of;
    this.mode = told.mode;
    this.attempt = told.attempt;
    /** @type {StreamState} */
    this.state = told.state ?? "open";
    this.#flow = new Outflow(told.mode, told.have);
    this.#sender = new Sender(
      host,
      this.#flow,
      { of: told.of, opening, token },
      {
        onCommitted: (append) => host.onCommitted(this.of, append),
        onStop: () => this._stopRequested(),
        onEnd: (answer, payload) => this.#isOver(answer, payload),
        onFault: (problem, append) => this.#refused(problem, append),
        onFailure: (problem) => this._fail(problem),
        onProgress: () => this.#changed(),
      },
    );
    if (told.stopping) this._stopRequested();
    if (this.state !== "open") this.#failure = streamEnded(told);
  }

  /** The number of the last part that the server has. */
  get have() {
    return this.#flow.have;
  }

  /** Aborts when somebody asks to stop, and when the stream is lost or over. Give it to whatever produces the text. */
  get stopRequested() {
    return this.#stop.signal;
  }

  // --- writing ---

  /**
   * Add text. Texts of 40 ms go together. It waits while the server is far behind.
   * @param {string} text
   * @returns {Promise<void>}
   */
  write(text) {
    return quietly(async () => {
      this.#check();
      this.#flow.write(text);
      const pause = this.#nextFlush - performance.now();
      if (pause <= 0 || this.#flow.gathering > ENOUGH) this.#flush();
      else this.#timer ??= setTimeout(() => this.#flush(), pause);
      await this.#room();
    });
  }

  /**
   * Add a part, in mode `parts`.
   * @param {JsonObject} part
   * @returns {Promise<void>}
   */
  part(part) {
    return quietly(async () => {
      this.#check();
      this.#flow.part(part);
      this.#sender.pump();
      await this.#room();
    });
  }

  /** Send what was written now, and wait until the server has it. */
  async flush() {
    this.#check();
    this.#flush();
    await this.#until(() => this.#flow.idle);
  }

  /**
   * Write everything that a source gives: texts, bytes of UTF-8 or, in mode `parts`, objects. A stop ends it early. If
   * the source fails, the message ends as `aborted` and the error goes on.
   * @param {AsyncIterable<unknown> | Iterable<unknown> | ReadableStream<unknown>} source
   * @returns {Promise<void>}
   */
  async pipe(source) {
    this.#check();
    try {
      for await (const piece of readPieces(source, this.stopRequested)) {
        if (typeof piece === "string") await this.write(piece);
        else await this.part(/** @type {JsonObject} */ (piece));
      }
    } catch (problem) {
      if (!this.#failure) await this.end("aborted").catch(() => {});
      throw problem;
    }
    if (this.#failure) throw this.#failure;
  }

  /**
   * End it behind what was written. It resolves when the end is durable.
   * @param {EndState} [state]
   * @param {JsonObject} [payload] such as figures of the run
   * @returns {Promise<StreamEnd>}
   */
  end(state = "complete", payload = undefined) {
    if (this.#ending) return this.#ending;
    const ending = quietly(() => this.#end(state, payload));
    this.#ending = ending;
    // What was refused can be asked for again.
    ending.catch(() => {
      if (!this.#failure) this.#ending = null;
    });
    return ending;
  }

  /**
   * @param {EndState} state
   * @param {JsonObject | undefined} payload
   * @returns {Promise<StreamEnd>}
   */
  async #end(state, payload) {
    try {
      if (this.#failure) throw this.#failure;
      // What lacks text is not complete.
      if (this.#fault && state === "complete") throw this.#fault;
      clearTimeout(this.#timer);
      /** @type {Promise<StreamEnd>} */
      const ended = new Promise((resolve, reject) => (this.#ended = { resolve, reject, state, payload }));
      this.#flow.end(state, payload);
      this.#sender.pump();
      return await ended;
    } catch (problem) {
      // Somebody stopped it, and the server ended it: that is what this call was for.
      const told = /** @type {any} */ (problem)?.details?.[0];
      if (problem instanceof ServerError && problem.code === "STREAM_ENDED" && told?.state === "stopped") {
        return this.#endOf({ stream: told, duplicate: true });
      }
      throw problem;
    } finally {
      this.#ended = null;
    }
  }

  #check() {
    if (this.#failure) throw this.#failure;
    if (this.#fault) throw this.#fault;
    if (this.#ending) throw new ArqonBusError("The streamed message has ended.");
  }

  /** Wait until little enough is on its way. */
  async #room() {
    if (this.#flow.size > MOST_BEHIND) await this.#until(() => this.#flow.size <= MOST_BEHIND);
  }

  /** @param {() => boolean} reached */
  async #until(reached) {
    for (;;) {
      if (this.#failure) throw this.#failure;
      if (this.#fault) throw this.#fault;
      if (reached()) return;
      await new Promise((resolve) => this.#waiting.add(() => resolve(undefined)));
    }
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#nextFlush = performance.now() + ROLL_UP;
    this.#sender.flush();
  }

  #changed() {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  // --- what the server says ---

  /**
   * @param {Frame} answer to the end
   * @param {JsonObject} payload that of the end
   */
  #isOver(answer, payload) {
    this.state = answer.stream.state;
    const end = this.#endOf(answer);
    this.#ended?.resolve(end);
    this.host.onEnd(end, payload);
    this.host.onOver(this);
    this.#sender.stop();
    this.#changed();
  }

  /**
   * @param {Frame} answer
   * @returns {StreamEnd}
   */
  #endOf({ stream: { state, have }, seq = null, duplicate = false }) {
    return { of: this.of, seq, state, have, duplicate, untaken: [...this.#untaken] };
  }

  /**
   * @param {ServerError} problem
   * @param {Append} append
   */
  #refused(problem, append) {
    const isContent = !append.end || append.delta !== undefined || append.part !== undefined;
    if (isContent) this.#fault = problem;
    // What lacks text can only be aborted. Any other end behind it is given up with it.
    if (this.#ended?.state === "aborted" && isContent) this.#flow.end("aborted", this.#ended.payload);
    else this.#ended?.reject(problem);
    this.#changed();
  }

  /**
   * Connected again, or the server refused some frame. What is not known to be committed is sent again, and a stop that
   * was missed is heard.
   * @param {number} [retryAfter] milliseconds that the server asked for
   */
  _goOn(retryAfter = 0) {
    this.#sender.resync(retryAfter);
  }

  /** Somebody asks to stop. */
  _stopRequested() {
    this.#stop.abort(new DOMException("Somebody asked to stop the streamed message.", "AbortError"));
  }

  /** @param {Frame} frame a message that steers this one */
  _steer(frame) {
    if (this.#steered.has(frame.id)) return;
    this.#steered.add(frame.id);
    this.#untaken.add(frame.id);
    const take = (/** @type {string} */ id) => {
      this.#untaken.delete(id);
      this.#flow.take(id);
    };
    this.#steers.push(new Steer(frame, take));
    this.#changed();
  }

  /** This client opened or adopted it anew. */
  _replaced() {
    const message = "Another owner adopted the streamed message.";
    const details = [{ of: this.of, have: this.have }];
    this._fail(new ServerError({ code: "STREAM_LOST", number: 409, message, details }));
  }

  /**
   * It is over for this owner: lost to another one, ended by the server, or without a bus.
   * @param {unknown} problem
   */
  _fail(problem) {
    if (this.#failure || this.state !== "open") return;
    this.#failure = problem;
    const told = /** @type {any} */ (problem)?.details?.[0];
    if (/** @type {any} */ (problem)?.code === "STREAM_ENDED" && told?.state) this.state = told.state;
    clearTimeout(this.#timer);
    callListener(() => this.#stop.abort(problem));
    this.#sender.stop();
    this.#ended?.reject(problem);
    this.host.onOver(this);
    this.#changed();
  }

  // --- steers ---

  /**
   * The messages that steer this one, as they come, until it ends. Call `took()` of each that the model has.
   * @returns {AsyncGenerator<Steer, void, undefined>}
   */
  async *steers() {
    for (;;) {
      const steer = this.#steers.shift();
      if (steer) yield steer;
      else if (this.#failure || this.#ending || this.state !== "open") return;
      else await new Promise((resolve) => this.#waiting.add(() => resolve(undefined)));
    }
  }
}

/** A message that steers a streamed one, for its owner. */
export class Steer extends Message {
  /** @type {((id: string) => void) | null} */
  #take;

  /**
   * @param {Frame} frame
   * @param {(id: string) => void} take
   */
  constructor(frame, take) {
    super(frame);
    this.#take = take;
  }

  /** The model has this message. The next part, or the end, says so. What was not taken stands in `untaken`. */
  took() {
    this.#take?.(this.id);
    this.#take = null;
  }
}

/**
 * The promise of `work`. Who does not wait for it meets the error at the next call, and not as one that nobody caught.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
function quietly(work) {
  const promise = work();
  promise.catch(() => {});
  return promise;
}
