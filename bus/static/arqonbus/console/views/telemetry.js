/** Live telemetry: events of clients and of the server itself. */
import { copyButton, empty, fill, h, icon, select } from "../dom.js";
import { count, pairs, time } from "../format.js";
import { jsonBlock } from "../json-view.js";
import { detailPane, facts } from "../parts.js";
import { VirtualList } from "../virtual-list.js";

/** @typedef {import("../session.js").App} App */
/** @typedef {import("../session.js").Frame} Frame */

/** @param {App} app */
export function telemetry(app) {
  const { feed } = app;
  let paused = false;
  /** @type {Frame[]} */
  let rows = [];
  let seen = 0;
  let kinds = 0;
  const kind = select({ "aria-label": "Kind of event", onchange: () => draw(true) }, [["", "Every kind"]]);
  const text = h("input", { type: "search", placeholder: "Text", "aria-label": "Text", oninput: () => draw(true) });
  const state = h("span.pill");
  const head = h("span.dim");
  const pause = h("button.small", { type: "button", onclick: () => setPaused(!paused) });
  const detail = detailPane(() => list.clearSelection());
  const blank = h("div.scroll.grow", { hidden: true });
  const list = new VirtualList({
    height: () => (matchMedia("(max-width: 760px)").matches ? 58 : 36),
    label: "Telemetry events, newest first",
    make: () => h("div.feed-row", h("span.time"), h("span", h("span.badge.telemetry")), h("span.content.cut.mono.dim")),
    show(row, item) {
      row.children[0].textContent = time(item.timestamp);
      row.children[1].firstChild.textContent = String(item.eventType ?? "");
      row.children[2].textContent = pairs(item.payload ?? {});
    },
    items: (index) => rows[rows.length - 1 - index],
    onpick(item) {
      detail.show(
        h("strong.cut", String(item.eventType ?? "")),
        facts([
          ["From", item.from],
          ["Source", typeof item.source === "string" ? item.source : null],
          ["Sequence", item.seq],
          ["Time", h("span.mono", item.timestamp)],
          ["Id", h("span.mono", item.id ?? "")],
        ]),
        h("div", h("div.section-title", "Frame"), jsonBlock(item)),
      );
    },
  });
  const example = `{"eventType": "deploy", "payload": {"version": "1.4.2"}}`;
  const element = h("div", [
    h("div.view-head", h("h1", icon("telemetry"), "Telemetry"), state, head, h("div.grow"), pause),
    h("div.toolbar", icon("search"), text, kind),
    h("div.explorer", h("div.explorer-list", blank, list.element), detail.element),
  ]);

  /** @param {boolean} value */
  function setPaused(value) {
    paused = value;
    fill(pause, icon(paused ? "play" : "pause"), paused ? "Resume" : "Pause");
    pause.classList.toggle("on", paused);
    if (!paused) draw(true);
  }

  function draw(anew = false) {
    if (paused && !anew) return;
    const fresh = feed.events.total - seen;
    if (!fresh && !anew) return;
    seen = feed.events.total;
    const all = new Set(feed.events.items.map((each) => String(each.eventType)));
    if (all.size !== kinds) {
      kinds = all.size;
      const chosen = kind.value;
      fill(
        kind,
        h("option", { value: "" }, "Every kind"),
        [...all].sort().map((each) => h("option", { value: each }, each)),
      );
      kind.value = chosen;
    }
    const wanted = text.value.trim().toLowerCase();
    const before = rows.length;
    rows = feed.events.items.filter(
      (each) =>
        (!kind.value || each.eventType === kind.value) &&
        (!wanted || JSON.stringify(each).toLowerCase().includes(wanted)),
    );
    list.update(rows.length, anew ? 0 : Math.max(0, rows.length - before));
    head.textContent = `${count(feed.events.total)} events: the last ten minutes, and all since this page was opened`;
    blank.hidden = rows.length > 0;
    list.element.hidden = rows.length === 0;
    if (rows.length) return;
    const refused = feed.refused.value;
    if (refused)
      fill(
        blank,
        empty(
          "lock",
          "No telemetry for you",
          refused,
          `An admin can allow you to join and read ${app.config.system_room}:telemetry-stream.`,
        ),
      );
    else if (feed.events.total) fill(blank, empty("search", "No event matches the filters"));
    else
      fill(
        blank,
        empty(
          "telemetry",
          "No event yet",
          "Send one over the telemetry socket, as a JSON frame:",
          h("pre.snippet", example),
          copyButton(example),
        ),
      );
  }

  const offs = [
    feed.socket.state.watch((now) => {
      state.className = `pill ${now}`;
      fill(state, h("span.dot"), now === "connected" ? "telemetry socket" : `telemetry socket ${now}`);
    }),
  ];
  const timer = setInterval(() => draw(), 300);
  setPaused(false);
  return {
    element,
    /** @param {KeyboardEvent} event */
    key(event) {
      if (event.key === "p") setPaused(!paused);
      else if (event.key === "Escape") detail.close();
      else if (event.key === "/") {
        event.preventDefault();
        text.focus();
      }
    },
    close() {
      clearInterval(timer);
      for (const off of offs) off();
    },
  };
}
