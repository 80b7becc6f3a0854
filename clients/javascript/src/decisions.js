/** Decisions: questions to people. The server keeps them, so that both sides may restart. */

import { splitAddress } from "./addresses.js";
import { Amending } from "./amending.js";
import { ConnectionLost, ServerError, TimedOut } from "./errors.js";
import { Backoff } from "./pacing.js";
import { sleep } from "./timing.js";

/** @import * as Types from "../arqonbus.d.ts" */

/** The largest page of decisions. */
const LARGEST_PAGE = 100;
/** The longest wait of one request that the server allows, in milliseconds. */
const LONGEST_WAIT = 25_000;
/** An answer "not decided yet" that comes sooner than this is one of a server that stops, in milliseconds. */
const AT_ONCE = 1_000;

/** @param {string | Types.Decision} decision */
const named = (decision) => (typeof decision === "string" ? decision : decision.decision);

/** The methods for decisions, as their asker and as their decider. */
export class Deciding extends Amending {
  /**
   * Ask people to decide, and wait until one of them has, also across breaks and restarts. The same `key` and `args`
   * find the same decision again, also one that was made while this client was away, and a "no" of the last hour.
   * With `timeout` it throws TimedOut, and the decision stays pending.
   * @param {string} address
   * @param {Types.DecisionOptions & { timeout?: number | null }} options
   * @returns {Promise<Types.Decision>}
   */
  async decideByHuman(address, { timeout = null, ...options }) {
    const until = timeout === null ? Infinity : performance.now() + timeout;
    let found;
    try {
      found = await this.requestDecision(address, options);
    } catch (problem) {
      const rejected = problem instanceof ServerError && problem.code === "REJECTED_BEFORE" && problem.details[0];
      if (!rejected?.decision) throw problem;
      return this.awaitDecision(rejected.decision, { wait: 0 });
    }
    const pause = new Backoff();
    while (found.state === "pending") {
      const left = until - performance.now();
      if (left <= 0) throw new TimedOut(`Nobody decided "${options.title}" in time.`);
      const next = await this.#look(found.decision, Math.min(LONGEST_WAIT, left), pause);
      found = next ?? found;
    }
    return found;
  }

  /**
   * Wait once for the end of a decision. Null if the server could not be asked.
   * @param {string} decision
   * @param {number} wait
   * @param {Backoff} pause
   * @returns {Promise<Types.Decision | null>}
   */
  async #look(decision, wait, pause) {
    const began = performance.now();
    let found = null;
    let retryAfter = null;
    try {
      found = await this.awaitDecision(decision, { wait });
    } catch (problem) {
      const again = problem instanceof TimedOut || problem instanceof ConnectionLost;
      if (!again && !(problem instanceof ServerError && problem.retry)) throw problem;
      retryAfter = problem instanceof ServerError ? problem.retryAfter : null;
    }
    if (found && (found.state !== "pending" || performance.now() - began >= Math.min(wait, AT_ONCE))) pause.reset();
    else await sleep(Math.min(wait, pause.pause(retryAfter)));
    return found;
  }

  /**
   * Ask the people of a channel to decide. It resolves with the pending decision at once. Throws ServerError:
   * REJECTED_BEFORE if a person said no to the same within the last hour.
   * @param {string} address
   * @param {Types.DecisionOptions} options
   * @returns {Promise<Types.Decision>}
   */
  requestDecision(address, { key, title, action, args = {}, allow, schema, expires, onExpiry }) {
    const [room, channel] = splitAddress(address);
    const given = { allow, schema, expires: expires === undefined ? undefined : expires / 1000, on_expiry: onExpiry };
    const rest = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    const parameters = { channel: `${room}:${channel}`, key, title, action, args, ...rest };
    return this.command("request_decision", parameters, { repeat: true });
  }

  /**
   * A decision once it has ended, or as it is after `wait` milliseconds, at most 25,000.
   * @param {string | Types.Decision} decision
   * @param {{ wait?: number }} [options]
   * @returns {Promise<Types.Decision>}
   */
  awaitDecision(decision, { wait = LONGEST_WAIT } = {}) {
    const parameters = { decision: named(decision), wait: wait / 1000 };
    return this.command("await_decision", parameters, { repeat: true, timeout: wait + this._settings.timeout });
  }

  /**
   * Decide. The first answer counts. Throws ServerError: DECISION_ENDED if somebody else was first.
   * @param {string | Types.Decision} decision
   * @param {Types.DecisionAnswer} answer
   * @param {{ args?: Types.JsonObject, comment?: string }} [options] `edit` needs `args`, `respond` needs a `comment`
   * @returns {Promise<Types.Decision>}
   */
  decide(decision, answer, { args, comment } = {}) {
    const parameters = {
      decision: named(decision),
      answer,
      ...(args ? { args } : {}),
      ...(comment ? { comment } : {}),
    };
    return this.command("decide", parameters, { repeat: true });
  }

  /**
   * Withdraw a question.
   * @param {string | Types.Decision} decision
   * @returns {Promise<Types.Decision>}
   */
  cancelDecision(decision) {
    return this.command("cancel_decision", { decision: named(decision) }, { repeat: true });
  }

  /**
   * Use a decision of your own, once: before you do its action. Throws ServerError: ALREADY_USED the second time.
   * @param {string | Types.Decision} decision
   * @returns {Promise<Types.Decision>}
   */
  consumeDecision(decision) {
    return this.command("consume_decision", { decision: named(decision) });
  }

  /**
   * The decisions that you may see, the newest first, over all pages.
   * @param {Types.DecisionFilter} [filter]
   * @returns {AsyncGenerator<Types.Decision, void, undefined>}
   */
  async *listDecisions({ address, room, state, mine, toDecide } = {}) {
    const given = { channel: address, room, state, mine, to_decide: toDecide };
    const wanted = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    for (let after = undefined; after !== null;) {
      const parameters = { ...wanted, limit: LARGEST_PAGE, ...(after === undefined ? {} : { after }) };
      const page = await this.command("list_decisions", parameters, { repeat: true });
      yield* page.decisions;
      after = page.next ?? null;
    }
  }
}
