/** A line chart over the last minutes (uPlot), in the colours of the theme. */
import { fill, h } from "./dom.js";
import { clockTime } from "./format.js";

/** @typedef {import("./feed.js").Point} Point */
/**
 * A line of a chart.
 * @typedef {object} Series
 * @property {string} name
 * @property {(point: Point) => number | null} value
 * @property {(value: number | null) => string} show
 */

/** @param {string} name of a custom property */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A chart in a card of its own. */
export class Chart {
  /**
   * @param {string} title
   * @param {Series[]} series
   * @param {{ hint?: string }} [options] `hint` stands where there are no figures
   */
  constructor(title, series, { hint = "" } = {}) {
    this.series = series;
    this.hint = hint;
    /** @type {Point[]} */
    this.points = [];
    this.window = 0;
    /** @type {any} a uPlot */
    this.plot = null;
    this.legend = h("div.legend");
    this.canvas = h("div.chart");
    this.element = h(
      "section.card",
      { "aria-label": title },
      h("div.card-head", h("h2", title), this.legend),
      this.canvas,
    );
    this.resize = new ResizeObserver(() => this.plot?.setSize(this.#size()));
    this.resize.observe(this.canvas);
    this.retheme = () => {
      this.plot?.destroy();
      this.plot = null;
      if (this.window) this.draw(this.points, this.window);
    };
    addEventListener("themechange", this.retheme);
  }

  #size() {
    return { width: Math.max(120, this.canvas.clientWidth - 16), height: 142 };
  }

  /**
   * Show the last `window` seconds.
   * @param {Point[]} points
   * @param {number} window
   */
  draw(points, window) {
    this.points = points;
    this.window = window;
    this.#legend();
    if (points.length < 2) {
      fill(this.canvas, h("div.nothing", this.hint || "Waiting for the first figures …"));
      this.plot = null;
      return;
    }
    const data = [
      points.map((point) => point.t),
      ...this.series.map((each) => points.map((point) => each.value(point) ?? null)),
    ];
    const end = Math.max(points[points.length - 1].t, Date.now() / 1000 - 5);
    const scales = { x: { time: true, min: Math.max(points[0].t, end - window), max: end } };
    if (!this.plot) this.#make(data);
    this.plot.setData(data, false);
    this.plot.batch(() => {
      this.plot.setScale("x", scales.x);
      const most = Math.max(...data.slice(1).flat().map(Number).filter(Number.isFinite), 0);
      this.plot.setScale("y", { min: 0, max: most > 0 ? most * 1.15 : 1 });
    });
  }

  /** The figures of the moment under the pointer with its time, or without one those of now. */
  #legend() {
    const { idx: at = null } = this.plot?.cursor ?? {};
    const pointed = at === null ? undefined : this.points[at];
    const point = pointed ?? this.points.at(-1);
    const swatches = ["line-a", "line-b", "line-c"];
    fill(this.legend, [
      pointed && h("span.faint", { data: { pointed: pointed.t } }, clockTime(pointed.t * 1000)),
      ...this.series.map((each, index) =>
        h("span", h(`i.${swatches[index]}`), `${each.name} `, h("b", point ? each.show(each.value(point)) : "–")),
      ),
    ]);
  }

  /** @param {(number | null)[][]} data */
  #make(data) {
    fill(this.canvas);
    const { uPlot } = /** @type {any} */ (globalThis);
    const names = ["--accent", "--teal", "--bad"];
    const axis = {
      stroke: colour("--faint"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    this.plot = new uPlot(
      {
        ...this.#size(),
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        hooks: { setCursor: [() => this.#legend()] },
        scales: { x: { time: true, auto: false }, y: { auto: false } },
        axes: [
          {
            ...axis,
            space: 70,
            values: [
              [3600, "{HH}:{mm}"],
              [60, "{HH}:{mm}"],
              [1, "{HH}:{mm}:{ss}"],
              [0.001, "{HH}:{mm}:{ss}"],
            ],
            size: 26,
          },
          {
            ...axis,
            size: 48,
            space: 34,
            values: (/** @type {any} */ _, /** @type {number[]} */ splits) =>
              splits.map((value) => this.series[0].show(value)),
          },
        ],
        series: [
          {},
          ...this.series.map((each, index) => ({
            label: each.name,
            stroke: colour(names[index]),
            width: 1.8,
            fill: index === 0 ? `${colour(names[index])}22` : undefined,
            points: { show: false },
            spanGaps: true,
          })),
        ],
      },
      data,
      this.canvas,
    );
  }

  close() {
    removeEventListener("themechange", this.retheme);
    this.resize.disconnect();
    this.plot?.destroy();
  }
}
