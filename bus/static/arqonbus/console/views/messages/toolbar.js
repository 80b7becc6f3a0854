/** The filters above the messages. */
import { h, icon, select } from "../../dom.js";

/** @typedef {import("./log.js").Filters} Filters */

/** @type {[string, string][]} */
const TYPES = [
  ["", "Any type"],
  ["event", "event"],
  ["private", "private"],
  ["system", "system"],
  ["telemetry", "telemetry"],
];
/** @type {[string, string][]} */
const TIMES = [
  ["", "Any time"],
  ["60", "Last minute"],
  ["600", "Last 10 min"],
  ["3600", "Last hour"],
  ["86400", "Last day"],
  ["at", "Until …"],
];
/** How long a reader may pause while typing, in milliseconds. */
const TYPING = 180;

/** The fields of the filters. */
export class Toolbar {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {(filters: Filters) => void} onchange called shortly after the last change */
  constructor(onchange) {
    this.onchange = onchange;
    const changed = () => this.#changed();
    const input = (/** @type {string} */ name, /** @type {string} */ label) =>
      h("input", { type: "search", placeholder: label, "aria-label": label, name, oninput: changed });
    this.type = select({ "aria-label": "Type", name: "type", onchange: changed }, TYPES);
    this.sender = input("sender", "Sender");
    this.text = input("text", "Text");
    this.when = select({ "aria-label": "Time", name: "when", onchange: changed }, TIMES);
    this.until = h("input", {
      type: "datetime-local",
      step: "1",
      "aria-label": "Until",
      hidden: true,
      onchange: changed,
    });
    const clear = { type: "button", hidden: true, onclick: () => this.#clear() };
    this.clear = h("button.ghost.small", clear, "Clear filters");
    const fields = [this.text, this.type, this.sender, this.when, this.until, this.clear];
    this.element = h("div.toolbar", { role: "search", "aria-label": "Filters" }, [icon("search"), ...fields]);
  }

  focus() {
    this.text.focus();
  }

  stop() {
    clearTimeout(this.#timer);
  }

  #changed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const filters = this.#read();
      this.clear.hidden = !Object.values(filters).some(Boolean);
      this.onchange(filters);
    }, TYPING);
  }

  /** @returns {Filters} */
  #read() {
    const until = this.when.value === "at";
    this.until.hidden = !until;
    const seconds = Number(this.when.value);
    return {
      type: this.type.value,
      sender: this.sender.value.trim(),
      text: this.text.value.trim().toLowerCase(),
      after: seconds ? Date.now() - seconds * 1000 : null,
      before: until && this.until.value ? new Date(this.until.value).toISOString() : null,
    };
  }

  #clear() {
    for (const field of [this.type, this.sender, this.text, this.when, this.until]) field.value = "";
    this.#changed();
  }
}
