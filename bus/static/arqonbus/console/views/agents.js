/** What agents do, over time and as a list. The activity events say what was done, and never the content. */
import { empty, fill, h, icon, select } from "../dom.js";
import { ago, count, time } from "../format.js";
import { badge, setFace } from "../parts.js";
import { Timeline } from "../timeline.js";
import { VirtualList } from "../virtual-list.js";

/** @typedef {import("../session.js").App} App */
/** @typedef {import("../feed.js").Activity} Activity */

/**
 * Where something was done. A private message is in no channel, and a whole room has no shorter name.
 * @param {Activity} activity
 * @param {boolean} [short]
 */
const where = ({ room, channel }, short = false) =>
  room === "pm" ? "" : ` in ${short && channel !== "*" ? channel : `${room}:${channel}`}`;
/** @type {[string, string][]} */
const SPANS = [
  ["60", "1 min"],
  ["300", "5 min"],
  ["600", "10 min"],
];

/** @param {App} app */
export function agents(app) {
  const span = select({ "aria-label": "Time shown", onchange: draw }, SPANS, "60");
  const kind = select({ "aria-label": "Type of client", onchange: draw }, [
    ["", "All but dashboards"],
    ["ai-agent", "ai-agent"],
    ["*", "Everybody"],
  ]);
  const timeline = new Timeline();
  const head = h("span.dim");
  const box = h("div.card-body", timeline.element);
  const card = h("section.card", box);
  const blank = h("div.grow.scroll", { hidden: true });
  /** @type {Activity[]} */
  let rows = [];
  const list = new VirtualList({
    height: () => (matchMedia("(max-width: 760px)").matches ? 58 : 36),
    label: "What was done, newest first",
    make: () => h("div.feed-row", h("span.time"), h("span.who", h("span.face"), h("span.cut")), h("span.content.cut")),
    show(row, item) {
      const [moment, who, content] = row.children;
      moment.textContent = time(item.at);
      setFace(who.firstChild, item.client_id, item.screen_name || item.client_id);
      who.lastChild.textContent = item.screen_name || item.client_id;
      fill(content, badge(item.activity), h("span.dim", where(item)));
    },
    items: (index) => rows[rows.length - 1 - index],
    onpick: (item) => app.go(`clients/${item.client_id}`),
  });
  const cards = h("div.toolbar.scroller");
  const lanes = h("div.scroll.lanes-holder", card);
  const table = h("div.vtable", list.element);
  const title = h("h1", icon("agents"), "Agents");
  const element = h("div", [h("div.view-head", title, head, h("div.grow"), kind, span), blank, lanes, cards, table]);
  let seen = -1;

  function draw() {
    const wanted = kind.value;
    rows = app.feed.activities.items.filter((each) =>
      wanted === "*" ? true : wanted ? each.client_type === wanted : each.client_type !== "dashboard",
    );
    const drawn = timeline.draw(rows, Number(span.value));
    const latest = new Map();
    for (const each of rows) latest.set(each.client_id, each);
    const now = [...latest.values()].sort((a, b) => b.at - a.at).slice(0, 12);
    fill(
      cards,
      now.map((each) =>
        h(
          "a.pill",
          { href: `#/clients/${each.client_id}`, title: `${each.activity}${where(each)}` },
          `${each.screen_name || each.client_id}: ${each.activity}${where(each, true)}, ${ago(each.at)}`,
        ),
      ),
    );
    head.textContent = rows.length ? `${count(latest.size)} clients, ${count(rows.length)} activities remembered` : "";
    const { value } = app.feed.refused;
    blank.hidden = rows.length > 0;
    lanes.hidden = cards.hidden = table.hidden = rows.length === 0;
    if (!rows.length) {
      fill(
        blank,
        value
          ? empty(
              "lock",
              "No activity for you",
              value,
              `It is in ${app.config.system_room}:dashboard-events. An admin can allow you to join that channel.`,
            )
          : empty(
              "agents",
              "Nobody did anything yet",
              "Clients appear here as soon as they publish or run a command.",
              h("p", h("a", { href: "#/start" }, "Connect a first one")),
            ),
      );
    }
    card.hidden = drawn === 0;
    if (seen !== app.feed.activities.total) {
      list.update(rows.length, seen < 0 || list.element.scrollTop === 0 ? 0 : app.feed.activities.total - seen);
      seen = app.feed.activities.total;
    } else list.update(rows.length);
  }

  const timer = setInterval(draw, 500);
  const off = app.feed.activity.watch(() => {});
  queueMicrotask(draw);
  return {
    element,
    close() {
      clearInterval(timer);
      off();
    },
  };
}
