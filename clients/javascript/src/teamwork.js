/** How clients work together: marks, leased work, questions with an answer, and status. */

import { splitAddress } from "./addresses.js";
import { Asks, asking } from "./asks.js";
import { Claims } from "./claims.js";
import { Deciding } from "./decisions.js";
import { isTransient } from "./errors.js";
import { newId } from "./frames.js";
import { JobWorker } from "./job-worker.js";
import { Marks } from "./marks.js";
import { messageFrame } from "./outgoing.js";
import { Responder } from "./responder.js";

/** @import * as Types from "../arqonbus.d.ts" */
/** @import { Answers } from "./answers.js" */
/** @import { Frame } from "./frames.js" */
/** @import { Line } from "./line.js" */
/** @import { Message } from "./message.js" */
/** @import { Requests } from "./requests.js" */
/** @import { Subscription } from "./subscription.js" */

/**
 * What this needs of the bus.
 * @typedef {object} TeamworkHooks
 * @property {(address: string | null | undefined) => boolean} echoes
 * @property {() => number} connections how many connections there were
 * @property {(options: Types.SubscribeOptions) => Subscription} inbox
 * @property {(problem: unknown) => void} onError
 */

/** What a client does with others, beside sending them messages. */
export class Teamwork extends Deciding {
  #claims;
  /** @type {TeamworkHooks} */
  #hooks;
  /** @type {(problem: unknown) => void} */
  #onError;
  /** @type {Types.StatusOptions | null} what to say again on the next connection */
  #status = null;

  /**
   * @param {{ line: Line, requests: Requests, answers: Answers }} parts
   * @param {{ timeout: number, maxUnacked: number }} settings
   * @param {TeamworkHooks} hooks
   */
  constructor(parts, settings, hooks) {
    super(parts, settings, hooks.echoes);
    this.#hooks = hooks;
    this.#onError = hooks.onError;
    this.#claims = new Claims({ ...parts, connections: hooks.connections });
    this._marks = new Marks((address, { seq, epoch }) => this.mark(address, seq, { epoch }), hooks.onError);
    this._asks = new Asks();
  }

  // --- marks ---

  /**
   * Tell the server that everything up to `seq` is dealt with. A smaller `seq` changes nothing, unless `back` is true.
   * @param {string} address also `pm:<own id>`
   * @param {number} seq
   * @param {{ back?: boolean, epoch?: string | null }} [options] a `seq` of another `epoch` is refused
   * @returns {Promise<Types.Marked>}
   */
  async mark(address, seq, { back = false, epoch = null } = {}) {
    const [room, channel] = splitAddress(address);
    const parameters = { room, channel, seq, ...(back ? { back } : {}), ...(epoch ? { epoch } : {}) };
    const marked = await this.command("mark", parameters, { repeat: true });
    this._marks.learn(`${room}:${channel}`, marked);
    return marked;
  }

  // --- leased work ---

