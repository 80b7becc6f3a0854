/** The button above the list that counts what came while the reader looked at older messages. */
import { fill, h } from "../../dom.js";
import { count } from "../../format.js";

export class Jump {
  #count = 0;

  /** @param {import("../../virtual-list.js").VirtualList<any>} list */
  constructor(list) {
    this.list = list;
    this.button = h("button.jump.small", { type: "button", hidden: true, onclick: () => this.#toTop() });
  }

  /** @param {number} messages how many messages came out of sight */
  missed(messages) {
    if (!messages) return;
    this.#count += messages;
    fill(this.button, `${count(this.#count)} new ↑`);
    this.button.hidden = false;
  }

  /** The reader is at the newest message again. */
  reset() {
    this.#count = 0;
    this.button.hidden = true;
  }

  #toTop() {
    this.list.element.scrollTop = 0;
    this.reset();
  }
}
