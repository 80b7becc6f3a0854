/** Small pieces that several views show. */
import { Observable } from "./store.js";
import { copyButton, fill, h, icon } from "./dom.js";
import { hue, initials } from "./format.js";
import { busUrl, config } from "./session.js";

const KINDS = ["event", "private", "system", "telemetry", "error", "ai-agent", "human", "dashboard", "service"];

/**
 * @typedef {object} DetailPane
 * @property {HTMLElement} element
 * @property {(title: Child, ...content: Child[]) => void} show
 * @property {() => void} close
 */
/** @typedef {import("./dom.js").Child} Child */

/**
 * A type of message or client as a coloured word.
 * @param {string} type
 */
export function badge(type) {
  return h("span.badge", { class: KINDS.includes(type) ? type : "", title: type }, type);
}

/**
 * @param {HTMLElement} element a badge
 * @param {string} type
 */
export function setBadge(element, type) {
  element.className = `badge ${KINDS.includes(type) ? type : ""}`;
  element.textContent = element.title = type;
}

/**
 * A round badge for a client. Avatars are not loaded, because their addresses come from strangers.
 * @param {string} id
 * @param {boolean} [big]
 * @param {string} [name]
 */
export function face(id, big = false, name = id) {
  return h(`span.face.hue-${hue(id)}`, { class: big ? "big" : "", "aria-hidden": "true" }, initials(name));
}

/**
 * @param {HTMLElement} element a round badge
 * @param {string} id
 * @param {string} [name]
 */
export function setFace(element, id, name = id) {
  element.className = `face hue-${hue(id)}`;
  element.textContent = initials(name);
  element.setAttribute("aria-hidden", "true"); // The name stands beside it.
}

/**
 * Rows of a name and a value. Rows without a value are left out.
 * @param {[name: string, value: Child][]} rows
 */
export function facts(rows) {
  return h(
    "dl.facts",
    rows
      .filter((row) => ![null, undefined, false, ""].includes(/** @type {any} */ (row[1])))
      .map(([name, value]) => [h("dt", name), h("dd", value)]),
  );
}

/**
 * The pane at the side that shows more about one thing.
 * @param {() => void} [onclose]
 * @returns {DetailPane}
 */
export function detailPane(onclose) {
  const head = h("div.grow.who");
  const body = h("div.detail-body");
  const element = h("section.detail", { hidden: true, "aria-label": "Detail" }, [
    h(
      "div.detail-head",
      head,
      h(
        "button.ghost.icon-only",
        { type: "button", "aria-label": "Close", onclick: () => pane.close() },
        icon("close"),
      ),
    ),
    body,
  ]);
  /** @type {DetailPane} */
  const pane = {
    element,
    show(title, ...content) {
      fill(head, title);
      fill(body, content);
      element.hidden = false;
      body.scrollTop = 0;
    },
    close() {
      if (element.hidden) return;
      element.hidden = true;
      onclose?.();
    },
  };
  return pane;
}

/**
 * Lines that send a first message to `address` on this server, in each language.
 * @param {string} address
 */
export function lines(address) {
  const [room, channel] = address.split(":");
  const module = new URL("../arqonbus.js", import.meta.url).href;
  const shell = (/** @type {string} */ text) => `'${text.replaceAll("'", "'\\''")}'`;
  const secret = config.anonymous ? "" : "YOUR_TOKEN";
  const python = config.python ?? "python3";
  return [
    {
      name: "curl",
      text: [
        `curl -X POST ${shell(`${location.origin}${config.api_path}channels/${address}/messages`)} \\`,
        ...(secret ? [`  -H ${shell(`Authorization: Bearer ${secret}`)} \\`] : []),
        `  -H ${shell("Content-Type: application/json")} \\`,
        `  -d ${shell('{"message": "Hello from curl"}')}`,
      ].join("\n"),
      note: "In a terminal. The answer contains the message's id and seq.",
    },
    {
      name: "Python",
      text: [
        `${python} - <<'END'`,
        "from arqonbus import sync",
        `with sync.connect("${busUrl}"${secret ? `, token="${secret}"` : ""}) as bus:`,
        `    bus.publish("${address}", "Hello from Python")`,
        "END",
      ].join("\n"),
      note: config.python
        ? "In a terminal. It uses this server's own Python and client. On another machine: pip install ./clients/python"
        : "In a terminal with the client. To install it in the folder of ArqonBus: pip install ./clients/python",
    },
    {
      name: "JavaScript",
      text: [
        `const { connect } = await import("${module}");`,
        `const bus = await connect("${busUrl}"${secret ? `, { token: "${secret}" }` : ""});`,
        `await bus.publish("${address}", "Hello from JavaScript");`,
      ].join("\n"),
      note: "In the developer tools (F12) of this page, or in a module script of your own page.",
    },
    {
      name: "wscat",
      text: [
        `npx wscat -c ${shell(busUrl)}${secret ? ` -H ${shell(`Authorization: Bearer ${secret}`)}` : ""} \\`,
        `  -x ${shell(`{"room": "${room}", "channel": "${channel}", "message": "Hello from a raw socket"}`)}`,
      ].join("\n"),
      note: "The plain protocol: each frame is one JSON object.",
    },
  ];
}

/**
 * The lines as a box with tabs and a button that copies.
 * @param {string} address
 */
export function snippets(address) {
  const all = lines(address);
  const shown = new Observable(all[0]);
  const code = h("pre.snippet", { tabindex: "0" });
  const note = h("div.snippet-note");
  const tabs = all.map((each) =>
    h(
      "button",
      { type: "button", role: "tab", onclick: () => shown.set(each), data: { language: each.name } },
      each.name,
    ),
  );
  shown.watch((now) => {
    code.textContent = now.text;
    note.textContent = now.note;
    tabs.forEach((tab, index) => tab.setAttribute("aria-selected", String(all[index] === now)));
  });
  return h(
    "div.snippets",
    h(
      "div.tabs",
      { role: "tablist" },
      tabs,
      copyButton(() => shown.value.text),
    ),
    code,
    note,
  );
}
