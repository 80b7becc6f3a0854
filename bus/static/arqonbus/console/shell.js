/** The frame of the page around the views: the bar, the navigation, the routes and the keys. */
import { account, showKeys, themeButton } from "./controls.js";
import { byId, fill, h, icon, typing } from "./dom.js";
import { count, rate, short } from "./format.js";
import { mark } from "./login.js";
import { config } from "./session.js";
import { ConnectionStatus } from "./status.js";
import { Tree } from "./tree.js";

/** @typedef {import("./session.js").App} App */
/** @typedef {import("./session.js").View} View */
/** @typedef {(app: App, rest: string, parameters: URLSearchParams) => View} MakeView */
/** @typedef {[name: string, title: string, make: MakeView]} ViewEntry */

export class Shell {
  /**
   * @param {HTMLElement} root
   * @param {App} app
   * @param {ViewEntry[]} views
   */
  constructor(root, app, views) {
    this.root = root;
    this.app = app;
    this.views = views;
    /** @type {View | null} */
    this.view = null;
    /** @type {Map<string, HTMLElement>} by the name of the view */
    this.links = new Map();
    for (const [name, title] of views) {
      this.links.set(name, h("a", { href: `#/${name}` }, icon(name), h("span", title), h("span.count")));
    }
    this.tree = new Tree(app);
    this.status = new ConnectionStatus(app.session);
    this.ticker = h("div.ticker", { "aria-label": "The bus in figures" });
    this.main = h("main", { id: "main", tabindex: "-1" });
    // On a phone the bar has no room for the account, so it is in the menu.
    const [inBar, inMenu] = [h("div.account"), h("div.side-foot")];
    this.#placeAccount(inBar, inMenu);
    fill(root, [
      this.#bar(inBar),
      this.#sidebar(inMenu),
      h("div.scrim", { onclick: () => this.#menu(false) }),
      this.main,
    ]);
    root.removeAttribute("aria-busy");
    app.rooms.rooms.watch(() => this.#figures());
    app.feed.point.watch(() => this.#figures());
    addEventListener("hashchange", () => this.#route());
    addEventListener("keydown", (event) => this.#key(event));
    this.#route();
  }

  /**
   * @param {HTMLElement} inBar
   * @param {HTMLElement} inMenu
   */
  #placeAccount(inBar, inMenu) {
    const narrow = matchMedia("(max-width: 760px)");
    const parts = account(this.app.session.bus);
    const place = () => {
      (narrow.matches ? inMenu : inBar).append(...parts);
      inMenu.hidden = !narrow.matches;
    };
    narrow.addEventListener("change", place);
    place();
  }

  /** @param {HTMLElement} accountPlace */
  #bar(accountPlace) {
    const menu = { type: "button", "aria-label": "Menu", onclick: () => this.#menu(true) };
    const keys = { type: "button", title: "Keys (?)", "aria-label": "Keys", onclick: showKeys };
    const version = h("small", `v${config.version}`);
    return h("header.topbar", [
      h("button.ghost.icon-only.only-narrow", menu, icon("menu")),
      h("a.brand", { href: "#/overview" }, h("img", { src: mark(), alt: "" }), "ArqonBus", version),
      this.status.pill,
      h("div.grow"),
      this.ticker,
      h("button.ghost.icon-only.wide", keys, icon("keyboard")),
      themeButton(),
      accountPlace,
    ]);
  }

  /** @param {HTMLElement} accountPlace */
  #sidebar(accountPlace) {
    return h("aside.sidebar", { "aria-label": "Navigation" }, [
      h("nav.nav", { "aria-label": "Views" }, [...this.links.values()]),
      this.tree.element,
      h(
        "div.side-foot",
        config.docs_path && h("a", { href: config.docs_path }, "Documentation"),
        h("a", { href: `${config.bus_path}api/docs/` }, "REST"),
      ),
      accountPlace,
    ]);
  }

  /** @param {boolean} open whether the menu of a phone is open */
  #menu(open) {
    this.root.classList.toggle("menu-open", open);
  }

  /** Show the figures of the bus in the bar and the navigation. */
  #figures() {
    const { feed, rooms } = this.app;
    const point = feed.point.value;
    const title = `${count(rooms.total)} messages were published to the channels that you see`;
    fill(
      this.ticker,
      point && h("span", h("b", count(point.connections)), " connections"),
      h("span", h("b", count(rooms.channels.size)), " channels"),
      h("span", { title }, h("b", short(rooms.total)), " messages"),
      h("span", h("b", rate(rooms.rate)), "/s"),
    );
    this.#setCount("telemetry", feed.events.total ? short(feed.events.total) : "");
    if (point) this.#setCount("clients", short(point.clients));
    this.#setCount("messages", rooms.unread ? short(rooms.unread) : "");
  }

  /**
   * @param {string} name that of a view
   * @param {string} text
   */
  #setCount(name, text) {
    const place = /** @type {HTMLElement | null | undefined} */ (this.links.get(name)?.lastChild);
    if (!place) return;
    place.textContent = text;
    if (name === "messages") place.title = text && `${text} new since you looked`;
  }

  /** Show the view that the address names. */
  #route() {
    const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
    const [name, ...rest] = decodeURIComponent(path).split("/");
    const found = this.views.find(([each]) => each === name);
    if (!found) {
      history.replaceState(null, "", "#/overview");
      this.#route();
      return;
    }
    this.view?.close?.();
    // A dialog about something that is no longer in sight would be answered for something else.
    for (const dialog of document.querySelectorAll("dialog")) if (dialog.open) dialog.close();
    for (const [each, link] of this.links) {
      if (each === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const [, title, make] = found;
    document.title = `${title} · ArqonBus`;
    this.view = this.app.view = make(this.app, rest.join("/"), new URLSearchParams(query));
    this.view.element.classList.add("view");
    fill(this.main, this.status.banner, this.view.element);
    this.tree.select(name === "messages" ? rest.join("/") : "");
    this.#menu(false);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "Escape") {
      this.#menu(false);
      if (typing(event)) /** @type {HTMLElement} */ (event.target).blur();
      else this.view?.key?.(event);
      return;
    }
    if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const number = Number(event.key);
    if (number >= 1 && number <= this.views.length) this.app.go(this.views[number - 1][0]);
    else if (event.key === "?") showKeys();
    else if (event.key === "t") byId("theme").click();
    else if (event.key === "f") {
      event.preventDefault();
      this.tree.filter.focus();
    } else this.view?.key?.(event);
  }
}
