/** What the pane at the side shows: one message, or the members of the channel. */
import { cardOf } from "../../decision-card.js";
import { copyButton, h, icon } from "../../dom.js";
import { ago, count, time } from "../../format.js";
import { jsonBlock } from "../../json-view.js";
import { badge, face, facts } from "../../parts.js";
import { statusLine, statusWord } from "../../status-word.js";

/** @typedef {import("../../parts.js").DetailPane} DetailPane */
/** @typedef {import("./answer.js").AnswerPane} AnswerPane */
/** @typedef {import("./log.js").Item} Item */

/**
 * Show a message in the pane.
 * @param {import("../../session.js").App} app
 * @param {DetailPane} pane
 * @param {Item} item
 * @param {AnswerPane | null} answer what grows, if it is a streamed message
 * @param {string | undefined} epoch that of the channel's log, if it is known
 * @param {(clientId: string) => void} write starts a private message to its sender
 */
export function showMessage(app, pane, { frame, text, message }, answer, epoch, write) {
  const address = `${frame.room}:${frame.channel}`;
  const link = `${location.origin}${location.pathname}#/messages/${address}?seq=${frame.seq}`;
  const said = typeof frame.message === "string" && !answer ? frame.message : null;
  pane.show(
    [face(frame.from, true), h("div.grow.cut", h("strong", frame.from), h("div.dim.cut", time(frame.timestamp)))],
    said !== null && h("div", h("div.section-title", "Text"), h("div.said", said)),
    answer && answer.element,
    cardOf(app, frame),
    h("div", [
      h("div.section-title", "Message"),
      facts([
        ["Sequence", frame.seq === undefined ? "none: the channel is ephemeral" : h("span.mono", count(frame.seq))],
        ["Id", h("span.mono", message.id)],
        ["Type", badge(message.type)],
        ["Steers", message.steer && h("span.mono", message.steer)],
        ["Address", h("a", { href: `#/messages/${address}` }, address)],
        ["Sender", h("a", { href: `#/clients/${frame.from}` }, frame.from)],
        ["Server's time", h("span", h("span.mono", frame.timestamp), h("span.faint", ` ${ago(frame.timestamp)}`))],
        ["Sender's time", frame.client_timestamp && h("span.mono", frame.client_timestamp)],
        ["Epoch", epoch !== undefined && h("span.mono", epoch)],
        ["Size", `${count(new TextEncoder().encode(JSON.stringify(frame)).length)} bytes`],
      ]),
    ]),
    h("div", h("div.section-title", "Frame"), jsonBlock(frame)),
    h("div.actions", [
      copyButton(link, "Copy link"),
      copyButton(() => (answer ? message.text : text), "Copy text"),
      h("button.small", { type: "button", onclick: () => write(frame.from) }, icon("send"), "Answer in private"),
    ]),
  );
}

/**
 * Show the members of a channel in the pane, each with a link to its client.
 * @param {DetailPane} pane
 * @param {string} address
 * @param {import("../../../arqonbus.js").Participant[] | undefined} members
 * @param {string} otherwise what to say when the members are not known
 */
export function showMembers(pane, address, members, otherwise) {
  const rows = (members ?? []).map((each) =>
    h("a.member", { href: `#/clients/${each.client_id}` }, [
      face(each.client_id, false, each.screen_name || each.client_id),
      h("span.cut", each.screen_name || each.client_id, h("span.faint", each.screen_name ? ` ${each.client_id}` : "")),
      statusLine(each.status) && statusWord(each.status),
    ]),
  );
  const nobody = h("p.dim", members ? "Nobody is here." : otherwise);
  pane.show(h("strong", `Members of ${address}`), rows.length ? rows : nobody);
}
