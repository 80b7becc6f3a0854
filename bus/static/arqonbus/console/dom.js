/**
 * Building the page. Everything from the bus goes through `textContent`, and the console has no `innerHTML`: hostile
 * text is shown and never run.
 */

/** @typedef {string | number | boolean | Node | null | undefined | readonly unknown[]} Child or a list of them */
/**
 * The element of a selector such as `button.primary`.
 * @template {string} S
 * @typedef {S extends `${infer Tag}.${string}` ? ElementOf<Tag> : S extends keyof HTMLElementTagNameMap
 *   ? HTMLElementTagNameMap[S] : HTMLElement} ElementOf
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element: `h("button.primary", { type: "button", onclick: send }, "Send")`.
 *
 * Properties: `on…` are listeners, `class` adds classes, `data` sets data attributes, true and false switch attributes,
 * and null is skipped. Children: nodes, texts, numbers and nested lists; null and false are skipped.
 * @template {string} S
 * @param {S} selector
 * @param {Record<string, any> | Child} [properties] or the first child
 * @param {Child[]} children
 * @returns {ElementOf<S>}
 */
export function h(selector, properties, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = /** @type {any} */ (document.createElement(tag || "div"));
  if (classes.length) element.className = classes.join(" ");
  if (properties) {
    const plain = typeof properties !== "object" || properties instanceof Node || Array.isArray(properties);
    if (plain) children.unshift(properties);
    else for (const [name, value] of Object.entries(properties)) set(element, name, value);
  }
  append(element, children);
  return element;
}

/**
 * @param {any} element
 * @param {string} name
 * @param {any} value
 */
function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "class") element.classList.add(...String(value).split(" ").filter(Boolean));
  else if (name === "data") Object.assign(element.dataset, value);
  else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (["value", "checked", "disabled", "hidden", "selected", "htmlFor", "readOnly"].includes(name))
    element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

/**
 * @param {Element} element
 * @param {readonly unknown[]} children
 */
function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }
}

/**
 * Replace an element's children.
 * @template {Element} E
 * @param {E} element
 * @param {Child[]} children
 * @returns {E}
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** @type {Record<string, string[]>} */
const ICONS = {
  overview: ["M3 13h6V3H3zM11 21h10V11H11zM3 21h6v-6H3zM11 3v6h10V3z"],
  messages: ["M4 5h16v11H9l-5 4z"],
  clients: [
    "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2 19c0-3 2.7-5 6-5s6 2 6 5",
    "M16 11a3 3 0 1 0 0-6M17 14c2.9.3 5 2.2 5 5",
  ],
  agents: ["M3 12h4l3-7 4 14 3-7h4"],
  telemetry: ["M5 12a7 7 0 0 1 14 0M8.5 12a3.5 3.5 0 0 1 7 0M12 12v8"],
  commands: ["M5 7l5 5-5 5M12 17h7"],
  decisions: ["M12 3l9 9-9 9-9-9zM8.5 12l2.5 2.5 4.5-5"],
  operations: ["M4 5h16v5H4zM4 14h16v5H4zM7.5 7.5h.01M7.5 16.5h.01"],
  contracts: ["M6 3h9l4 4v14H6zM14 3v5h5M9 13h7M9 17h5"],
  start: ["M5 12l14-8-4 16-4-6z"],
  search: ["M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5L20 20"],
  pause: ["M8 5v14M16 5v14"],
  stop: ["M6 6h12v12H6z"],
  play: ["M7 4l12 8-12 8z"],
  copy: ["M9 9h11v11H9zM15 9V4H4v11h5"],
  close: ["M6 6l12 12M18 6L6 18"],
  chevron: ["M9 6l6 6-6 6"],
  down: ["M6 9l6 6 6-6"],
  sun: [
    "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 3v1M12 20v1M3 12h1M20 12h1",
    "M5.6 5.6l.7.7M17.7 17.7l.7.7M5.6 18.4l.7-.7M17.7 6.3l.7-.7",
  ],
  moon: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z"],
  menu: ["M4 7h16M4 12h16M4 17h16"],
  send: ["M4 12l16-8-5 16-3.5-6.5z"],
  lock: ["M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3"],
  hash: ["M9 4L7 20M17 4l-2 16M4 9h16M3.5 15h16"],
  bolt: ["M13 3L5 14h6l-1 7 8-11h-6z"],
  external: ["M14 4h6v6M20 4l-9 9M18 14v6H4V6h6"],
  trash: ["M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13"],
  plus: ["M12 5v14M5 12h14"],
  check: ["M5 13l4 4L19 7"],
  queue: ["M4 6h10M4 12h10M4 18h6M17 13l4 3-4 3z"],
  keyboard: ["M3 6h18v12H3zM7 10h.01M11 10h.01M15 10h.01M8 14h8"],
};

