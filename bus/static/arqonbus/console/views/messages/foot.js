/** The line below the messages: how many there are, how fast they come, and what the view leaves out. */
import { h } from "../../dom.js";
import { count, counted, rate } from "../../format.js";

/** @typedef {import("./log.js").Item} Item */

/** Above so many messages a second the view is updated four times a second, and says so. */
export const FAST = 50;

/**
 * @param {{ log: import("./log.js").MessageLog, total: number | undefined, loading: boolean, speed: number,
 *   paused: boolean, waiting: Item[] }} view
 */
export function footParts({ log, total, loading, speed, paused, waiting }) {
  const parts = [];
  if (total !== undefined) parts.push(h("span", { data: { total } }, `${counted(total, "message")} so far`));
  const shown = log.shown.filter((item) => !item.notice).length;
  parts.push(h("span", `${count(shown)} ${log.filtering ? "match the filters" : loaded(log)}`));
  if (loading) parts.push(h("span", "loading older messages …"));
  else if (log.exhausted && shown) parts.push(h("span", "start of the kept history"));
  if (speed >= 1) parts.push(h("span", `${rate(speed)}/s`));
  if (paused) {
    const text = `paused, ${count(waiting.length)} waiting`;
    parts.push(h("span.badge.system", { data: { waiting: waiting.length } }, text));
  } else if (speed > FAST) {
    const title = "Every message is counted, and you can scroll to it. Only the drawing is sampled. Pause to read.";
    parts.push(h("span.badge.telemetry", { title }, "sampled view, 4 times a second; counts are exact"));
  }
  return parts;
}

/**
 * The end of an answer is a message of the channel, and no row of its own.
 * @param {import("./log.js").MessageLog} log
 */
function loaded({ shown }) {
  const ends = shown.filter((item) => item.message.endSeq !== null).length;
  return ends ? `loaded, which contain ${counted(ends, "end")} of answers` : "loaded";
}
