/** Functions of an application that are called with each message of a subscription. */

import { callListener } from "./application.js";
import { isTransient } from "./errors.js";

/** @import { Listener } from "../arqonbus.d.ts" */
/** @import { Subscription } from "./subscription.js" */

/**
 * Call `listener` with each message, until the subscription ends.
 * @param {Subscription} subscription
 * @param {Listener} listener
 * @param {(problem: unknown) => void} onError gets what ended it
 */
export async function listen(subscription, listener, onError) {
  for (;;) {
    try {
      for await (const message of subscription) {
        const over = callListener(/** @type {any} */ (listener), message, subscription);
        // What a listener is still at work on is not dealt with.
        if (subscription.autoMark) await over;
      }
      return;
    } catch (problem) {
      // Code that iterates can try again. A listener cannot, so that is done here.
      if (!subscription._error && isTransient(problem)) await subscription._pause(problem);
      else {
        onError(problem);
        return;
      }
    }
  }
}
