/** Connecting, registering and coming back: the life of one client across its connections. */

import { report } from "./application.js";
import {
  AttemptFailed,
  CLOSE_CODES,
  ClosedByServer,
  ConnectionLost,
  ID_IN_USE,
  UNIDENTIFIED,
  comesBack,
} from "./errors.js";
import { Heartbeat } from "./heartbeat.js";
import { Link } from "./link.js";
import { onNetworkChange } from "./network.js";
import { sleep } from "./timing.js";

/** @import { Backoff, State } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */
/** @import { Identity } from "./identity.js" */
/** @import { Line } from "./line.js" */
/** @import { Dial } from "./link.js" */
/** @import { Requests } from "./requests.js" */

/** @typedef {Record<string, { epoch: string, seq: number }>} Positions */

/**
 * @typedef {object} ConnectionSettings
 * @property {boolean} reconnect
 * @property {number | null} giveUpAfter
 * @property {number | null} wait
 * @property {number} heartbeat
 * @property {Backoff} backoff
 * @property {string | null} resumeToken
 */

/**
 * What a connection tells its bus.
 * @typedef {object} ConnectionHooks
 * @property {() => Positions} positions the places for a registration that resumes
 * @property {(answer: Frame, asked: Positions) => void} onRegistered before any frame of a log
 * @property {(frame: Frame) => void} onFrame
 * @property {() => void} onConnected
 * @property {(state: State) => void} onState
 * @property {(error: Error) => void} onEnd
 */

/**
 * After a break the server may not have noticed that the old connection is gone, and then reports the id as in use.
 * For so many milliseconds that is taken for the client's own old connection, and tried again.
 */
const OWN_CONNECTION = 30_000;

/** Keeps a client connected. */
export class Connection {
  /** @type {{ resolve: () => void, reject: (error: Error) => void } | null} who waits for the first connection */
  #first = null;
  /** @type {Heartbeat | null} */
  #heartbeat = null;
  /** @type {((value?: unknown) => void) | null} ends the pause before the next attempt */
  #endPause = null;
  /** Whether the server chose the length of the pause. */
  #pauseByServer = false;

  /**
   * @param {Dial} dial
   * @param {Frame} registration
   * @param {ConnectionSettings} settings
   * @param {{ line: Line, requests: Requests, identity: Identity | null }} parts
   * @param {ConnectionHooks} hooks
   */
  constructor(dial, registration, settings, { line, requests, identity }, hooks) {
    this.dial = dial;
    this.registration = registration;
    this.settings = settings;
    this.line = line;
    this.requests = requests;
    this.identity = identity;
    this.hooks = hooks;
    /** @type {State} */
    this.state = "connecting";
    this.clientId = String(registration.client_id ?? "");
    this.resumeToken = settings.resumeToken;
    /** @type {Frame} the registration's answer: role, initial room and channel */
    this.registered = {};
    /** How many connections there were. */
    this.connections = 0;
  }

  /** The initial channel: a message without an address goes there. */
  get address() {
    return `${this.registered.room}:${this.registered.channel}`;
  }

  /**
   * Start, and wait for the first connection. Throws what the first attempts failed with.
   * @returns {Promise<void>}
   */
  open() {
    return new Promise((resolve, reject) => {
      this.#first = { resolve, reject };
      this.#run();
    });
  }

  /** Try at once instead of waiting for the end of the pause. */
  reconnectNow() {
    this.#endPause?.();
  }

  /**
   * The end, for everything that waits.
   * @param {Error} error
   */
  end(error) {
    if (this.line.failure) return;
    this.line.failure = error;
    this.requests.fail(error);
    this.hooks.onEnd(error);
    this.identity?.release();
    this.#change("closed");
    this.line.wakeAll();
    this.#endPause?.();
    this.#first?.reject(error);
    this.#first = null;
  }

