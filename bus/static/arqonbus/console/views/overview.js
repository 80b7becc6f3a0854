/** The bus at a glance: figures, charts over the last minutes, and active clients. An empty bus shows how to start. */
import { Chart } from "../charts.js";
import { empty, fill, h } from "../dom.js";
import { WINDOW } from "../feed.js";
import { count, counted, duration, rate, short } from "../format.js";
import { snippets } from "../parts.js";
import { repeat } from "../store.js";
import { Timeline } from "../timeline.js";

/** @typedef {import("../charts.js").Series} Series */
/** @typedef {import("../session.js").App} App */

/** @type {[number, string][]} */
const SPANS = [
  [120, "2 min"],
  [300, "5 min"],
  [WINDOW, "10 min"],
];

/** @param {unknown} value milliseconds, or null */
const latency = (value) => (value === null ? "–" : duration(value));

/** @param {App} app */
export function overview(app) {
  let span = 120;
  const tiles = h("div.grid.tiles");
  const charts = [
    new Chart("Connections", [{ name: "open", value: (point) => point.connections, show: (value) => short(value) }]),
    new Chart("Messages a second", [
      { name: "in", value: (point) => point.in, show: (value) => rate(value) },
      { name: "out", value: (point) => point.out, show: (value) => rate(value) },
    ]),
    new Chart(
      "Publish latency",
      [
        { name: "p50", value: (point) => point.p50, show: latency },
        { name: "p99", value: (point) => point.p99, show: latency },
      ],
      { hint: "Nothing was published yet." },
    ),
    new Chart("Errors a second", [
      { name: "sent to clients", value: (point) => point.errors, show: (value) => rate(value) },
    ]),
  ];
  const spans = h(
    "div.tabs",
    SPANS.map(([value, label]) =>
      h("button.small", { type: "button", onclick: () => setSpan(value), data: { span: value } }, label),
    ),
  );
  const begin = h("section.card", { hidden: true });
  const timeline = new Timeline({ lanes: 8 });
  const agents = h(
    "section.card",
    h("div.card-head", h("h2", "At work"), h("a", { href: "#/agents" }, "All agents")),
    h("div.card-body", timeline.element),
  );
  const nothing = h("section.card", { hidden: true });
  const grid = h(
    "div.grid.charts",
    charts.map((each) => each.element),
  );
  const element = h(
    "div.scroll",
    h("div.stack", begin, tiles, h("div.section-head", h("h2", "The last minutes"), spans), nothing, grid, agents),
  );

  fill(
    begin,
    empty(
      "start",
      "Send the first message",
      "Copy a line, run it in a second terminal, and watch it arrive in science:explore.",
      h("p", h("a", { href: "#/messages/science:explore" }, "Open science:explore")),
      snippets("science:explore"),
    ),
  );

  /** @param {number} value seconds */
  function setSpan(value) {
    span = value;
    draw();
  }

  /** @type {import("../../arqonbus.js").Status | null} */
  let status = null;
  function draw() {
    for (const each of spans.querySelectorAll("button"))
      each.setAttribute("aria-pressed", String(Number(each.dataset.span) === span));
    const point = app.feed.point.value;
    const members = app.rooms.rooms.value.reduce((sum, each) => sum + each.participants, 0);
    const stats = status?.stats;
    fill(tiles, [
      tile(
        "Connections",
        point?.connections ?? stats?.active_connections,
        stats ? `${counted(stats.active_connections, "client")}, ${short(stats.total_connections)} so far` : "",
      ),
      tile("Rooms", app.rooms.rooms.value.length, stats ? `${count(stats.active_rooms)} with members` : ""),
      tile("Channels", app.rooms.channels.size, counted(members, "membership")),
      tile("Messages", app.rooms.total, "published so far to the channels that you see", short),
      tile("Messages in", point?.in ?? app.rooms.rate, "a second", rate),
      tile("Messages out", point?.out, "a second", rate),
      tile("Publish latency", point?.p99 ?? null, "p99, from arrival to commit", latency),
      tile("Errors", point?.errors ?? null, "a second", rate),
    ]);
    begin.hidden = !app.rooms.loaded || app.rooms.total > 0;
    const refused = app.feed.refused.value;
    nothing.hidden = !refused;
    grid.hidden = Boolean(refused);
    if (refused)
      fill(
        nothing,
        empty(
          "lock",
          "No figures for you",
          refused,
          `An admin can allow you to join and read ${app.config.system_room}:telemetry-stream.`,
        ),
      );
    else for (const each of charts) each.draw(app.feed.points, span);
    agents.hidden =
      timeline.draw(
        app.feed.activities.items.filter((each) => each.client_type !== "dashboard"),
        120,
      ) === 0;
  }

  const asked = repeat(async () => {
    if (app.session.bus.connected) status = await app.session.bus.status({ limit: 1 }).catch(() => status);
  }, 3000);
  const timer = setInterval(draw, 1000);
  const offs = [app.rooms.rooms.watch(draw), app.feed.point.watch(draw)];
  return {
    element,
    close() {
      clearInterval(timer);
      asked.stop();
      for (const off of offs) off();
      for (const each of charts) each.close();
    },
  };
}

/**
 * @param {string} name
 * @param {number | null | undefined} value undefined if it is unknown
 * @param {string} [more]
 * @param {(value: unknown) => string} [show]
 */
function tile(name, value, more = "", show = short) {
  const known = value !== undefined;
  return h("div.tile", { title: Number.isFinite(value) ? count(value) : "" }, [
    h("div.name", name),
    h("div.value", known ? show(value) : "–"),
    h("div.more", more),
  ]);
}
