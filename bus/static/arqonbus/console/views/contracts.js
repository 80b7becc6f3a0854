/** The contracts to read and download, every error and close code, and every command. */
import { byId, empty, fill, h, icon } from "../dom.js";
import { explain } from "../format.js";

/** @typedef {import("../session.js").App} App */

const LINKS = [
  ["api/docs/", "API docs", "REST, to read and to try"],
  ["api/openapi.json", "OpenAPI", "the HTTP interface, for tools"],
  ["api/asyncapi.json", "AsyncAPI", "both sockets, for tools"],
  ["api/asyncapi/", "Sockets", "frames and commands, to read"],
];

/**
 * @param {App} app
 * @param {string} _rest
 * @param {URLSearchParams} parameters
 */
export function contracts(app, _rest, parameters) {
  const copyOf = (/** @type {string} */ id) => /** @type {HTMLTemplateElement} */ (byId(id)).content.cloneNode(true);
  const errors = h("div.card-body.table-wrap", copyOf("error-table"));
  const commands = h("div.card-body.table-wrap", h("p.dim", "Loading …"));
  const element = h("div", [
    h(
      "div.view-head",
      h("h1", icon("contracts"), "Contracts"),
      h("span.dim", "Generated from the code that checks every frame and request"),
    ),
    h(
      "div.scroll",
      h("div.stack", [
        h(
          "div.grid.tiles",
          LINKS.map(([path, name, about]) =>
            h("a.tile", { href: `${app.config.bus_path}${path}` }, h("div", h("strong", name)), h("div.name", about)),
          ),
        ),
        h("section.card", { "aria-label": "Errors" }, h("div.card-head", h("h2", "Every error")), errors),
        h(
          "section.card",
          { "aria-label": "Close codes" },
          h("div.card-head", h("h2", "Every close code of the sockets")),
          h("div.card-body.table-wrap", copyOf("close-table")),
        ),
        h("section.card", { "aria-label": "Commands" }, h("div.card-head", h("h2", "Every command")), commands),
      ]),
    ),
  ]);
  app.session.bus.help().then(
    (all) => {
      fill(
        commands,
        h("table.plain", [
          h(
            "thead",
            h(
              "tr",
              ["Command", "Who", "What it does", "Parameters", "Own errors"].map((each) => h("th", each)),
            ),
          ),
          h(
            "tbody",
            all.map((each) =>
              h("tr", [
                h("td", h("code", each.command)),
                h("td", each.who),
                h("td", each.summary),
                h(
                  "td",
                  Object.entries(each.parameters).map(([name, schema]) =>
                    h("div", h("code", name), h("span.dim", ` ${schema.description ?? ""}`)),
                  ),
                ),
                h(
                  "td",
                  each.errors.map((code) => h("div", h("a", { href: `#/contracts?code=${code}` }, h("code", code)))),
                ),
              ]),
            ),
          ),
        ]),
      );
    },
    (problem) => fill(commands, empty("lock", explain(problem))),
  );
  const code = parameters.get("code");
  const row = code && [...errors.querySelectorAll("tr[id]")].find((each) => each.id === code);
  if (row) {
    row.classList.add("marked");
    queueMicrotask(() => row.scrollIntoView({ block: "center" }));
  }
  return { element };
}
