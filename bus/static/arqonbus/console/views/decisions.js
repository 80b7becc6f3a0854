/** What people are asked: the decisions that wait, those that this visitor may make first, and those that were made. */
import { DecisionCard } from "../decision-card.js";
import { empty, fill, h, icon } from "../dom.js";
import { counted, explain } from "../format.js";
import { repeat } from "../store.js";

/** @typedef {import("../session.js").App} App */
/** @typedef {import("../../arqonbus.js").Decision} Decision */

const PAUSE = 2_000;
/** So many of each kind are shown. */
const SHOWN = 50;

/** @param {App} app */
export function decisions(app) {
  /** @type {Map<string, DecisionCard>} */
  const cards = new Map();
  const head = h("span.dim");
  const note = h("div.banner", { hidden: true });
  const blank = h("div.grow", { hidden: true });
  const yours = section("For you to decide");
  const others = section("Waiting for others");
  const made = section("Decided");
  const element = h("div", [
    h("div.view-head", h("h1", icon("decisions"), "Decisions"), head),
    note,
    h("div.scroll", blank, h("div.stack", yours.element, others.element, made.element)),
  ]);

  async function load() {
    const { bus } = app.session;
    if (!bus.connected) return;
    try {
      const ask = (/** @type {Record<string, unknown>} */ more) =>
        bus.command("list_decisions", { limit: SHOWN, ...more }, { repeat: true });
      const [waiting, all] = await Promise.all([ask({ state: "pending" }), ask({})]);
      note.hidden = true;
      show(waiting.decisions, all.decisions);
    } catch (problem) {
      note.hidden = false;
      fill(note, explain(problem));
    }
  }

  /**
   * @param {Decision[]} waiting
   * @param {Decision[]} all
   */
  function show(waiting, all) {
    const ended = all.filter((each) => each.state !== "pending");
    const mine = waiting.filter((each) => each.may_decide);
    yours.show(mine.map(card));
    others.show(waiting.filter((each) => !each.may_decide).map(card));
    made.show(ended.map(card));
    head.textContent = waiting.length ? `${counted(waiting.length, "question")} without an answer` : "";
    const kept = new Set([...waiting, ...ended].map((each) => each.decision));
    for (const id of cards.keys()) if (!kept.has(id)) cards.delete(id);
    blank.hidden = waiting.length + ended.length > 0;
    if (!blank.hidden) {
      fill(
        blank,
        empty(
          "decisions",
          "Nobody asked anything yet",
          "Programs ask people before they act: decide_by_human in Python, decideByHuman in JavaScript, or REST.",
        ),
      );
    }
  }

  /**
   * The card of a decision. It stays the same element, so that nothing is lost that somebody writes in it.
   * @param {Decision} decision
   */
  function card(decision) {
    const known = cards.get(decision.decision);
    if (known) known.update(decision);
    const found = known ?? new DecisionCard(app, decision, () => loop.now());
    cards.set(decision.decision, found);
    return found.element;
  }

  const loop = repeat(load, PAUSE);
  return { element, close: () => loop.stop() };
}

/** @param {string} title */
function section(title) {
  const rows = h("div.decisions");
  const element = h("section", { "aria-label": title, hidden: true }, h("h2", title), rows);
  /** @type {HTMLElement[]} */
  let shown = [];
  return {
    element,
    /** @param {HTMLElement[]} cards */
    show(cards) {
      element.hidden = cards.length === 0;
      // An element that is moved loses the focus.
      if (cards.length === shown.length && cards.every((each, index) => each === shown[index])) return;
      shown = cards;
      const focused = /** @type {HTMLElement | null} */ (document.activeElement);
      fill(rows, cards);
      if (focused && rows.contains(focused)) focused.focus();
    },
  };
}
