/** The queue of a work channel: how much waits, who is at work, what is dead, and what an operator can do about it. */
import { confirm, fill, h, icon, toast } from "../../dom.js";
import { ago, clockTime, count, counted, duration, explain, short } from "../../format.js";
import { face, facts } from "../../parts.js";
import { repeat } from "../../store.js";

/** @typedef {import("../../session.js").App} App */
/** @typedef {import("../../../arqonbus.js").WorkOverview} WorkOverview */
/** @typedef {import("./jobs.js").JobStates} JobStates */

const PAUSE = 2_000;
/** How soon after a notice the figures are asked for again, in milliseconds. */
const SOON = 300;
/** How old a drawn time may be, in milliseconds. */
const STALE = 10_000;
/** So many faces of workers fit into the strip. */
const FACES = 6;

/** The strip above the messages of a work channel, and the pane at the side with every job that is not just waiting. */
export class Queue {
  /** @type {WorkOverview | null} */
  overview = null;
  /** @type {{ now: () => unknown, stop: () => void } | null} */
  #loop = null;
  #over = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;
  /** What the pane shows and since when, so that it is not drawn anew without a reason. */
  #drawn = { shape: "", at: 0 };

  /**
   * @param {App} app
   * @param {string} address
   * @param {{ states: JobStates, onchange: () => void, pane: import("../../parts.js").DetailPane,
   *   select: (seq: number) => void }} view `onchange`: the states of jobs changed; `select` shows a job's message
   */
  constructor(app, address, { states, onchange, pane, select }) {
    this.app = app;
    this.address = address;
    this.states = states;
    this.onchange = onchange;
    this.pane = pane;
    this.select = select;
    this.figures = h("div.queue-figures");
    this.faces = h("div.queue-faces");
    this.note = h("span.fault", { role: "alert" });
    this.button = h(
      "button.small",
      { type: "button", name: "queue", onclick: () => this.open() },
      icon("queue"),
      h("span", "Queue"),
    );
    this.element = h("div.queue", { hidden: true, role: "group", "aria-label": "Queue" }, [
      this.figures,
      this.faces,
      this.note,
      h("span.grow"),
      this.button,
    ]);
    this.body = h("div.queue-jobs");
    this.says = h("div.says", { role: "status" });
  }

  /** The channel is a work channel: show its figures from now on. */
  start() {
    // The page may learn about the channel when the visitor is elsewhere already.
    if (this.#loop || this.#over) return;
    this.element.hidden = false;
    this.#loop = repeat(() => this.#load(), PAUSE);
  }

  close() {
    this.#over = true;
    clearTimeout(this.#soon);
    this.#loop?.stop();
    this.#loop = null;
  }

  /** A notice said that jobs changed. */
  changed() {
    if (!this.#loop) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#loop?.now();
    }, SOON);
  }

  async #load() {
    const { bus } = this.app.session;
    if (!bus.connected) return;
    try {
      this.overview = await bus.workOverview(this.address);
    } catch (problem) {
      fill(this.note, explain(problem));
      return;
    }
    fill(this.note);
    this.states.learn(this.overview);
    this.onchange();
    this.#draw(this.overview);
  }

  // --- the strip ---