  /**
   * Run `handler` for each job of a work channel. What it returns is the result. If it throws, the job is out again
   * after a growing pause.
   * @param {string} address
   * @param {Types.JobHandler} handler
   * @param {Types.WorkOptions} [options]
   */
  work(address, handler, options = {}) {
    splitAddress(address);
    return new JobWorker(this.#claims, address, handler, { ...options, onError: this.#onError });
  }

  /**
   * Claim jobs yourself. Call `done`, `release` or `reject` of each.
   * @param {string} address
   * @param {{ max?: number, wait?: number }} [options] `wait` in milliseconds, at most 25,000
   */
  claim(address, { max = 1, wait = 0 } = {}) {
    splitAddress(address);
    return this.#claims.claim(address, { max, wait });
  }

  /**
   * What waits in a work channel, who is at work, and what is dead.
   * @param {string} address
   * @returns {Promise<Types.WorkOverview>}
   */
  workOverview(address) {
    return this.command("work", { channel: address }, { repeat: true });
  }

  /**
   * Let a dead job out again, as if nobody had tried it.
   * @param {string} address
   * @param {number} seq
   * @returns {Promise<Types.JsonObject>}
   */
  retryJob(address, seq) {
    return this.command("retry_job", { channel: address, seq }, { repeat: true });
  }

  /**
   * Take a job out of the queue. Its worker gets ClaimLost.
   * @param {string} address
   * @param {number} seq
   * @returns {Promise<Types.JsonObject>}
   */
  discardJob(address, seq) {
    return this.command("discard_job", { channel: address, seq }, { repeat: true });
  }

  // --- questions ---

  /**
   * Ask one client, or a work channel, and wait for the reply. Throws ServerError: NO_RESPONDER when nobody is there,
   * ASK_TIMEOUT when nobody answers in time. Throws AskFailed when the other side has no answer.
   * @param {string} to a client id, or `room:channel`
   * @param {unknown} message a text, or an object, which is the payload
   * @param {Types.AskOptions} [options]
   * @returns {Promise<Message>}
   */
  async ask(to, message, { timeout = 30_000, durable = false, ...options } = {}) {
    const frame = asking(messageFrame(options.type ?? "event", message, options), to, { timeout, durable });
    const reply = this._asks.wait(frame.id, to, timeout);
    // Whatever happens first is what the caller gets.
    reply.catch(() => {});
    try {
      const receipt = await this._publish(frame, { timeout: Math.min(timeout, this._settings.timeout) });
      if (receipt.duplicate) await this.#findReply(frame.id);
    } catch (problem) {
      this._asks.failed(frame.id, problem);
    }
    return reply;
  }

  /**
   * The question was asked before, perhaps by an earlier process. Its reply may be in the inbox already.
   * @param {string} correlation
   */
  async #findReply(correlation) {
    const { messages } = await this.historyPage(this.#hooks.inbox({}).address, { type: "reply", limit: 500 });
    for (const { raw } of messages) if (raw.correlation === correlation) this._asks.take(raw);
  }

  /**
   * Answer the questions to this client with what `handler` returns. If it throws, the asker gets the error.
   * @param {Types.AnswerHandler} handler
   * @param {Types.AnswersOptions} [options]
   */
  answers(handler, { since = "mark", concurrency = 16 } = {}) {
    const inbox = this.#hooks.inbox({ since });
    return new Responder(inbox, handler, {
      concurrency,
      marks: since === "mark" ? this._marks.reader(inbox.address) : null,
      reply: (question, payload, error) => this.reply(question, payload, { error }),
      ping: () => this.command("ping", {}, { repeat: true }),
      onError: this.#onError,
    });
  }

  /**
   * Reply to a question yourself.
   * @param {string | Message} question its id, or the message
   * @param {Types.JsonObject} [payload]
   * @param {{ error?: string | null, id?: string }} [options] `error` says why there is no answer
   * @returns {Promise<Types.Receipt>}
   */
  reply(question, payload = {}, { error = null, id = newId() } = {}) {
    const to = typeof question === "string" ? question : question.id;
    /** @type {Frame} */
    const frame = { type: "reply", id, to_message: to, payload, ...(error === null ? {} : { error }) };
    // Two askers may have chosen the same id.
    if (typeof question !== "string" && question.replyTo !== null) frame.reply_to = question.replyTo;
    return this._publish(frame, {});
  }

  // --- status ---

  /**
   * Say what this client is doing. What is not given is cleared. It ends with the connection, or after `ttl`
   * milliseconds. Without a `ttl` the client says it again after a break.
   * @param {Types.StatusOptions} [options]
   */
  async setStatus(options = {}) {
    const said = Object.entries(options).filter(([, value]) => value !== undefined && value !== null);
    this.#status = said.length && !options.ttl ? options : null;
    const parameters = Object.fromEntries(said);
    if (options.ttl) parameters.ttl = options.ttl / 1000;
    await this.command("set_status", parameters, { repeat: true });
  }

  // --- connections ---

  /** Connected again: say the status again, because it ended with the connection before. */
  _resumeTeamwork() {
    if (!this.#status) return;
    this.setStatus(this.#status).catch((problem) => isTransient(problem) || this.#onError(problem));
  }

  /**
   * The bus has ended.
   * @param {Error} error
   */
  _endTeamwork(error) {
    this._asks.fail(error);
    this.#claims.fail(error);
  }
}
