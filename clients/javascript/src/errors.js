/** The errors that an application can meet, and what the server's close codes mean. */

/** @import { ErrorObject, CloseKind } from "../arqonbus.d.ts" */

/** Base of every error of this client. */
export class ArqonBusError extends Error {
  /** @param {string} [message] */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The server cannot be reached, or it does not speak the bus protocol. */
export class ConnectionFailed extends ArqonBusError {}

/** The connection broke before the answer arrived. The server may or may not have carried out the request. */
export class ConnectionLost extends ArqonBusError {}

/** No answer arrived in time, so the outcome is unknown. Publishing again with the same id is safe. */
export class TimedOut extends ArqonBusError {}

/** Another page of this browser is connected with the identity that was asked for. */
export class IdentityInUse extends ArqonBusError {}

/** The text that was read of a streamed message was thrown away by a new owner. Reading it can begin again. */
export class StreamReset extends ArqonBusError {}

/** The bus was used after `close()`. */
export class BusClosed extends ArqonBusError {}

/** The server refused one frame or command. `code` and `number` are those of the protocol's error table. */
export class ServerError extends ArqonBusError {
  /** @param {ErrorObject} [error] the `error` object of the server's frame */
  constructor(error = {}) {
    const code = String(error.code ?? "");
    const text = String(error.message ?? "");
    /** @type {any[]} */
    const details = Array.isArray(error.details) ? error.details : [];
    // A stack trace shows only the message, and the faults are what a developer looks for.
    const faults = details
      .filter((fault) => fault?.message && !text.includes(fault.message))
      .map((fault) => `${fault.field ?? ""}: ${fault.message}`);
    super([text ? `${code}: ${text}` : code, ...faults].join("\n  "));
    this.code = code;
    this.number = Number(error.number ?? 0);
    this.reason = text;
    this.details = details;
    /** Milliseconds to wait before another attempt, if the server named them. */
    this.retryAfter = typeof error.retry_after === "number" ? error.retry_after * 1000 : null;
  }

  /** Whether the same request may succeed later. */
  get retry() {
    return this.number === 429 || this.number >= 500;
  }
}

/**
 * The job belongs to somebody else now, or to nobody. `why` is `expired`, `taken`, `done` or `cancelled`. `by` is the
 * client that has the job.
 */
export class ClaimLost extends ServerError {
  /** @param {ErrorObject} error */
  constructor(error) {
    super(error);
    const { claim, why, by, seq } = this.details[0] ?? {};
    this.claim = String(claim ?? "");
    this.why = String(why ?? "");
    /** @type {string | null} */
    this.by = typeof by === "string" ? by : null;
    /** @type {number | null} */
    this.seq = Number.isInteger(seq) ? seq : null;
  }
}

/**
 * The error of the server's frame.
 * @param {ErrorObject} [error]
 */
export const refusal = (error) => (error?.code === "CLAIM_LOST" ? new ClaimLost(error) : new ServerError(error));

/** The other side of a question answered that it has no answer. `reply` is its message. */
export class AskFailed extends ArqonBusError {
  /** @param {import("./message.js").Message} reply */
  constructor(reply) {
    super(`${reply.sender}: ${reply.error}`);
    this.reply = reply;
    this.reason = String(reply.error ?? "");
  }
}

/**
 * What each close code of the server means, and whether a client reconnects after it.
 * @type {Readonly<Record<number, CloseKind>>}
 */
export const CLOSE_CODES = Object.freeze({
  4008: { meaning: "too many invalid frames", reconnect: false },
  4012: { meaning: "the server restarts", reconnect: true },
  4013: { meaning: "slow reader, or a server that is overloaded or failed; resume", reconnect: true },
  4401: { meaning: "not authenticated", reconnect: false },
  4403: { meaning: "not allowed, or disconnected by an admin", reconnect: false },
  4409: { meaning: "client_id in use", reconnect: false },
  4410: { meaning: "taken over by a newer connection", reconnect: false },
  4429: { meaning: "too many frames or connections", reconnect: true },
});

/** The close code for clients that are not authenticated, or no longer. */
export const UNIDENTIFIED = 4401;
/** The close code for a `client_id` that another connection has. */
export const ID_IN_USE = 4409;

/**
 * Whether a client reconnects after this close code. Of WebSocket's own codes only 1008 (policy) is final.
 * @param {number} code
 */
export function comesBack(code) {
  const kind = CLOSE_CODES[code];
  return kind ? kind.reconnect : code !== 1008;
}

/** The server ended the connection for good. `closeCode` is in `CLOSE_CODES`, and `error` gives the reason. */
export class ClosedByServer extends ArqonBusError {
  /**
   * @param {number} closeCode
   * @param {ServerError | null} [error]
   */
  constructor(closeCode, error = null) {
    super(`${closeCode}, ${CLOSE_CODES[closeCode]?.meaning ?? "closed"}${error ? ` (${error.message})` : ""}`);
    this.closeCode = closeCode;
    this.error = error;
  }
}

/** One attempt to connect failed; no other attempt can help when `final`. Applications see `error` instead. */
export class AttemptFailed extends Error {
  /**
   * @param {Error} error
   * @param {{ final: boolean, retryAfter?: number | null }} options `retryAfter` in milliseconds
   */
  constructor(error, { final, retryAfter = null }) {
    super(error.message);
    this.error = error;
    this.final = final;
    this.retryAfter = retryAfter;
  }
}

const BUSY_CODES = ["BUSY", "UNAVAILABLE", "OUTCOME_UNKNOWN"];
const TRANSIENT_CODES = [...BUSY_CODES, "RATE_LIMITED", "RESTARTING"];

/**
 * Whether the server had no capacity for a request, so that the same request is sent again.
 * @param {any} problem
 */
export const isBusy = (problem) => BUSY_CODES.includes(problem?.code);

/**
 * Whether the same request may soon succeed without anybody's help.
 * @param {any} problem
 */
export const isTransient = (problem) => problem instanceof TimedOut || TRANSIENT_CODES.includes(problem?.code);

/**
 * Whether a value can never be sent: it is no JSON, or the server refuses it.
 * @param {unknown} problem
 */
export const isRefusedForGood = (problem) =>
  problem instanceof ServerError ? [400, 413].includes(problem.number) : !(problem instanceof ArqonBusError);

/**
 * A text about a problem of the application that fits into the server's limit.
 * @param {unknown} problem
 */
export const errorText = (problem) =>
  [...String(problem instanceof Error ? problem : (/** @type {any} */ (problem)?.message ?? problem))]
    .slice(0, 2_000)
    .join("");

/**
 * The server ended a streamed message that this client owns.
 * @param {{ of: string, have: number, state: string, attempt?: number }} told
 */
export const streamEnded = (told) =>
  new ServerError({ code: "STREAM_ENDED", number: 409, message: "The streamed message has ended.", details: [told] });
