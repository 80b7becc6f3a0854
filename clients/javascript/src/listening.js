/** Functions of an application that are called with each message of a subscription. */

import { callListener } from "./application.js";
import { isTransient } from "./errors.js";

/** @import { Listener, Marked } from "../arqonbus.d.ts" */
/** @import { Answers } from "./answers.js" */
/** @import { Frame } from "./frames.js" */
/** @import { Marks } from "./marks.js" */
/** @import { Subscription } from "./subscription.js" */

/**
 * What a subscription needs of its bus.
 * @typedef {object} SubscriptionHost
 * @property {string} clientId
 * @property {boolean} closed whether the bus has ended
 * @property {Answers} answers the streamed messages that grow
 * @property {Marks} marks
 * @property {(address: string, seq: number) => Promise<Marked>} mark
 * @property {(frame: Frame) => boolean} takesReply whether a message is the reply to a question of this client
 * @property {(subscription: Subscription) => Promise<void>} attach starts the delivery, and joins the channel
 * @property {(subscription: Subscription) => Promise<void>} detach ends the delivery, and leaves an unused channel
 * @property {(address: string, after: number, limit: number) => Promise<Frame[]>} historyFrames
 * @property {(problem: unknown, subscription: Subscription) => void} onError
 * @property {import("./bus.js").Bus} bus
 */

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
