/** A line chart over the last minutes (uPlot), in the colours of the theme. */
import { fill, h } from "./dom.js";
import { clockTime } from "./format.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * `series`: {name, colour (a custom property), value (of a point), show (a number as text)}. `draw(points, window)` brings it up to date.
 */
export class Chart {
  constructor(title, series, { hint = "" } = {}) {
    this.series = series;
    this.hint = hint;
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
      if (this.points) this.draw(this.points, this.window);
    };
    addEventListener("themechange", this.retheme);
  }

  #size() {
    return { width: Math.max(120, this.canvas.clientWidth - 16), height: 142 };
  }

  draw(points, window) {
    Object.assign(this, { points, window });
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
    const end = Math.max(points.at(-1).t, Date.now() / 1000 - 5);
    const scales = { x: { time: true, min: Math.max(points[0].t, end - window), max: end } };
    if (!this.plot) this.#make(data);
    this.plot.setData(data, false);
    this.plot.batch(() => {
      this.plot.setScale("x", scales.x);
      const most = Math.max(...data.slice(1).flat().filter(Number.isFinite), 0);
      this.plot.setScale("y", { min: 0, max: most > 0 ? most * 1.15 : 1 });
    });
  }

  /** The figures of the moment under the pointer, with its time; those of now where there is none. */
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

  #make(data) {
    fill(this.canvas);
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
          { ...axis, size: 48, space: 34, values: (_, splits) => splits.map((value) => this.series[0].show(value)) },
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
