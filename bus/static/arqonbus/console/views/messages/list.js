/** The rows of messages, newest first. */
import { h } from "../../dom.js";
import { time } from "../../format.js";
import { setBadge, setFace } from "../../parts.js";
import { VirtualList } from "../../virtual-list.js";

/** @typedef {import("./log.js").Item} Item */

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
  const { frame, text } = item;
  const [seq, moment, type, who, content] = row.children;
  if (row.shows === item) return;
  row.shows = item;
  seq.textContent = frame.seq ?? "–";
  moment.textContent = time(frame.timestamp);
  setBadge(type.firstChild, frame.type);
  setFace(who.firstChild, frame.from);
  who.lastChild.textContent = frame.from;
  const [room, channel] = address.split(":");
  const elsewhere = frame.room !== room || (frame.channel !== channel && channel !== "*");
  content.textContent = elsewhere ? `[${frame.room}:${frame.channel}] ${text}` : text;
  content.classList.toggle("code", typeof frame.message !== "string" && text.startsWith("{"));
  row.classList.toggle("fresh", item.at > freshFrom);
}
