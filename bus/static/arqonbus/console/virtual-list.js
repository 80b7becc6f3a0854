/**
 * A list of rows of one height, of which only those in sight are in the page; 100,000 rows cost as much as 40.
 *
 * `height` is a row's height in pixels, or a function that gives it; `make()` builds a row's element, `show(element, item, index)` fills
 * it. `items(index)` gives the item. The element is a scroll container that the keyboard can move through: with `follow` each row that it
 * comes to is picked, else Enter or Space picks. `roles` are the container's and a row's, for those who hear the page.
 */
import { h } from "./dom.js";

const SPARE = 6;
let lists = 0;

export class VirtualList {
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
    Object.assign(this, { height, make, show, items, onend, onpick, onscroll, follow, roles });
    this.id = `list-${++lists}`;
    this.count = 0;
    this.selected = -1;
    this.rows = [];
    this.space = h("div.vspace");
    this.element = h("div.vlist", { tabindex: "0", role: roles[0], "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => {
      this.onscroll?.(this.element.scrollTop);
      this.schedule();
    });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row && !event.target.closest("a, button")) this.pick(Number(row.dataset.index));
    });
    new ResizeObserver(() => this.schedule()).observe(this.element);
  }

  get rowHeight() {
    return typeof this.height === "function" ? this.height() : this.height;
  }

  /** The list has so many items now; `added` of them at the top, which must not move what is being read. */
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
      row.dataset.index = index;
      const chosen = index === this.selected;
      row.classList.toggle("selected", chosen);
      row.setAttribute("aria-selected", String(chosen));
      // Only some rows are in the page: which one of how many it is has to be said.
      row.id = `${this.id}-${index}`;
      row.setAttribute("aria-posinset", index + 1);
      row.setAttribute("aria-setsize", this.count);
      this.show(row, this.items(index), index);
    });
    if (this.selected >= first && this.selected < last)
      this.element.setAttribute("aria-activedescendant", `${this.id}-${this.selected}`);
    else this.element.removeAttribute("aria-activedescendant");
    if (this.onend && this.count * size - scrollTop - clientHeight < clientHeight) this.onend();
  }

  pick(index) {
    this.selected = index;
    this.render();
    this.onpick?.(this.items(index), index);
  }

  clearSelection() {
    this.selected = -1;
    this.render();
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight) - 1);
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
    if (
      !this.follow &&
      (event.key === "Enter" || event.key === " ") &&
      this.selected >= 0 &&
      event.target === this.element
    ) {
      event.preventDefault();
      this.pick(this.selected);
      return;
    }
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    const index = Math.min(
      this.count - 1,
      Math.max(0, (this.selected < 0 ? (steps[event.key] > 0 ? -1 : 0) : this.selected) + steps[event.key]),
    );
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
