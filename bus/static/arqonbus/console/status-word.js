/** The status of a client: a coloured word, and what it is doing. */
import { fill, h } from "./dom.js";
import { count } from "./format.js";

/** @typedef {import("../arqonbus.js").ClientStatus} ClientStatus */

/**
 * The colours of the words that people use most. Any other word is plain.
 * @type {[RegExp, string][]}
 */
const COLOURS = [
  [/^(working|busy|running|writing|thinking|active|online)\b/i, "busy"],
  [/^(done|ready|available|ok|finished|complete)\b/i, "good"],
  [/^(waiting|paused|pending|starting|blocked)\b/i, "wait"],
  [/^(error|failed|failing|stuck|broken|down)\b/i, "bad"],
];

/**
 * @param {unknown} value
 * @returns {string} an empty text for anything but a text
 */
const text = (value) => (typeof value === "string" ? value : "");

/**
 * A status in one line, for searching and for screen readers.
 * @param {ClientStatus | null | undefined} status
 */
export function statusLine(status) {
  if (!status || typeof status !== "object") return "";
  return [text(status.status), text(status.task), text(status.text)].filter(Boolean).join(", ");
}

/**
 * Show a status in an element: its word, and behind it the task or the text.
 * @param {HTMLElement} element
 * @param {ClientStatus | null | undefined} status
 */
export function setStatus(element, status) {
  const line = statusLine(status);
  if (element.dataset.line === line) return element;
  element.dataset.line = line;
  element.title = line;
  const word = text(status?.status);
  const colour = COLOURS.find(([words]) => words.test(word))?.[1] ?? "";
  fill(
    element,
    word && h("span.state-word", { class: colour }, word),
    h("span.cut.dim", text(status?.task) || text(status?.text)),
  );
  return element;
}

/**
 * A status as it stands in a line.
 * @param {ClientStatus | null | undefined} status
 */
export const statusWord = (status) => setStatus(h("span.doing"), status);

/**
 * The rows of a status and a card for a list of facts.
 * @param {ClientStatus | null | undefined} status
 * @param {import("../arqonbus.js").Card | null | undefined} card
 * @returns {[string, any][]}
 */
export function statusFacts(status, card) {
  const skills = Array.isArray(card?.skills) ? card.skills.filter((each) => typeof each === "string") : [];
  return [
    ["Status", text(status?.status) && setStatus(h("span.doing"), { status: text(status?.status) })],
    ["Task", text(status?.task)],
    ["Says", text(status?.text)],
    ["Tokens", Number.isFinite(status?.tokens) && count(status?.tokens)],
    ["Card", text(card?.name)],
    ["About", text(card?.description)],
    [
      "Skills",
      skills.length > 0 &&
        h(
          "span.actions",
          skills.map((each) => h("span.badge", each)),
        ),
    ],
  ];
}