  /** @param {WorkOverview} overview */
  #draw(overview) {
    const { ready, delayed, oldest, claimed, claimed_count: working, dead_count: dead } = overview;
    const waits = oldest ? Date.now() - Date.parse(oldest) : 0;
    fill(
      this.figures,
      figure("ready", "Ready", ready, waits > 1_000 ? `oldest ${duration(waits)}` : ""),
      delayed > 0 && figure("later", "Later", delayed),
      figure("claimed", "At work", working),
      figure("dead", "Dead", dead),
    );
    const workers = [...new Set(claimed.map((each) => each.by).filter((by) => typeof by === "string"))];
    fill(
      this.faces,
      workers
        .slice(0, FACES)
        .map((by) => h("a", { href: `#/clients/${by}`, title: by }, face(by), h("span.offscreen", by))),
      workers.length > FACES && h("span.faint", `+${count(workers.length - FACES)}`),
    );
    if (this.body.isConnected) this.#fillPane(overview);
  }

  // --- the pane ---

  /** Show the queue in the pane at the side. */
  open() {
    this.#drawn = { shape: "", at: 0 };
    fill(this.says);
    this.pane.show(
      [h("span.queue-icon", icon("queue")), h("div.grow.cut", h("strong", "Queue"), h("div.dim.cut", this.address))],
      this.body,
      this.says,
    );
    if (this.overview) this.#fillPane(this.overview);
    else fill(this.body, h("p.dim", "Loading …"));
    this.#loop?.now();
  }

  /** @param {WorkOverview} overview */
  #fillPane(overview) {
    const shape = JSON.stringify(overview);
    const stale = performance.now() - this.#drawn.at > STALE;
    // A button that is being pressed, or that waits for its answer, must stay.
    if ((shape === this.#drawn.shape && !stale) || this.body.querySelector(":active, [aria-disabled='true']")) return;
    this.#drawn = { shape, at: performance.now() };
    const focused = this.#focused();
    const { work, claimed, claimed_count: working, dead, dead_count: gone } = overview;
    fill(
      this.body,
      facts([
        [
          "Ready",
          overview.oldest
            ? `${count(overview.ready)}, the oldest since ${clockTime(Date.parse(overview.oldest))}`
            : count(overview.ready),
        ],
        ["Later", overview.delayed > 0 && count(overview.delayed)],
        ["Lease", Number.isFinite(work?.lease) && duration(Number(work.lease) * 1000)],
        ["Attempts", work?.attempts],
        ["Dead jobs go to", work?.dead && h("a", { href: `#/messages/${work.dead}` }, work.dead)],
      ]),
      section(
        `At work (${count(working)})`,
        claimed.map((each) => this.#claimed(each)),
        working - claimed.length,
        "Nobody is at work.",
      ),
      section(
        `Dead (${count(gone)})`,
        dead.map((each) => this.#dead(each)),
        gone - dead.length,
        "No job is dead.",
      ),
    );
    if (focused) /** @type {HTMLElement | null} */ (this.body.querySelector(`[data-key="${focused}"]`))?.focus();
  }

  /** The button that has the focus, so that the keyboard stays there. */
  #focused() {
    const at = document.activeElement;
    return at instanceof HTMLElement && this.body.contains(at) ? CSS.escape(at.dataset.key ?? "") : "";
  }

  /** @param {WorkOverview["claimed"][number]} job */
  #claimed({ seq, by, attempt, since, lease_until: until }) {
    return h("li.job-item", [
      h("div.job-head", [
        this.#link(seq),
        by && h("a.who", { href: `#/clients/${by}` }, face(by), h("span.cut", by)),
        h("span.grow"),
        this.#action("discard", seq),
      ]),
      h("div.job-more.faint", [
        h("span", attemptOf(attempt)),
        h("span", { title: since }, `claimed ${ago(since)}`),
        h("span", { title: until }, `until ${clockTime(Date.parse(until))}`),
      ]),
    ]);
  }

  /** @param {WorkOverview["dead"][number]} job */
  #dead({ seq, attempts, errors, at }) {
    const last = /** @type {Record<string, any> | undefined} */ (errors.at(-1));
    const said = typeof last?.error === "string" ? last.error : "";
    return h("li.job-item.dead", [
      h("div.job-head", [
        this.#link(seq),
        h("span.faint", `after ${counted(attempts, "attempt")}, ${ago(at)}`),
        h("span.grow"),
        this.#action("retry", seq),
        this.#action("discard", seq),
      ]),
      said && h("div.job-error.mono", said),
      last && h("div.job-more.faint", h("span", reason(last))),
    ]);
  }

  /** @param {number} seq */
  #link(seq) {
    const label = `Show job ${seq}`;
    return h(
      "button.ghost.small.job-link",
      { type: "button", "aria-label": label, onclick: () => this.select(seq), data: { key: `show-${seq}` } },
      `#${seq}`,
    );
  }

  /**
   * A button for who may manage the channel. Others do not see it.
   * @param {"retry" | "discard"} what
   * @param {number} seq
   */
  #action(what, seq) {
    if (!this.overview?.manage) return null;
    const label = what === "retry" ? "Retry" : "Discard";
    const button = h(
      "button.small",
      {
        type: "button",
        class: what === "discard" ? "danger" : "",
        "aria-label": `${label} job ${seq}`,
        data: { key: `${what}-${seq}` },
      },
      label,
    );
    button.addEventListener("click", () => this.#do(what, seq, button));
    return button;
  }

  /**
   * @param {"retry" | "discard"} what
   * @param {number} seq
   * @param {HTMLElement} button
   */
  async #do(what, seq, button) {
    if (button.getAttribute("aria-disabled") === "true") return;
    const consequence = "Nobody gets the job any more. Its message stays in the history.";
    if (what === "discard" && !(await confirm(`Discard job ${seq}?`, consequence, "Discard"))) return;
    const { bus } = this.app.session;
    // A disabled button would lose the focus of the keyboard.
    button.setAttribute("aria-disabled", "true");
    try {
      await (what === "retry" ? bus.retryJob(this.address, seq) : bus.discardJob(this.address, seq));
      fill(this.says, what === "retry" ? `Job ${seq} is out again.` : `Job ${seq} is discarded.`);
    } catch (problem) {
      toast(explain(problem), "bad");
    } finally {
      button.removeAttribute("aria-disabled");
    }
    this.#loop?.now();
  }
}

/** @param {number} attempt */
const attemptOf = (attempt) => `attempt ${count(attempt)}`;

/**
 * Why the last attempt failed.
 * @param {Record<string, any>} failure
 */
function reason({ by, why, attempt }) {
  const who = typeof by === "string" && by ? ` by ${by}` : "";
  return `${attemptOf(Number(attempt))}${who}${typeof why === "string" ? `, ${why}` : ""}`;
}

/**
 * @param {string} name
 * @param {string} label
 * @param {number} value
 * @param {string} [more]
 */
function figure(name, label, value, more = "") {
  return h(
    "span.figure",
    {
      class: `${name} ${value > 0 ? "some" : ""}`,
      title: `${count(value)} ${label.toLowerCase()}`,
      data: { figure: name },
    },
    [h("b", short(value)), h("span", label), more && h("small.faint", more)],
  );
}

/**
 * @param {string} title
 * @param {HTMLElement[]} rows
 * @param {number} more how many are not listed
 * @param {string} nothing
 */
function section(title, rows, more, nothing) {
  return h("div", [
    h("div.section-title", title),
    rows.length ? h("ul.jobs", rows) : h("p.dim", nothing),
    more > 0 && h("p.faint", `and ${count(more)} more`),
  ]);
}
