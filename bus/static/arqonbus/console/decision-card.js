/** One decision as a card: what is asked, and the buttons of who may decide. */
import { fill, h, icon, toast } from "./dom.js";
import { ago, duration, explain, time } from "./format.js";
import { jsonFault, jsonView } from "./json-view.js";
import { face, facts } from "./parts.js";

/** @typedef {import("./session.js").App} App */
/** @typedef {import("../arqonbus.js").Decision} Decision */
/** @typedef {import("../arqonbus.js").DecisionAnswer} Answer */

/** @type {Record<Answer, [label: string, kind: string]>} */
const BUTTONS = {
  approve: ["Approve", "primary"],
  edit: ["Edit …", ""],
  respond: ["Respond", ""],
  reject: ["Reject", "danger"],
};
const ORDER = /** @type {Answer[]} */ (["approve", "edit", "respond", "reject"]);

export class DecisionCard {
  #busy = false;

  /**
   * @param {App} app
   * @param {Decision} decision
   * @param {(decision: Decision) => void} [onchange] this visitor decided, or learned that somebody else did
   */
  constructor(app, decision, onchange = () => {}) {
    this.app = app;
    this.decision = decision;
    this.onchange = onchange;
    this.state = h("span.badge.decision-state");
    this.until = h("span.faint");
    this.outcome = h("p.outcome", { hidden: true });
    this.args = h("div.args");
    this.edited = h("textarea.grow", { "aria-label": "Arguments", rows: "6", hidden: true, spellcheck: "false" });
    this.words = h("input.grow", { "aria-label": "Comment", placeholder: "A word to the asker", maxlength: "2000" });
    this.fault = h("p.fault", { role: "alert" });
    this.buttons = h("div.actions");
    this.form = h("form.decide", { onsubmit: (/** @type {Event} */ event) => event.preventDefault() }, [
      this.edited,
      this.words,
      this.fault,
      this.buttons,
    ]);
    const { asker, room, channel, title, action } = decision;
    this.element = h("article.decision", { "aria-label": title, data: { decision: decision.decision } }, [
      h("div.decision-head", face(asker), h("h3.grow", title), this.state),
      facts([
        ["Action", h("code", action)],
        ["Asked by", h("a", { href: `#/clients/${asker}` }, asker)],
        ["Channel", h("a", { href: `#/messages/${room}:${channel}` }, `${room}:${channel}`)],
        ["Time", h("span", time(decision.created_at), " ", this.until)],
      ]),
      this.args,
      this.outcome,
      this.form,
    ]);
    this.#show();
  }

  /**
   * What the server says now. A form that somebody fills in stays as it is.
   * @param {Decision} decision
   */
  update(decision) {
    const same = decision.state === this.decision.state && decision.may_decide === this.decision.may_decide;
    this.decision = decision;
    if (same) this.#clock();
    else this.#show();
  }

  #clock() {
    const left = Date.parse(this.decision.expires_at) - Date.now();
    this.until.textContent = this.decision.state === "pending" && left > 0 ? `${duration(left)} left` : "";
  }

  #show() {
    const { state, by, ended_at: ended, comment, args, allow, may_decide: may } = this.decision;
    const pending = state === "pending";
    this.state.className = `badge decision-state ${state}`;
    this.state.textContent = state;
    this.#clock();
    fill(this.args, Object.keys(args).length > 0 && jsonView(args));
    this.outcome.hidden = pending;
    fill(this.outcome, h("strong", state), by && ` by ${by}`, ended && `, ${ago(ended)}`, comment && h("q", comment));
    this.form.hidden = !(pending && may);
    fill(
      this.buttons,
      ORDER.filter((each) => allow.includes(each)).map((each) => this.#button(each)),
    );
  }

  /** @param {Answer} answer */
  #button(answer) {
    const [label, kind] = BUTTONS[answer];
    const button = h(
      "button",
      { type: "button", class: kind, name: answer },
      answer === "approve" && icon("check"),
      label,
    );
    button.addEventListener("click", () => this.#press(answer, button));
    return button;
  }

  /**
   * @param {Answer} answer
   * @param {HTMLButtonElement} button
   */
  #press(answer, button) {
    const comment = this.words.value.trim();
    fill(this.fault);
    if (answer === "edit" && this.edited.hidden) {
      this.edited.hidden = false;
      this.edited.value = JSON.stringify(this.decision.args, null, 2);
      fill(button, "Approve these");
      this.edited.focus();
      return undefined;
    }
    if (answer === "respond" && !comment) {
      fill(this.fault, "Write the response first.");
      this.words.focus();
      return undefined;
    }
    const wrong = answer === "edit" ? jsonFault(this.edited.value) : null;
    if (wrong) {
      fill(this.fault, wrong);
      return undefined;
    }
    return this.#decide(answer, { comment, ...(answer === "edit" ? { args: JSON.parse(this.edited.value) } : {}) });
  }

  /**
   * @param {Answer} answer
   * @param {{ comment: string, args?: Record<string, any> }} options
   */
  async #decide(answer, options) {
    if (this.#busy) return;
    this.#busy = true;
    const { bus } = this.app.session;
    const id = this.decision.decision;
    try {
      const made = await bus.decide(id, answer, options);
      // A repeat of this visitor gets its first answer, which another page may have sent.
      const late = `This came too late: the decision was ${made.state} by ${made.by} before.`;
      if (made.answer !== answer) toast(late, "bad");
      this.update(made);
      this.onchange(this.decision);
    } catch (problem) {
      const { code } = /** @type {any} */ (problem);
      if (code === "DECISION_ENDED") {
        toast(explain(problem), "bad");
        this.update(await bus.awaitDecision(id, { wait: 0 }).catch(() => this.decision));
        this.onchange(this.decision);
      } else fill(this.fault, explain(problem));
    } finally {
      this.#busy = false;
    }
  }
}

/**
 * The card of a message that tells of a decision, once the server has said what it knows of it. What a message says is
 * not trusted: anybody may write one like it.
 * @param {App} app
 * @param {Record<string, any>} frame
 */
export function cardOf(app, frame) {
  const id = tellsOf(frame)?.decision;
  if (typeof id !== "string") return null;
  const place = h("div.decision-place");
  app.session.bus.awaitDecision(id, { wait: 0 }).then(
    (decision) => {
      const here = decision.room === frame.room && decision.channel === frame.channel;
      if (here) fill(place, h("div.section-title", "Decision"), new DecisionCard(app, decision).element);
    },
    () => {}, // There is none of that name for this visitor.
  );
  return place;
}

/**
 * The decision in a message of the types that the server writes.
 * @param {Record<string, any>} frame
 * @returns {Record<string, any> | null}
 */
function tellsOf({ type, payload }) {
  const told = type === "decision_requested" || type === "decision_made";
  return told && payload?.decision && typeof payload.decision === "object" ? payload.decision : null;
}
