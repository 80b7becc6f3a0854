/** Live pages without htmx (docs/live-pages.md): shows the fragments of the elements that `{% bus_live %}` marks. */

const PLACES = { beforeend: "append", afterbegin: "prepend", innerHTML: "replaceChildren" };

/**
 * Put a fragment into the page. An element with `hx-swap-oob` takes the place of the one with its id, or deletes it.
 * @param {Element} list
 * @param {string} html
 */
function show(list, html) {
  const made = document.createElement("template");
  made.innerHTML = html;
  for (const part of [...made.content.children]) {
    const order = part.getAttribute("hx-swap-oob");
    part.removeAttribute("hx-swap-oob");
    const there = part.id && document.getElementById(part.id);
    if (order === "delete") {
      if (there) there.remove();
      part.remove();
    } else if (there) there.replaceWith(part);
  }
  if (made.content.childElementCount || made.content.textContent?.trim()) {
    list[PLACES[list.getAttribute("hx-swap") ?? "beforeend"]](made.content);
  }
}

/**
 * Load the page again, but only once a minute for the same position: a page from a cache would go on doing so.
 * @param {Element} list
 * @param {string} url
 */
function reload(list, url) {
  const key = "arqonbus.live.reloaded";
  const [before, time] = JSON.parse(sessionStorage.getItem(key) ?? "[]");
  if (before === url && Date.now() - time < 60_000) return tell(list, "stale");
  sessionStorage.setItem(key, JSON.stringify([url, Date.now()]));
  location.reload();
}

/**
 * @param {Element} list
 * @param {string} state `live`, `waiting`, `stale` or `closed`; also the detail of the event `bus:state`
 */
function tell(list, state) {
  list.setAttribute("data-bus-state", state);
  list.dispatchEvent(new CustomEvent("bus:state", { bubbles: true, detail: { state } }));
}

/** @param {Element} list */
function follow(list) {
  const url = list.getAttribute("data-bus-live") ?? "";
  const source = new EventSource(url);
  source.onopen = () => tell(list, "live");
  source.onerror = () => tell(list, source.readyState === EventSource.CLOSED ? "closed" : "waiting");
  source.onmessage = ({ data }) => {
    if (!list.isConnected) return source.close();
    show(list, data);
    list.dispatchEvent(new CustomEvent("bus:message", { bubbles: true, detail: { html: data } }));
  };
  source.addEventListener("reload", () => {
    source.close();
    reload(list, url);
  });
  source.addEventListener("failed", ({ data }) => console.error("A message could not be shown:", data));
}

/**
 * htmx 2 opens a stream that ended with an error status anew, at the address in the page. So that address moves along.
 * @param {Event} event of its extension, with the message
 */
function move({ target, detail }) {
  const name = "data-sse-connect";
  if (!target.hasAttribute("data-bus-live") || !detail.lastEventId) return;
  const [address] = target.getAttribute(name).split("?at=");
  target.setAttribute(name, `${address}?at=${detail.lastEventId}`);
}

document.addEventListener("htmx:sseMessage", move);

let started = false;

/** With htmx on the page, htmx shows the fragments, and only the position is kept here. */
function start() {
  if (started) return;
  started = true;
  if (!("htmx" in window)) document.querySelectorAll("[data-bus-live]").forEach(follow);
}

// Every script that the page waits for is there by then.
if (document.readyState === "complete") start();
for (const event of ["DOMContentLoaded", "load"]) addEventListener(event, start);
