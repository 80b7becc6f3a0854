/** The rows of messages, newest first. */
import { fill, h } from "../../dom.js";
import { time } from "../../format.js";
import { setBadge, setFace } from "../../parts.js";
import { VirtualList } from "../../virtual-list.js";
import { STATES, lastWords } from "./growing.js";

/** @typedef {import("./log.js").Item} Item */

/** Room for the sign that more comes, in pixels. */
const CURSOR = 16;

/**
 * @param {string} address
 * @param {Pick<import("../../virtual-list.js").ListOptions<Item>, "items" | "onend" | "onpick" | "onscroll">} options
 * @param {() => number} freshFrom messages that arrived later are marked as fresh
 */
export function messageList(address, options, freshFrom) {
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
      ]),
    show: (row, item) => show(row, item, address, freshFrom()),
    ...options,
  });
}

/**
 * @param {any} row
 * @param {Item} item
 * @param {string} address
 * @param {number} freshFrom
 */
function show(row, item, address, freshFrom) {
  const { frame, text, message, growing } = item;
  const [seq, moment, type, who, content] = row.children;
  if (row.shows === item && row.version === growing?.version) return;
  const same = row.shows === item;
  row.shows = item;
  row.version = growing?.version;
  if (growing) showAnswer(content, growing);
  if (same) return;
  seq.textContent = frame.seq ?? "–";
  moment.textContent = time(frame.timestamp);
  setBadge(type.firstChild, message.type);
  setFace(who.firstChild, frame.from);
  who.lastChild.textContent = frame.from;
  const [room, channel] = address.split(":");
  const elsewhere = frame.room !== room || (frame.channel !== channel && channel !== "*");
  content.classList.toggle("answer", Boolean(growing));
  if (!growing) {
    const place = elsewhere ? `[${frame.room}:${frame.channel}] ` : "";
    content.textContent = `${place}${message.steer ? "↳ " : ""}${text}`;
  }
  content.classList.toggle("code", !growing && typeof frame.message !== "string" && text.startsWith("{"));
  row.classList.toggle("fresh", item.at > freshFrom);
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
