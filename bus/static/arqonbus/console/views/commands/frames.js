/** Every frame of this page, newest first. */
import { fill, h, icon } from "../../dom.js";
import { rate, time } from "../../format.js";
import { jsonBlock, jsonFault } from "../../json-view.js";
import { VirtualList } from "../../virtual-list.js";

/** @typedef {import("../../session.js").FrameRecord} FrameRecord */

export class FramesPane {
  #paused = false;
  /** How many frames there were at the last drawing; -1 draws anew. */
  #seen = -1;
  /** @type {FrameRecord[]} */
  #shown = [];

  /** @param {import("../../session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.speed = h("span.faint");
    this.pause = h("button.ghost.small", { type: "button", onclick: () => this.toggle() });
    this.own = h("input", { type: "checkbox", onchange: () => this.#redraw() });
    this.whole = h("div.detail-body", { hidden: true });
    this.list = new VirtualList({
      height: 30,
      label: "Frames, newest first",
      make: () => h("div.frame-row", h("span"), h("span.faint"), h("span.cut")),
      show: (row, /** @type {FrameRecord} */ item) => show(row, item),
      items: (index) => this.#shown[this.#shown.length - 1 - index],
      onpick: (item) => this.#detail(item),
    });
    const own = h("label.check", this.own, "show this page's own requests");
    const head = h("div.pane-head", h("strong", "Frames"), this.speed, h("div.grow"), own, this.pause);
    this.element = h("div.pane", head, this.list.element, this.whole);
    this.#label();
  }

  toggle() {
    this.#setPaused(!this.#paused);
  }

  /** Show the frames that came since the last time. */
  draw() {
    const { frames, framesIn, framesOut } = this.session;
    this.speed.textContent = `${rate(framesIn.rate())}/s in, ${rate(framesOut.rate())}/s out`;
    if (this.#paused || this.#seen === frames.total) return;
    const fresh = this.#seen < 0 ? 0 : frames.total - this.#seen;
    this.#seen = frames.total;
    const before = this.#shown.length;
    this.#shown = frames.items(this.own.checked);
    const added = this.list.element.scrollTop > 0 && fresh ? Math.max(0, this.#shown.length - before) : 0;
    this.list.update(this.#shown.length, added);
  }

  #redraw() {
    this.#seen = -1;
    this.draw();
  }

  /** @param {boolean} paused */
  #setPaused(paused) {
    this.#paused = paused;
    this.#label();
    if (paused) return;
    this.whole.hidden = true;
    this.list.clearSelection();
    this.#seen = -1;
  }

  #label() {
    fill(this.pause, icon(this.#paused ? "play" : "pause"), this.#paused ? "Resume" : "Pause");
  }

  /** @param {FrameRecord} item */
  #detail(item) {
    this.#setPaused(true);
    this.whole.hidden = false;
    fill(this.whole, jsonFault(item.text) ? h("pre.json", item.text) : jsonBlock(JSON.parse(item.text)));
  }
}

/**
 * @param {any} row
 * @param {FrameRecord} item
 */
function show(row, item) {
  const [direction, at, text] = row.children;
  const incoming = item.direction === "in";
  direction.className = item.direction;
  direction.textContent = incoming ? "↓" : "↑";
  direction.title = incoming ? "from the server" : "to the server";
  at.textContent = time(item.at);
  fill(text, h("b", item.label), " ", item.text);
}
