/** What clients did over the last minutes: a lane for each, drawn on one canvas, with a text for screen readers. */
import { fill, h } from "./dom.js";
import { ago, time } from "./format.js";

const LANE = 34;
const HUES = ["--accent", "--teal", "--warn", "--blue", "--violet", "--good", "--bad", "--pink", "--lime", "--slate"];
/** @typedef {import("./feed.js").Activity} Activity */

/**
 * What a mark stands for: an event by its channel, any other activity by its name.
 * @param {Activity} item
 */
const kindOf = (item) => (item.activity === "event" ? item.channel : item.activity);

export class Timeline {
  /** @param {{ lanes?: number, left?: number }} [options] `left`: pixels for the names */
  constructor({ lanes = 30, left = 150 } = {}) {
    this.most = lanes;
    this.left = left;
    this.canvas = h("canvas.lanes", { role: "img", "aria-label": "What clients did, over time" });
    this.tip = h("div.tip", { hidden: true });
    this.legend = h("div.legend.marks");
    this.element = h("div", this.canvas, this.legend, this.tip);
    /** @type {string[]} in the order in which they were seen first, so that each kind keeps its colour */
    this.kinds = [];
    /** @type {{ x: number, y: number, item: Activity }[]} */
    this.spots = [];
    this.canvas.addEventListener("mousemove", (event) => this.#point(event));
    this.canvas.addEventListener("mouseleave", () => (this.tip.hidden = true));
  }

  /**
   * Draw the last seconds. Returns how many lanes there are.
   * @param {Activity[]} activities oldest first
   * @param {number} span seconds
   */
  draw(activities, span) {
    const now = Date.now();
    const from = now - span * 1000;
    /** @type {Map<string, Activity[]>} */
    const lanes = new Map();
    for (let index = activities.length - 1; index >= 0 && activities[index].at >= from; index -= 1) {
      const item = activities[index];
      const lane = lanes.get(item.client_id);
      if (lane) lane.push(item);
      else if (lanes.size < this.most) lanes.set(item.client_id, [item]);
    }
    const rows = [...lanes].sort(([a], [b]) => a.localeCompare(b));
    const width = this.canvas.clientWidth || 600;
    const left = width < 520 ? 92 : this.left;
    const height = Math.max(1, rows.length) * LANE + 26;
    const scale = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
      this.canvas.style.height = `${height}px`;
    }
    const style = getComputedStyle(document.documentElement);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const x = (/** @type {number} */ at) => left + ((at - from) / (span * 1000)) * (width - left - 12);
    const marks = Math.max(2, Math.min(6, Math.floor((width - left) / 90)));
    pen.textAlign = "center";
    for (let mark = 0; mark <= marks; mark += 1) {
      const at = from + (mark / marks) * span * 1000;
      pen.fillStyle = colour("--line");
      pen.fillRect(Math.round(x(at)), 0, 1, height - 24);
      pen.fillStyle = colour("--faint");
      const past = Math.round((now - at) / 1000);
      pen.fillText(
        past === 0 ? "now" : past % 60 === 0 ? `−${past / 60} min` : `−${past} s`,
        Math.min(width - 18, x(at)),
        height - 11,
      );
    }
    pen.textAlign = "left";
    this.spots = [];
    const seen = new Set();
    rows.forEach(([id, items], row) => {
      const y = row * LANE + LANE / 2;
      pen.fillStyle = colour("--line");
      pen.fillRect(left, y, width - left - 12, 1);
      pen.fillStyle = colour("--text");
      pen.fillText(shorten(pen, items[0].screen_name || id, left - 16), 0, y);
      for (const item of items) {
        const spot = { x: x(item.at), y, item };
        const kind = kindOf(item);
        if (!this.kinds.includes(kind)) this.kinds.push(kind);
        seen.add(kind);
        pen.fillStyle = colour(HUES[this.kinds.indexOf(kind) % HUES.length]);
        pen.globalAlpha = 0.85;
        pen.beginPath();
        pen.roundRect(spot.x - 2.5, y - 9, 5, 18, 2.5);
        pen.fill();
        this.spots.push(spot);
      }
      pen.globalAlpha = 1;
    });
    fill(
      this.legend,
      this.kinds
        .filter((kind) => seen.has(kind))
        .slice(0, 14)
        .map((kind) => h("span", h(`i.mark-${this.kinds.indexOf(kind) % HUES.length}`), kind)),
    );
    this.canvas.setAttribute(
      "aria-label",
      rows.length
        ? `In this time ${rows.map(([id, items]) => `${id}: ${items.length}`).join(", ")}`
        : "Nobody did anything in this time",
    );
    return rows.length;
  }

  /** @param {MouseEvent} event */
  #point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const near = this.spots
      .filter((spot) => Math.abs(spot.y - py) < LANE / 2)
      .sort((a, b) => Math.abs(a.x - px) - Math.abs(b.x - px))[0];
    this.tip.hidden = !near || Math.abs(near.x - px) > 12;
    if (this.tip.hidden) return;
    const { item } = near;
    fill(
      this.tip,
      h("strong", item.activity),
      ` in ${item.room}:${item.channel}`,
      h("div.dim", `${item.client_id}, ${time(item.at)}, ${ago(item.at)}`),
    );
    this.tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 310)}px`;
    this.tip.style.top = `${event.clientY + 14}px`;
  }
}

/**
 * A text that is cut to a width in pixels.
 * @param {CanvasRenderingContext2D} pen
 * @param {string} text
 * @param {number} width
 */
function shorten(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > width) end -= 1;
  return `${text.slice(0, end)}…`;
}
