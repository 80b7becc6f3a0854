/** Reading from the history what a subscription did not take live. */

import { ServerError } from "./errors.js";
import { sleep } from "./timing.js";

/** @import { Cursor } from "./cursor.js" */
/** @import { Frame } from "./frames.js" */

/** The largest page that the server gives. */
export const MAX_PAGE = 500;
/** How often to ask for a head that the history does not show, before it counts as lost. */
const HEAD_ATTEMPTS = 20;
/** The pause between these attempts, in milliseconds. */
const HEAD_PAUSE = 50;

/**
 * Take one page of the history behind `cursor`. When it was the last page, the cursor no longer lags.
 * @param {Cursor} cursor
 * @param {number} limit the size of a full page
 * @param {(after: number) => Promise<Frame[]>} getPage
 * @param {(frame: Frame) => void} accept takes each frame of the page, and moves the cursor
 * @returns {Promise<boolean>} whether messages up to the head were lost
 */
export async function catchUp(cursor, limit, getPage, accept) {
  for (let attempt = 1; attempt <= HEAD_ATTEMPTS; attempt += 1) {
    const { generation } = cursor;
    /** @type {Frame[]} */
    let page;
    try {
      page = await getPage(cursor.last ?? 0);
    } catch (problem) {
      if (!(problem instanceof ServerError) || ![403, 404].includes(problem.number)) throw problem;
      page = [];
      attempt = HEAD_ATTEMPTS;
    }
    if (generation !== cursor.generation) return false;
    for (const frame of page) accept(frame);
    if (page.length === limit) return false;
    if ((cursor.last ?? 0) >= cursor.head) {
      cursor.lagging = false;
      return false;
    }
    if (page.length) return false;
    if (attempt < HEAD_ATTEMPTS) await sleep(HEAD_PAUSE);
  }
  // It passed on the socket and is not in the history: pruned meanwhile, or not for this client to read.
  cursor.skipTo(cursor.head);
  return true;
}