  /** @param {State} state */
  #change(state) {
    if (state === this.state) return;
    this.state = state;
    this.hooks.onState(state);
  }

  async #run() {
    const stopListening = onNetworkChange(() => {
      this.#heartbeat?.check();
      if (!this.#pauseByServer) this.#endPause?.();
    });
    try {
      let lostAt = performance.now();
      while (!this.line.failure) {
        const link = await this.#tryConnect(lostAt);
        if (!link) continue;
        await this.#serve(link);
        lostAt = performance.now();
        if (!this.line.failure) await this.#lost(link);
      }
    } catch (problem) {
      this.end(/** @type {Error} */ (problem));
    } finally {
      stopListening();
    }
  }

  /**
   * One attempt. After a failure it ends the bus, or pauses and returns null.
   * @param {number} lostAt when the last connection broke, or the first attempt began
   */
  async #tryConnect(lostAt) {
    let link;
    try {
      link = await this.#connectOnce(lostAt);
    } catch (failure) {
      if (!(failure instanceof AttemptFailed)) throw failure;
      const patience = this.connections ? this.settings.giveUpAfter : this.settings.wait;
      if (failure.final || (patience !== null && performance.now() - lostAt >= patience)) this.end(failure.error);
      else await this.#pause(failure.retryAfter);
      return null;
    }
    if (!this.line.failure) return link;
    link.close();
    return null;
  }

  /**
   * A connection broke: end the bus, or pause before the next attempt.
   * @param {Link} link
   */
  async #lost(link) {
    const code = /** @type {number} */ (link.closeCode);
    // A function can give a new ticket or token for one that expired. If the server refuses that one, it is over.
    const renewable = code === UNIDENTIFIED && (this.dial.ticket || typeof this.dial.token === "function");
    if (!comesBack(code) && !renewable) this.end(new ClosedByServer(code, link.lastError));
    else if (!this.settings.reconnect) this.end(new ConnectionLost(`The connection was lost (${code}).`));
    else {
      this.#change("reconnecting");
      await this.#pause(CLOSE_CODES[code] && link.lastError ? link.lastError.retryAfter : null);
    }
  }

  /**
   * Wait before the next attempt. The wait is shorter when the network comes back or the bus is closed.
   * @param {number | null} retryAfter milliseconds that the server asked for
   */
  async #pause(retryAfter) {
    this.#pauseByServer = retryAfter !== null;
    const earlier = new Promise((resolve) => (this.#endPause = resolve));
    await Promise.race([sleep(this.settings.backoff.pause(retryAfter)), earlier]);
    this.#endPause = null;
  }

  /**
   * Connect and register. Throws AttemptFailed.
   * @param {number} lostAt
   * @returns {Promise<Link>}
   */
  async #connectOnce(lostAt) {
    if (this.identity) await this.#loadIdentity(this.identity);
    const link = await Link.dial(this.dial);
    try {
      this.#checkOpen();
      this.requests.setLimits(link.welcome.limits ?? {});
      const frame = this.#registrationFrame();
      this.#accepted(await link.register(frame), frame.resume?.positions ?? {});
      await this.identity?.keep(this.clientId, this.resumeToken);
    } catch (problem) {
      link.close();
      const error = problem instanceof AttemptFailed ? problem.error : null;
      if (!(error instanceof ClosedByServer && error.closeCode === ID_IN_USE)) throw problem;
      if (this.connections > 0 && performance.now() - lostAt < OWN_CONNECTION) {
        throw new AttemptFailed(error, { final: false });
      }
      if (this.connections > 0 || !this.identity?.renew()) throw problem;
      this.clientId = "";
      this.resumeToken = null;
      return this.#connectOnce(lostAt);
    }
    return link;
  }

  /** Throws AttemptFailed when the bus ended meanwhile. */
  #checkOpen() {
    if (this.line.failure) throw new AttemptFailed(this.line.failure, { final: true });
  }

  /**
   * Become the client whose identity was stored. Throws AttemptFailed.
   * @param {Identity} identity
   */
  async #loadIdentity(identity) {
    await identity.load(this.registration.client_id);
    this.#checkOpen();
    this.clientId = this.clientId || String(identity.clientId);
    this.resumeToken ??= identity.token;
  }

  #registrationFrame() {
    /** @type {Frame} */
    const frame = { type: "register", ...this.registration };
    if (this.clientId) frame.client_id = this.clientId;
    if (this.connections || this.resumeToken) {
      frame.resume = { token: this.resumeToken, positions: this.hooks.positions() };
    }
    return frame;
  }

  /**
   * The server registered the client. No frame of a log has arrived yet.
   * @param {Frame} answer
   * @param {Positions} asked
   */
  #accepted(answer, asked) {
    this.registered = answer;
    this.clientId = String(answer.client_id);
    this.resumeToken = answer.resume_token ?? null;
    this.hooks.onRegistered(answer, asked);
  }

  /**
   * From the registration to the end of one connection.
   * @param {Link} link
   */
  async #serve(link) {
    this.line.link = link;
    this.connections += 1;
    this.settings.backoff.reset();
    link.deliver(this.hooks.onFrame);
    const heartbeat = (this.#heartbeat = new Heartbeat(link, this.settings.heartbeat));
    this.#resume(link).catch((problem) => {
      report(problem);
      link.close(1006);
    });
    await link.ended;
    heartbeat.stop();
    this.#heartbeat = null;
    this.line.link = null;
    this.line.up = false;
    this.requests.connectionLost();
  }

  /**
   * Send what was not answered, in its order. New requests wait until that is done.
   * @param {Link} link
   */
  async #resume(link) {
    if (!(await this.requests.sendAgain(link)) || this.line.link !== link) return;
    this.line.up = true;
    this.#change("connected");
    this.#first?.resolve();
    this.#first = null;
    this.line.wakeAll();
    this.hooks.onConnected();
  }
}
