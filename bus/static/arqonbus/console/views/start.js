/** How to connect a first client to this server. */
import { fill, h, icon } from "../dom.js";
import { facts, snippets } from "../parts.js";
import { busUrl, config, telemetryUrl } from "../session.js";

export function start() {
  const address = h("input", {
    value: "science:explore",
    "aria-label": "Channel",
    name: "start-address",
    spellcheck: "false",
    oninput: draw,
  });
  const box = h("div");
  const watch = h("a");
  const element = h("div", [
    h("div.view-head", h("h1", icon("start"), "Connect"), h("span.dim", "A first message in half a minute")),
    h(
      "div.scroll",
      h("div.stack", [
        h(
          "section.card",
          h("div.card-head", h("h2", "1. Copy a line and run it")),
          h("div.card-body.stack", h("label", "To channel ", address), box),
        ),
        h(
          "section.card",
          h("div.card-head", h("h2", "2. Watch it arrive")),
          h("div.card-body", h("p", "Open ", watch, " and leave it open. The message appears at once.")),
        ),
        h(
          "section.card",
          h("div.card-head", h("h2", "This server")),
          h(
            "div.card-body",
            facts([
              ["Bus", h("code", busUrl)],
              ["Telemetry", h("code", telemetryUrl)],
              ["REST", h("code", `${location.origin}${config.api_path}`)],
              ["JavaScript client", h("code", new URL("../../arqonbus.js", import.meta.url).href)],
              ["Version", `${config.version}, protocol ${config.protocol}`],
              [
                "Who may connect",
                config.anonymous
                  ? "Everybody: this is development mode."
                  : "Users who are logged in, and clients with an access token (replace YOUR_TOKEN in the lines).",
              ],
            ]),
          ),
        ),
      ]),
    ),
  ]);

  function draw() {
    const value = /^[\w\-./]+:[\w\-./]+$/.test(address.value.trim()) ? address.value.trim() : "science:explore";
    fill(box, snippets(value));
    watch.textContent = value;
    watch.href = `#/messages/${value}`;
  }

  draw();
  return { element };
}
