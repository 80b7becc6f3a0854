/** A list of rows of one height. Only the rows in sight are in the page, so 100,000 rows cost as much as 40. */
import { h } from "./dom.js";

const SPARE = 6;
let lists = 0;

/**
 * @template Item
 * @typedef {object} ListOptions
 * @property {number | (() => number)} height of a row, in pixels
 * @property {() => HTMLElement} make builds the element of a row
 * @property {(row: any, item: Item, index: number) => void} show fills it
 * @property {(index: number) => Item} items
 * @property {string} label
 * @property {(() => void) | null} [onend] the end of the list comes into sight
 * @property {((item: Item, index: number) => void) | null} [onpick]
 * @property {((top: number) => void) | null} [onscroll]
 * @property {boolean} [follow] whether the keyboard picks each row that it comes to; otherwise Enter or Space picks
 * @property {[list: string, row: string]} [roles] for screen readers
 */

/**
 * A scroll container that the keyboard can move through.
 * @template Item
 */
export class VirtualList {
  /** @param {ListOptions<Item>} options */
  constructor({
    height,
    make,
    show,
    items,
    label,
    onend = null,
    onpick = null,
    onscroll = null,
    follow = true,
    roles = ["listbox", "option"],
  }) {
    this.height = height;
    this.make = make;
    this.show = show;
    this.items = items;
    this.onend = onend;
    this.onpick = onpick;
    this.onscroll = onscroll;
    this.follow = follow;
    this.roles = roles;
    this.id = `list-${++lists}`;
    this.count = 0;
    this.selected = -1;
    /** @type {HTMLElement[]} */
    this.rows = [];
    /** @type {number | undefined} */
    this.frame = undefined;
    this.space = h("div.vspace");
    this.element = h("div.vlist", { tabindex: "0", role: roles[0], "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => {
      this.onscroll?.(this.element.scrollTop);
      this.schedule();
    });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("click", (event) => {
      const target = /** @type {Element} */ (event.target);
      const row = /** @type {HTMLElement | null} */ (target.closest("[data-index]"));
      if (row && !target.closest("a, button")) this.pick(Number(row.dataset.index));
    });
    new ResizeObserver(() => this.schedule()).observe(this.element);
  }

  get rowHeight() {
    return typeof this.height === "function" ? this.height() : this.height;
  }

  /**
   * The list has `count` items now. `added` of them are new at the top, and must not move what the reader sees.
   * @param {number} count
   * @param {number} [added]
   */
  update(count, added = 0) {
    this.count = count;
    const size = this.rowHeight;
    this.space.style.height = `${count * size}px`;
    if (added && this.element.scrollTop > 0) this.element.scrollTop += added * size;
    if (added && this.selected >= 0) this.selected += added;
    this.render();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.render();
    });
  }

  render() {
    const size = this.rowHeight;
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / size) - SPARE);
    const last = Math.min(this.count, Math.ceil((scrollTop + clientHeight) / size) + SPARE);
    while (this.rows.length < last - first) {
      const row = this.make();
      row.classList.add("vrow");
      row.setAttribute("role", this.roles[1]);
      this.rows.push(row);
      this.space.append(row);
    }
    this.rows.forEach((row, offset) => {
      const index = first + offset;
      row.hidden = index >= last;
      if (row.hidden) return;
      row.style.transform = `translateY(${index * size}px)`;
      row.style.height = `${size}px`;
      row.dataset.index = String(index);
      const chosen = index === this.selected;
      row.classList.toggle("selected", chosen);
      row.setAttribute("aria-selected", String(chosen));
      // Only some rows are in the page, so screen readers need the number of this one and of all.
      row.id = `${this.id}-${index}`;
      row.setAttribute("aria-posinset", String(index + 1));
      row.setAttribute("aria-setsize", String(this.count));
      this.show(row, this.items(index), index);
    });
    if (this.selected >= first && this.selected < last)
      this.element.setAttribute("aria-activedescendant", `${this.id}-${this.selected}`);
    else this.element.removeAttribute("aria-activedescendant");
    if (this.onend && this.count * size - scrollTop - clientHeight < clientHeight) this.onend();
  }

  /** @param {number} index */
  pick(index) {
    this.selected = index;
    this.render();
    this.onpick?.(this.items(index), index);
  }

  clearSelection() {
    this.selected = -1;
    this.render();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight) - 1);
    /** @type {Record<string, number>} */
    const steps = {
      ArrowDown: 1,
      j: 1,
      ArrowUp: -1,
      k: -1,
      PageDown: page,
      PageUp: -page,
      Home: -this.count,
      End: this.count,
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !this.count) return;
    const picks = !this.follow && (event.key === "Enter" || event.key === " ");
    if (picks && this.selected >= 0 && event.target === this.element) {
      event.preventDefault();
      this.pick(this.selected);
      return;
    }
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    const step = steps[event.key];
    const from = this.selected >= 0 ? this.selected : step > 0 ? -1 : 0;
    const index = Math.min(this.count - 1, Math.max(0, from + step));
    const size = this.rowHeight;
    const top = index * size;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + size > this.element.scrollTop + this.element.clientHeight)
      this.element.scrollTop = top + size - this.element.clientHeight;
    if (this.follow) {
      this.pick(index);
    } else {
      this.selected = index;
      this.render();
    }
  }
}
