/** The rows of messages, newest first. */
import { fill, h } from "../../dom.js";
import { time } from "../../format.js";
import { setBadge, setFace } from "../../parts.js";
import { VirtualList } from "../../virtual-list.js";
import { STATES, lastWords } from "./growing.js";
import { CHANGES } from "./jobs.js";

/** @typedef {import("./log.js").Item} Item */

/** Room for the sign that more comes, in pixels. */
const CURSOR = 16;

/**
 * @param {string} address
 * @param {Pick<import("../../virtual-list.js").ListOptions<Item>, "items" | "onend" | "onpick" | "onscroll">} options
 * @param {() => number} freshFrom messages that arrived later are marked as fresh
 * @param {import("./jobs.js").JobStates} jobs what is known about the jobs of a work channel
 */
export function messageList(address, options, freshFrom, jobs) {
  return new VirtualList({
    height: () => (matchMedia("(max-width: 760px)").matches ? 58 : 36),
    label: `Messages of ${address}`,
    make: () =>
      h("div.message", [
        h("span.seq"),
        h("span.time"),
        h("span.type", h("span.badge")),
        h("span.who", h("span.face"), h("span.cut")),
        h("span.content.cut"),
        h("span.job-chip", { hidden: true }, h("span.cut"), h("span.badge")),
      ]),
    show: (row, item) => show(row, item, address, freshFrom(), jobs),
    ...options,
  });
}

/**
 * @param {any} row
 * @param {Item} item
 * @param {string} address
 * @param {number} freshFrom
 * @param {import("./jobs.js").JobStates} jobs
 */
function show(row, item, address, freshFrom, jobs) {
  const { frame, message, growing, notice } = item;
  const [seq, moment, type, who, content, chip] = row.children;
  const own = !notice && message.address === address;
  showJob(row, chip, own ? jobs.get(frame.seq) : undefined);
  const version = growing?.version ?? item.version;
  if (row.shows === item && row.version === version) return;
  const same = row.shows === item;
  row.shows = item;
  row.version = version;
  if (growing) showAnswer(content, growing);
  if (same && !notice) return;
  seq.textContent = notice ? "" : (frame.seq ?? "–");
  moment.textContent = time(frame.timestamp);
  setBadge(type.firstChild, notice ? "work" : message.type);
  setFace(who.firstChild, frame.from);
  who.lastChild.textContent = frame.from;
  content.classList.toggle("answer", Boolean(growing));
  if (!growing) content.textContent = textOf(item, address);
  content.classList.toggle("code", !growing && typeof frame.message !== "string" && item.text.startsWith("{"));
  row.classList.toggle("notice", notice);
  row.classList.toggle("fresh", item.at > freshFrom && !notice);
}

/**
 * @param {Item} item
 * @param {string} address
 */
function textOf({ frame, text, message }, address) {
  const [room, channel] = address.split(":");
  const elsewhere = frame.room !== room || (frame.channel !== channel && channel !== "*");
  const place = elsewhere ? `[${frame.room}:${frame.channel}] ` : "";
  return `${place}${message.steer ? "↳ " : ""}${text}`;
}

/**
 * What became of a job, at the end of its row.
 * @param {any} row
 * @param {any} chip
 * @param {import("./jobs.js").JobState | undefined} state
 */
function showJob(row, chip, state) {
  if (row.job === state) return;
  row.job = state;
  chip.hidden = !state;
  row.classList.toggle("has-chip", Boolean(state));
  if (!state) return;
  const [by, badge] = chip.children;
  by.textContent = state.what === "dead" || state.what === "discarded" ? "" : state.by;
  badge.className = `badge job ${state.what}`;
  badge.textContent = CHANGES[state.what][1];
  chip.title = [CHANGES[state.what][1], state.by, state.attempt > 1 && `attempt ${state.attempt}`]
    .filter(Boolean)
    .join(", ");
}

/**
 * The state and the words of an answer. They are the same elements each time, so that only their text changes.
 * @param {any} content
 * @param {import("./growing.js").Growing} growing
 */
function showAnswer(content, growing) {
  if (content.children.length !== 2) fill(content, h("span.badge.stream"), h("span.words", h("span")));
  const [badge, words] = content.children;
  const state = growing.message.state ?? "open";
  badge.className = `badge stream ${state}`;
  badge.textContent = STATES[state];
  words.className = `words ${state}`;
  const { text } = growing;
  words.firstChild.textContent = text;
  if (state === "open") fitLastWords(words, text);
}

/**
 * Cut the beginning of a text at a word, until its end has room in the row.
 * @param {any} words
 * @param {string} text
 */
function fitLastWords(words, text) {
  let rest = text;
  for (let attempt = 0; attempt < 4; attempt += 1) {
    const [line, last] = [words.getBoundingClientRect(), words.firstChild.getBoundingClientRect()];
    const room = line.width - CURSOR;
    if (room <= 0 || last.left >= line.left - 1) return;
    rest = lastWords(rest.slice(Math.ceil(rest.length * (1 - (room / last.width) * 0.95))));
    words.firstChild.textContent = rest;
  }
}
