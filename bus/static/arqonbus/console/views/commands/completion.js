/** The list of completions above the prompt. */
import { fill, h } from "../../dom.js";

/** @typedef {import("./language.js").Offer} Offer */

export class Completion {
  /**
   * @param {HTMLInputElement} input
   * @param {(line: string) => Offer[]} complete
   */
  constructor(input, complete) {
    this.input = input;
    this.complete = complete;
    /** @type {Offer[]} */
    this.offers = [];
    this.chosen = 0;
    this.element = h("div.completion", { id: "completion", role: "listbox", hidden: true });
    input.addEventListener("input", () => this.update());
    input.addEventListener("blur", () => this.close());
  }

  /** Offer what fits the line. */
  update() {
    const line = this.input.value;
    const active = line && document.activeElement === this.input && !line.startsWith("{");
    this.#show(active ? this.complete(line) : []);
  }

  close() {
    this.#show([]);
  }

  /**
   * Handle a key of the input. Returns whether it was for the completion.
   * @param {KeyboardEvent} event
   */
  key(event) {
    const count = this.offers.length;
    if (!count || !["Tab", "ArrowDown", "ArrowUp", "Escape"].includes(event.key)) return false;
    if (event.key === "Escape") {
      event.stopPropagation();
      this.close();
      return true;
    }
    event.preventDefault();
    if (event.key === "Tab") this.#take(this.chosen);
    else {
      this.chosen = (this.chosen + (event.key === "ArrowDown" ? 1 : count - 1)) % count;
      this.#paint();
    }
    return true;
  }

  /** @param {Offer[]} offers */
  #show(offers) {
    this.offers = offers;
    this.chosen = 0;
    this.#paint();
  }

  /** @param {number} index */
  #take(index) {
    this.input.value = this.offers[index].text;
    this.update();
  }

  #paint() {
    this.element.hidden = this.offers.length === 0;
    this.input.setAttribute("aria-expanded", String(this.offers.length > 0));
    fill(
      this.element,
      this.offers.map((each, index) => this.#row(each, index)),
    );
    this.element.children[this.chosen]?.scrollIntoView({ block: "nearest" });
  }

  /**
   * @param {Offer} offer
   * @param {number} index
   */
  #row(offer, index) {
    const chosen = index === this.chosen;
    const onmousedown = (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#take(index);
    };
    const properties = {
      role: "option",
      class: chosen ? "chosen" : null,
      "aria-selected": String(chosen),
      onmousedown,
    };
    return h("div", properties, h("code", offer.name), h("span", offer.about));
  }
}