/**
 * An icon of the set above.
 * @param {string} name
 * @param {string} [title]
 */
export function icon(name, title = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  if (title) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", title);
  } else svg.setAttribute("aria-hidden", "true");
  for (const path of ICONS[name] ?? []) {
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", path);
    svg.append(line);
  }
  return svg;
}

/**
 * A select box.
 * @param {Record<string, any>} properties
 * @param {readonly (readonly [value: string, label: string])[]} options
 * @param {string} [chosen]
 */
export function select(properties, options, chosen = "") {
  const element = h(
    "select",
    properties,
    options.map(([value, label]) => h("option", { value }, label)),
  );
  element.value = chosen;
  return element;
}

/**
 * A button that copies a text and says so.
 * @param {string | (() => string)} text
 * @param {string} [label]
 */
export function copyButton(text, label = "Copy") {
  const caption = h("span", label);
  const button = h("button.ghost.small.copy", { type: "button", title: label }, icon("copy"), caption);
  button.addEventListener("click", async () => {
    await copy(typeof text === "function" ? text() : text);
    caption.textContent = "Copied";
    button.classList.add("done");
    setTimeout(() => {
      caption.textContent = label;
      button.classList.remove("done");
    }, 1500);
  });
  return button;
}

/**
 * Copy a text. Pages over plain http have no clipboard interface, so a hidden field replaces it there.
 * @param {string} text
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea.offscreen", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/**
 * A short notice at the edge of the page.
 * @param {string} text
 * @param {"info" | "good" | "bad"} [kind]
 */
export function toast(text, kind = "info") {
  const holder = byId("toasts");
  const box = h("div.toast", { class: kind, role: kind === "bad" ? "alert" : "status" }, text);
  holder.append(box);
  setTimeout(() => box.classList.add("leaving"), kind === "bad" ? 7000 : 3500);
  box.addEventListener("transitionend", () => box.remove());
  box.addEventListener("click", () => box.remove());
}

/**
 * Ask before something that cannot be undone.
 * @param {string} title
 * @param {string} text
 * @param {string} action the label of the button
 * @returns {Promise<boolean>} whether to do it
 */
export function confirm(title, text, action) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog.ask",
      h("form", { method: "dialog" }, [
        h("h2", title),
        h("p", text),
        h("div.actions", h("button.ghost", { value: "no" }, "Cancel"), h("button.danger", { value: "yes" }, action)),
      ]),
    );
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * What stands where there is nothing yet: what it is, and what to do.
 * @param {string} name that of an icon
 * @param {string} title
 * @param {(string | Node | null)[]} text
 */
export function empty(name, title, ...text) {
  return h(
    "div.empty",
    h("div.empty-icon", icon(name)),
    h("h3", title),
    text.map((each) => (each instanceof Node ? each : h("p", each))),
  );
}

/**
 * An element of the page's template.
 * @param {string} id
 */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * Whether the keyboard belongs to a field.
 * @param {Event} event
 */
export function typing(event) {
  return (
    event.target instanceof Element &&
    event.target.closest("input, textarea, select, dialog, [contenteditable]") !== null
  );
}
