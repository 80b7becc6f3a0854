/** For operators: the processes with their figures, the audit log, and what was refused. */
import { empty, fill, h, icon } from "../dom.js";
import { ago, count, explain, time } from "../format.js";
import { repeat } from "../store.js";

/** @typedef {import("../session.js").App} App */
/** @typedef {Record<string, any>} Row of the REST API */

/** @param {App} app */
export function operations(app) {
  const base = app.config.bus_path;
  const nodes = h("div.card-body.table-wrap");
  const handlers = h("div.card-body.table-wrap");
  const audit = h("div.card-body.table-wrap");
  const refusals = h("div.card-body.table-wrap");
  const note = h("div.banner", { hidden: true });
  const more = h("button.small", { type: "button", hidden: true, onclick: () => older() }, "Older entries");
  /** @type {Row[]} */
  let entries = [];
  /** @type {string | null} the URL of the next page */
  let next = null;
  let first = true;
  const nodesCard = h("section.card", { "aria-label": "Nodes" }, h("div.card-head", h("h2", "Nodes")), nodes);
  const handlersCard = h(
    "section.card",
    { "aria-label": "Handlers", hidden: true },
    h("div.card-head", h("h2", "Handlers"), h("span.dim", "functions of the project that get messages")),
    handlers,
  );
  const auditCard = h(
    "section.card",
    { "aria-label": "Audit log" },
    h("div.card-head", h("h2", "Audit log"), h("span.dim", "who changed what, and how")),
    audit,
    h("div.card-body", more),
  );
  const element = h("div", [
    h(
      "div.view-head",
      h("h1", icon("operations"), "Operations"),
      h("span.dim", "Processes, what was changed, and what was refused"),
      h("div.grow"),
      ["metrics", "ready", "health"].map((each) => h("a", { href: `${base}${each}` }, each)),
    ),
    note,
    h(
      "div.scroll",
      h("div.stack", [
        nodesCard,
        handlersCard,
        h(
          "section.card",
          { "aria-label": "Refusals" },
          h(
            "div.card-head",
            h("h2", "Errors and refusals"),
            h("span.dim", "sent to clients since each process started, by code"),
          ),
          refusals,
        ),
        auditCard,
      ]),
    ),
  ]);

  async function load() {
    if (!app.session.admin) {
      // Nothing is requested: the browser would write each refusal into its console.
      if (note.hidden) {
        nodesCard.hidden = auditCard.hidden = true;
        fill(
          note,
          h(
            "span",
            "Processes and the audit log are for admins. Log in as an admin (",
            h("code", app.config.make_admin),
            " creates one), or open the console with an admin's token.",
          ),
        );
        note.hidden = false;
      }
      return loadMetrics();
    }
    try {
      const [{ results }, log, functions] = await Promise.all([
        app.api("GET", "nodes"),
        app.api("GET", "audit?limit=50"),
        app.api("GET", "handlers"),
      ]);
      note.hidden = true;
      showNodes(results);
      showHandlers(functions.results);
      showRefusals(results);
      const known = new Set(entries.map((each) => each.id));
      entries = [...log.results.filter((/** @type {Row} */ each) => !known.has(each.id)), ...entries];
      if (first) next = log.next;
      first = false;
      showAudit();
    } catch (problem) {
      note.hidden = false;
      fill(note, explain(problem));
    }
  }

  /** Show the refusals of this process, which the metrics page has for everybody who may read it. */
  async function loadMetrics() {
    const response = await fetch(`${base}metrics`).catch(() => null);
    if (!response?.ok) return;
    const found = (await response.text()).matchAll(/^arqonbus_errors_total\{code="([^"]+)"\} (\S+)/gm);
    fillRefusals([...found].map(([, code, value]) => [code, Number(value)]));
  }

  /** @param {Row[]} rows */
  function showNodes(rows) {
    fill(
      nodes,
      rows.length
        ? h("table.plain.broad", [
            h(
              "thead",
              h(
                "tr",
                [
                  "Node",
                  "Version",
                  "Up",
                  "Last heartbeat",
                  "Connections",
                  "Logs",
                  "Delivered",
                  "Queued for the log",
                  "Repaired",
                  "Parts",
                ].map((each) => h("th", each)),
              ),
            ),
            h(
              "tbody",
              rows.map((each) => {
                const figures = each.stats ?? {};
                const parts = [
                  ["database", figures.store_available],
                  ["channel layer", figures.layer_connected],
                ];
                return h("tr", [
                  h("td", h("strong", `${each.host}:${each.pid}`), h("div.faint.mono", each.id)),
                  h("td", each.version),
                  h("td", ago(each.started_at).replace(" ago", "")),
                  h("td", ago(each.heartbeat_at)),
                  h("td", count(figures.connections)),
                  h("td", count(figures.streams)),
                  h("td", count(figures.delivered)),
                  h("td", count(figures.log_queue)),
                  h("td", count(figures.repaired)),
                  h(
                    "td",
                    parts.map(([name, good]) => [
                      h(
                        "span.badge",
                        { class: good === false ? "error" : "human" },
                        `${name} ${good === false ? "away" : "ok"}`,
                      ),
                      " ",
                    ]),
                  ),
                ]);
              }),
            ),
          ])
        : h("p.dim", "No process has reported its figures yet."),
    );
  }

  /** @param {Row[]} rows */
  function showHandlers(rows) {
    handlersCard.hidden = !rows.length;
    fill(
      handlers,
      h("table.plain.broad", [
        h(
          "thead",
          h(
            "tr",
            ["Handler", "Channels", "Runs", "Behind", "Handled", "Failed", "Lost", "Stands still"].map((each) =>
              h("th", each),
            ),
          ),
        ),
        h(
          "tbody",
          rows.map((each) =>
            h("tr", [
              h("td", h("strong", each.name)),
              h("td", h("code", each.pattern)),
              h(
                "td",
                h("span.badge", { class: each.running ? "human" : "error" }, each.running ? "yes" : ago(each.seen_at)),
              ),
              h("td", count(each.lag)),
              h("td", count(each.handled)),
              h("td", count(each.failed)),
              h("td", count(each.lost)),
              h(
                "td",
                each.positions.map((/** @type {Row} */ at) => standing(each.name, at)),
              ),
            ]),
          ),
        ),
      ]),
    );
  }

  /**
   * A channel in which a handler waits or stands still, with the buttons that help.
   * @param {string} handler
   * @param {Row} at
   */
  function standing(handler, at) {
    const place = `${at.room}:${at.channel}`;
    /** @param {string} what */
    const help = (what) => async () => {
      try {
        await app.api("POST", `channels/${encodeURIComponent(place)}/handlers`, { handler, next: what });
        await load();
      } catch (problem) {
        note.hidden = false;
        fill(note, explain(problem));
      }
    };
    return h("div", [
      h("code", `${place} #${at.seq + 1}`),
      " ",
      at.state === "stopped" ? "stopped" : `attempt ${at.attempt + 1} at ${time(at.retry_at)}`,
      ": ",
      h("span.dim", at.error),
      " ",
      h("button.small", { type: "button", onclick: help("retry") }, "Try again"),
      " ",
      h("button.small", { type: "button", onclick: help("skip") }, "Skip"),
    ]);
  }

  /** @param {Row[]} rows */
  function showRefusals(rows) {
    /** @type {Map<string, number>} */
    const sums = new Map();
    for (const each of rows)
      for (const [code, value] of Object.entries(each.stats?.errors_by_code ?? {}))
        sums.set(code, (sums.get(code) ?? 0) + value);
    if (sums.size) fillRefusals([...sums]);
    else loadMetrics();
  }

  /** @param {[code: string, times: number][]} rows */
  function fillRefusals(rows) {
    rows.sort((a, b) => b[1] - a[1]);
    fill(
      refusals,
      rows.length
        ? h("table.plain", [
            h("thead", h("tr", h("th", "Code"), h("th", "Times"))),
            h(
              "tbody",
              rows.map(([code, value]) =>
                h("tr", h("td", h("a", { href: `#/contracts?code=${code}` }, h("code", code))), h("td", count(value))),
              ),
            ),
          ])
        : h("p.dim", "Nothing was refused."),
    );
  }

  function showAudit() {
    more.hidden = !next;
    fill(
      audit,
      entries.length
        ? h("table.plain", [
            h(
              "thead",
              h(
                "tr",
                ["When", "Who", "Action", "Target", "Through", "Details"].map((each) => h("th", each)),
              ),
            ),
            h(
              "tbody",
              entries.map((each) =>
                h("tr", [
                  h("td", { title: each.at }, time(each.at)),
                  h("td", each.actor),
                  h(
                    "td",
                    h("span.badge", { class: /refus|denied|forbid/.test(each.action) ? "error" : null }, each.action),
                  ),
                  h("td", h("code", each.target)),
                  h("td", each.door),
                  h("td", Object.keys(each.details).length ? h("code.dim", JSON.stringify(each.details)) : ""),
                ]),
              ),
            ),
          ])
        : empty(
            "operations",
            "Nothing was changed yet",
            "This lists changes of channels, tokens and grants, and clients that an admin disconnected.",
          ),
    );
  }

  async function older() {
    if (!next) return;
    const page = await app.api("GET", `audit${new URL(next, location.href).search}`);
    entries = [...entries, ...page.results];
    next = page.next;
    showAudit();
  }

  const loop = repeat(load, 3000);
  return { element, close: () => loop.stop() };
}
