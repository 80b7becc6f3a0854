/** Waiting. All times are in milliseconds. */

import { TimedOut } from "./errors.js";

/**
 * @param {number} time
 * @returns {Promise<void>}
 */
export const sleep = (time) => new Promise((resolve) => setTimeout(resolve, Math.max(0, time)));

/**
 * The result of `work`, which may return a promise that never settles. Throws TimedOut after `time`.
 * @template T
 * @param {number} time
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function within(time, work) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Promise<never>} */
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TimedOut(`no answer within ${time / 1000} s`)), time);
  });
  try {
    return await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}
