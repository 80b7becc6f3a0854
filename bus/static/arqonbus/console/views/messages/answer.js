/** An answer in the pane at the side: its text as it grows, its state, and how to stop or steer it. */
import { fill, h, icon } from "../../dom.js";
import { count, counted, explain } from "../../format.js";
import { jsonBlock, jsonView } from "../../json-view.js";
import { STATES, follow } from "./growing.js";

/** @typedef {import("../../session.js").App} App */
/** @typedef {import("../../../arqonbus.js").Message} Message */

/**
 * A block of text this long ends with its line. The browser lays out a block anew for each text that is added to it,
 * and leaves the blocks before it alone.
 */
const BLOCK = 4_000;
/** So many parts stay in the page. */
const PARTS = 1_000;

export class AnswerPane {
  /** @type {string[]} texts that are to be drawn with the next frame */
  #fresh = [];
  /** @type {number | undefined} */
  #frame;
  #closed = false;
  #inBlock = 0;
  #dropped = 0;

  /**
   * @param {App} app
   * @param {Message} message
   */
  constructor(app, message) {
    this.app = app;
    this.message = message;
    this.state = h("span.badge.stream");
    this.figures = h("span.faint");
    this.stop = h("button.small", { type: "button", name: "stop", onclick: () => this.#stop() }, icon("stop"), "Stop");
    this.body = h(message.mode === "parts" ? "div.parts" : "div.said", {
      role: "group",
      "aria-busy": "true",
      "aria-label": "Text",
    });
    this.words = h("input.text.grow", { name: "steer", "aria-label": "Steer this answer", placeholder: "Steer it …" });
    this.steer = h("button.small", { type: "submit" }, icon("send"), "Steer");
    this.form = h(
      "form.steer",
      { onsubmit: (/** @type {Event} */ event) => this.#steer(event) },
      this.words,
      this.steer,
    );
    // Screen readers hear of the beginning and the end, and not each word.
    this.says = h("div.says", { role: "status" });
    this.payload = h("div", { hidden: true });
    this.element = h("div.answer-pane", [
      h("div.answer-head", this.state, this.figures, h("span.grow"), this.stop),
      this.body,
      this.form,
      this.says,
      this.payload,
    ]);
    this.#show();
    if (message.state === "open") fill(this.says, "The answer is being written.");
    this.over = follow(message, {
      add: (delta) => this.#add(delta),
      clear: () => this.#clear(),
      isOver: () => this.#closed,
    }).then(() => this.#ended());
  }

  /** Nobody looks any more. */
  close() {
    this.#closed = true;
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
  }

  // --- the text ---

  /** @param {any} delta a text, or a part */
  #add(delta) {
    this.#fresh.push(delta);
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = undefined;
    const scroller = this.element.parentElement;
    const atEnd = scroller && this.message.state === "open" && this.#isAtEnd(scroller);
    const fresh = this.#fresh.splice(0);
    if (this.message.mode === "parts") this.#drawParts(fresh);
    else this.#drawText(fresh.join(""));
    this.#show();
    if (atEnd) this.form.scrollIntoView({ block: "nearest" });
  }

  /**
   * Whether the end of the text is in sight, so that it stays there.
   * @param {Element} scroller
   */
  #isAtEnd(scroller) {
    return this.body.getBoundingClientRect().bottom <= scroller.getBoundingClientRect().bottom + 24;
  }

  /** @param {string} text */
  #drawText(text) {
    for (let rest = text; rest;) {
      const block = this.#inBlock < BLOCK && this.body.lastElementChild;
      const into = block || h("div");
      if (!block) {
        this.#inBlock = 0;
        this.body.append(into);
      }
      // A block ends with the first line that makes it long enough.
      const line = rest.indexOf("\n", Math.max(0, BLOCK - this.#inBlock - 1));
      const piece = line < 0 ? rest : rest.slice(0, line + 1);
      into.append(piece);
      this.#inBlock = line < 0 ? Math.min(this.#inBlock + piece.length, BLOCK - 1) : BLOCK;
      rest = rest.slice(piece.length);
    }
  }

  /** @param {any[]} parts */
  #drawParts(parts) {
    const newest = parts.slice(-PARTS);
    this.#dropped += parts.length - newest.length;
    this.body.append(...newest.map((part) => jsonView(JSON.stringify(part))));
    while (this.body.childElementCount > PARTS) {
      this.body.firstElementChild?.remove();
      this.#dropped += 1;
    }
  }

  #clear() {
    this.#fresh = [];
    this.#inBlock = this.#dropped = 0;
    fill(this.body);
    this.#show();
    if (!this.#closed) fill(this.says, "A new owner began the answer anew.");
  }

  // --- the state ---

  #show() {
    const { message } = this;
    const state = message.state ?? "open";
    this.state.className = `badge stream ${state}`;
    this.state.textContent = STATES[state];
    const length =
      message.mode === "parts" ? counted(message.parts.length, "part") : counted(message.text.length, "character");
    const hidden = this.#dropped ? `, the first ${count(this.#dropped)} are not shown` : "";
    const untaken = message.untaken.length ? `, ${counted(message.untaken.length, "steer")} not taken` : "";
    this.figures.textContent = `${length}${hidden}${untaken}`;
    this.body.classList.toggle("open", state === "open");
    this.stop.hidden = this.form.hidden = state !== "open";
  }

  #ended() {
    if (this.#closed) return;
    // What has the focus is about to disappear, and the keyboard must not begin at the top of the page again.
    const held = this.element.contains(document.activeElement);
    this.#show();
    this.body.removeAttribute("aria-busy");
    const { state, endPayload } = this.message;
    if (endPayload && Object.keys(endPayload).length) {
      fill(this.payload, h("div.section-title", "Payload of the end"), jsonBlock(endPayload));
      this.payload.hidden = false;
    }
    const untaken = this.message.untaken.length ? ` ${counted(this.message.untaken.length, "steer")} not taken.` : "";
    fill(this.says, state === "open" ? "This page does not hear more of it." : `The answer is ${state}.${untaken}`);
    if (held) {
      this.body.tabIndex = -1;
      this.body.focus();
    }
  }

  // --- what the reader asks ---

  async #stop() {
    // A disabled button loses the focus of the keyboard.
    if (this.stop.getAttribute("aria-disabled") === "true") return;
    this.stop.setAttribute("aria-disabled", "true");
    try {
      const { stopping } = await this.app.session.bus.stopStream(this.message);
      if (stopping) fill(this.says, "Its owner is asked to stop.");
    } catch (problem) {
      this.#refused(problem);
      this.stop.removeAttribute("aria-disabled");
    }
  }

  /** @param {Event} event */
  async #steer(event) {
    event.preventDefault();
    const text = this.words.value.trim();
    if (!text || this.steer.getAttribute("aria-disabled") === "true") return;
    this.steer.setAttribute("aria-disabled", "true");
    try {
      const { bus } = this.app.session;
      const receipt = await bus.publish(this.message.address, text, { steer: this.message, echo: true });
      this.words.value = "";
      const late = "The answer had ended. The message is kept, and nobody takes it.";
      fill(this.says, receipt.steered ? "Sent to its owner." : late);
    } catch (problem) {
      this.#refused(problem);
    } finally {
      this.steer.removeAttribute("aria-disabled");
    }
  }

  /** @param {any} problem */
  #refused(problem) {
    fill(
      this.says,
      h("span.fault", explain(problem)),
      problem.code && h("a", { href: `#/contracts?code=${problem.code}` }, problem.code),
    );
  }
}
