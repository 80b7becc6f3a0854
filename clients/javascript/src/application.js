/** Calls of the application's own functions: their errors must not break the client. */

import { AttemptFailed, ConnectionFailed } from "./errors.js";
import { within } from "./timing.js";

/**
 * Show an application's error where developers look for errors. Node would exit for an error that nobody caught.
 * @param {unknown} problem
 */
export function report(problem) {
  if (typeof globalThis.reportError === "function") globalThis.reportError(problem);
  else console.error(problem);
}

/**
 * Call a listener, if there is one. What it throws is reported. Returns the end of an asynchronous one.
 * @template {unknown[]} Values
 * @param {((...values: Values) => unknown) | null | undefined} listener
 * @param {Values} values
 * @returns {Promise<void> | undefined}
 */
export function callListener(listener, ...values) {
  try {
    const result = /** @type {any} */ (listener?.(...values));
    if (typeof result?.then === "function") return result.then(null, report);
  } catch (problem) {
    report(problem);
  }
  return undefined;
}

/**
 * The result of a function of the application. Throws AttemptFailed when it fails or takes longer than `time`, so that
 * the next attempt calls it again.
 * @template T
 * @param {string} name names the function in the error
 * @param {number} time milliseconds
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function askApplication(name, time, work) {
  try {
    return await within(time, work);
  } catch (problem) {
    const cause = /** @type {any} */ (problem)?.message ?? problem;
    throw new AttemptFailed(new ConnectionFailed(`${name} failed: ${cause}`), { final: false });
  }
}

/** The listeners of an application, by the name of their event. */
export class Listeners {
  constructor() {
    /** @type {Map<string, Set<(...values: any[]) => unknown>>} */
    this.byEvent = new Map();
  }

  /**
   * Add a listener. Returns a function that removes it.
   * @param {string} event
   * @param {(...values: any[]) => unknown} listener
   */
  add(event, listener) {
    const listeners = this.byEvent.get(event) ?? new Set();
    this.byEvent.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /**
   * Call every listener of an event.
   * @param {string} event
   * @param {unknown[]} values
   */
  emit(event, ...values) {
    for (const listener of this.byEvent.get(event) ?? []) callListener(listener, ...values);
  }
}
