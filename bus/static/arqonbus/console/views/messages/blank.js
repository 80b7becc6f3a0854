/** What stands in place of messages where there are none: why, and what the reader can do. */
import { ServerError } from "../../../arqonbus.js";
import { empty, h, icon } from "../../dom.js";
import { plain } from "../../format.js";
import { snippets } from "../../parts.js";

/** @typedef {import("../../session.js").App} App */

const NOT_FOUND = ["CHANNEL_NOT_FOUND", "ROOM_NOT_FOUND"];

/** @param {import("../../rooms.js").Channel} channel */
const lastActivity = (channel) => Date.parse(channel.last_activity ?? "");

/**
 * No channel is chosen. The busiest one is a good start.
 * @param {App} app
 */
export function picker(app) {
  const known = [...app.rooms.channels.values()].filter((each) => each.room !== app.config.system_room);
  const busiest = known.sort((a, b) => b.rate - a.rate || lastActivity(b) - lastActivity(a))[0];
  const links = known.slice(0, 8).map((each) => h("a", { href: `#/messages/${each.address}` }, each.address));
  const advice = "Choose one in the list of rooms, or open one of these:";
  if (busiest?.messages) queueMicrotask(() => app.go(`messages/${busiest.address}`));
  return {
    element: h("div.scroll", empty("messages", "Choose a channel", advice, h("div.actions", links))),
  };
}

/**
 * What to show because there is nothing to join at an address, or null.
 * @param {App} app
 * @param {string} address
 * @param {{ write: (owner: string) => void, create: () => void }} actions
 */
export async function absence(app, address, { write, create }) {
  const [room, channel] = address.split(":");
  if (room === "pm") return inboxOf(channel, () => write(channel));
  try {
    await app.session.bus.channelInfo(address);
    return null;
  } catch (problem) {
    // The join itself reports any other problem.
    return NOT_FOUND.includes(/** @type {any} */ (problem).code) ? noChannel(app, address, create) : null;
  }
}

/**
 * The address is another client's inbox, which nobody else can read.
 * @param {string} owner
 * @param {() => void} write starts a private message
 */
function inboxOf(owner, write) {
  const button = h("button.primary", { type: "button", onclick: write }, icon("send"), `Write to ${owner}`);
  const text = "Only its owner can read it. You can send a private message.";
  return empty("lock", `This is the inbox of ${owner}`, text, h("div.actions", button));
}

/**
 * There is no channel at the address: show similar ones, and how to create it.
 * @param {App} app
 * @param {string} address
 * @param {() => void} create
 */
function noChannel(app, address, create) {
  const [room, channel] = address.split(":");
  const similar = [...app.rooms.channels.values()]
    .filter((each) => each.room === room || each.channel === channel)
    .slice(0, 8)
    .map((each) => h("a.badge", { href: `#/messages/${each.address}` }, each.address));
  const button = h("button.primary", { type: "button", onclick: create }, icon("plus"), "Create it");
  return empty(
    "search",
    `There is no channel ${address}`,
    similar.length ? h("div.actions", similar) : "",
    h("div.actions", button),
  );
}

/**
 * The server refuses the messages, or the connection does not allow to ask.
 * @param {any} problem
 */
export function refusal(problem) {
  if (!(problem instanceof ServerError)) return empty("lock", plain(problem.message));
  const { code, reason } = problem;
  return empty("lock", plain(reason), h("p", "Why: ", h("a", { href: `#/contracts?code=${code}` }, code)));
}

/**
 * The channel has no message: how to send the first one.
 * @param {string} address
 */
export function bareChannel(address) {
  const advice = "Copy a line, run it, and watch the message arrive here. Or write one in the box below.";
  const content = empty("start", "No message yet", advice);
  content.append(snippets(address));
  return content;
}
