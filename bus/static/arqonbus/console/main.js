/** The console: the log-in card, the frame of the page, its routes, and the connection that all views share. */
import { ClosedByServer, ServerError } from "../arqonbus.js";
import { byId, fill, h, icon, toast, typing } from "./dom.js";
import { Feed } from "./feed.js";
import { count, explain, rate, short } from "./format.js";
import { Memory } from "./memory.js";
import { Rooms } from "./rooms.js";
import { Session, api, busUrl, config, csrf, token } from "./session.js";
import { Tree } from "./tree.js";
import { agents } from "./views/agents.js";
import { clients } from "./views/clients.js";
import { commands } from "./views/commands.js";
import { contracts } from "./views/contracts.js";
import { messages } from "./views/messages.js";
import { operations } from "./views/operations.js";
import { overview } from "./views/overview.js";
import { start } from "./views/start.js";
import { telemetry } from "./views/telemetry.js";

/** @typedef {import("./session.js").App} App */
/** @typedef {import("./session.js").View} View */
/** @typedef {(app: App, rest: string, parameters: URLSearchParams) => View} MakeView */

/** @type {[name: string, title: string, make: MakeView][]} */
const VIEWS = [
  ["overview", "Overview", overview],
  ["messages", "Messages", messages],
  ["clients", "Clients", clients],
  ["agents", "Agents", agents],
  ["telemetry", "Telemetry", telemetry],
  ["commands", "Commands", commands],
  ["operations", "Operations", operations],
  ["contracts", "Contracts", contracts],
  ["start", "Connect", start],
];
/** Errors for which the page shows a banner. */
const PASSING = new Set(["RESTARTING", "TOO_SLOW", "UNAVAILABLE"]);
const root = byId("app");

const app = /** @type {App} */ ({ config, api, session: new Session(), go });

// In the developer tools `arqonbus.session.bus` is the client of this page.
Object.assign(globalThis, { arqonbus: app });

/** @param {string} path that of a view */
function go(path) {
  location.hash = `#/${path}`;
}

// --- logging in ---

/**
 * Ask the visitor to log in to the site, or to give an access token.
 * @param {string} [reason] why the server refused the last attempt
 */
function askForCredentials(reason = "") {
  app.session.close();
  root.removeAttribute("aria-busy");
  const secret = h("input", {
    type: "password",
    name: "token",
    placeholder: "arq_tok_…",
    autocomplete: "off",
    required: true,
  });
  const fault = h("p.fault", { role: "alert" }, reason);
  const form = h("form", [
    h("label", "Access token", secret),
    h("button.primary", { type: "submit" }, "Open the console"),
    fault,
  ]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(secret.value.trim());
    enter();
  });
  fill(
    root,
    h("main.door", { id: "main" }, [
      h("div.door-card", [
        h("img", { src: mark(), alt: "", width: 44, height: 44 }),
        h("h1", "ArqonBus"),
        h("p.dim", "This bus needs to know who you are. Log in with a user of this site, or give an access token."),
        h("a.button", { href: `${config.login_path}?next=${encodeURIComponent(location.pathname)}` }, "Log in"),
        h("div.or", "or"),
        form,
        h(
          "p.faint",
          "An admin creates tokens in the admin page or with ",
          h("code", "manage.py create_token"),
          ". The token stays in this tab only.",
        ),
      ]),
    ]),
  );
  secret.focus();
}

const mark = () => new URL("./icon.svg", import.meta.url).href;

/** Connect as the visitor. If the server refuses, ask for other credentials. */
async function enter() {
  const caption = h("p", "Connecting …");
  const loading = h("div.loading", h("img", { src: mark(), alt: "", width: 44, height: 44 }), caption);
  fill(root, loading);
  app.session = new Session();
  const patience = setTimeout(() => caption.replaceWith(...waiting().filter(Boolean)), 4000);
  try {
    await app.session.open();
  } catch (problem) {
    token.forget();
    const error = problem instanceof ClosedByServer ? problem.error : problem;
    askForCredentials(error instanceof ServerError ? error.reason : /** @type {Error} */ (problem).message);
    return;
  } finally {
    clearTimeout(patience);
  }
  page();
}

/** What may be wrong when no socket opens. The page goes on trying. */
function waiting() {
  return [
    h("p", { role: "status" }, "No answer yet from ", h("code", busUrl), ". The page goes on trying."),
    config.debug &&
      h(
        "p.dim",
        "Is the site served by an ASGI server (",
        h("code", "runbus"),
        ", daphne, uvicorn), and does its ",
        h("code", "asgi.py"),
        " have the bus under this path? The server's log and ",
        h("code", "manage.py check"),
        " tell you more.",
      ),
  ];
}

// --- the page ---

function page() {
  const { session } = app;
  const { bus } = session;
  app.rooms = new Rooms(session);
  app.feed = new Feed(session);
  app.feed.open();

  /** @type {Map<string, HTMLElement>} */
  const links = new Map();
  const nav = h("nav.nav", { "aria-label": "Views" });
  for (const [name, title] of VIEWS) {
    const link = h("a", { href: `#/${name}` }, icon(name), h("span", title), h("span.count"));
    links.set(name, link);
    nav.append(link);
  }
  const tree = new Tree(app);
  const state = h("button.pill", { type: "button", id: "connection", onclick: () => bus.reconnectNow() });
  const ticker = h("div.ticker", { "aria-label": "The bus in figures" });
  const main = h("main", { id: "main", tabindex: "-1" });
  const banner = h("div.banner", { role: "status", hidden: true });
  // On a phone the bar has no room for the account, so it is in the menu.
  const [atTop, inMenu] = [h("div.account"), h("div.side-foot")];
  const narrow = matchMedia("(max-width: 760px)");
  const mine = account(bus);
  const place = () => {
    (narrow.matches ? inMenu : atTop).append(...mine);
    inMenu.hidden = !narrow.matches;
  };
  narrow.addEventListener("change", place);
  place();
  const menu = (/** @type {boolean} */ open) => root.classList.toggle("menu-open", open);
  fill(root, [
    h("header.topbar", [
      h(
        "button.ghost.icon-only.only-narrow",
        { type: "button", "aria-label": "Menu", onclick: () => menu(true) },
        icon("menu"),
      ),
      h(
        "a.brand",
        { href: "#/overview" },
        h("img", { src: mark(), alt: "" }),
        "ArqonBus",
        h("small", `v${config.version}`),
      ),
      state,
      h("div.grow"),
      ticker,
      h(
        "button.ghost.icon-only.wide",
        { type: "button", title: "Keys (?)", "aria-label": "Keys", onclick: keys },
        icon("keyboard"),
      ),
      theme(),
      atTop,
    ]),
    h(
      "aside.sidebar",
      { "aria-label": "Navigation" },
      nav,
      tree.element,
      h(
        "div.side-foot",
        config.docs_path && h("a", { href: config.docs_path }, "Documentation"),
        h("a", { href: `${config.bus_path}api/docs/` }, "REST"),
      ),
      inMenu,
    ),
    h("div.scrim", { onclick: () => menu(false) }),
    main,
  ]);
  root.removeAttribute("aria-busy");

  session.state.watch((now) => {
    const words = {
      connecting: "Connecting",
      connected: "Connected",
      reconnecting: "Reconnecting",
      closed: "Disconnected",
    };
    state.className = `pill ${now}`;
    fill(state, h("span.dot"), h("span", words[now]));
    state.title = now === "reconnecting" ? "Click to try at once" : `${bus.clientId}, ${bus.role}`;
    banner.hidden = now === "connected" || now === "connecting";
    banner.classList.toggle("bad", now === "closed");
    if (now === "reconnecting") {
      const again = h("button.small", { type: "button", onclick: () => bus.reconnectNow() }, "Try now");
      fill(
        banner,
        "The server does not answer. The page reconnects by itself and catches up on what it missed.",
        again,
      );
    } else if (now === "closed") {
      const { failure } = bus;
      const problem = (failure instanceof ClosedByServer && failure.error) || failure;
      const again = h("button.small", { type: "button", onclick: () => location.reload() }, "Connect again");
      fill(banner, `The server ended this connection: ${problem ? explain(problem) : ""}`, again);
    }
  });
  bus.on("error", (problem) => {
    // A restart and a break have the banner, which stays until they are over.
    if (!(problem instanceof ServerError && PASSING.has(problem.code))) toast(explain(problem), "bad");
  });

  const setCount = (/** @type {string} */ name, /** @type {string} */ text) => {
    const badge = links.get(name)?.lastChild;
    if (badge) badge.textContent = text;
  };
  const figures = () => {
    const point = app.feed.point.value;
    fill(
      ticker,
      point && h("span", h("b", count(point.connections)), " connections"),
      h("span", h("b", count(app.rooms.channels.size)), " channels"),
      h(
        "span",
        { title: `${count(app.rooms.total)} messages were published to the channels that you see` },
        h("b", short(app.rooms.total)),
        " messages",
      ),
      h("span", h("b", rate(app.rooms.rate)), "/s"),
    );
    setCount("telemetry", app.feed.events.total ? short(app.feed.events.total) : "");
    if (point) setCount("clients", short(point.clients));
  };
  app.rooms.rooms.watch(figures);
  app.feed.point.watch(figures);

  /** @type {View | null} */
  let view = null;
  /** @returns {void} */
  const route = () => {
    const [name, ...rest] = decodeURIComponent(location.hash.replace(/^#\/?/, "").split("?")[0]).split("/");
    const found = VIEWS.find(([each]) => each === name);
    if (!found) {
      history.replaceState(null, "", "#/overview");
      return route();
    }
    view?.close?.();
    // A dialog about something that is no longer in sight would be answered for something else.
    for (const dialog of document.querySelectorAll("dialog")) if (dialog.open) dialog.close();
    for (const [each, link] of links) {
      if (each === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${found[1]} · ArqonBus`;
    view = found[2](app, rest.join("/"), new URLSearchParams(location.hash.split("?")[1] ?? ""));
    app.view = view;
    view.element.classList.add("view");
    fill(main, banner, view.element);
    tree.select(name === "messages" ? rest.join("/") : "");
    menu(false);
  };
  addEventListener("hashchange", route);
  route();

  addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      menu(false);
      if (typing(event)) /** @type {HTMLElement} */ (event.target).blur();
      else view?.key?.(event);
      return;
    }
    if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const number = Number(event.key);
    if (number >= 1 && number <= VIEWS.length) go(VIEWS[number - 1][0]);
    else if (event.key === "?") keys();
    else if (event.key === "t") byId("theme").click();
    else if (event.key === "f") {
      event.preventDefault();
      tree.filter.focus();
    } else view?.key?.(event);
  });
}

function theme() {
  const button = h("button.ghost.icon-only", { type: "button", id: "theme", "aria-label": "Dark or light" });
  const show = () => {
    const dark = document.documentElement.dataset.theme === "dark";
    fill(button, icon(dark ? "sun" : "moon"));
    button.title = dark ? "Light (t)" : "Dark (t)";
  };
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = now;
    new Memory("localStorage").set("arqonbus.theme", now);
    dispatchEvent(new Event("themechange"));
    show();
  });
  show();
  return button;
}

/**
 * Who the visitor is here, and the way out or in.
 * @param {import("../arqonbus.js").Bus} bus
 * @returns {HTMLElement[]}
 */
function account(bus) {
  const name = config.user ?? (token.get() ? "token" : "guest");
  const who = h("span.pill", { title: bus.clientId }, `${name} · ${bus.role}`);
  if (token.get()) {
    const leave = () => {
      token.forget();
      location.reload();
    };
    return [who, h("button.ghost.small", { type: "button", onclick: leave }, "Forget token")];
  }
  if (config.user) {
    return [
      who,
      ...(config.admin_path ? [h("a", { href: config.admin_path }, "Admin")] : []),
      h("form", { method: "post", action: config.logout_path }, [
        h("input", { type: "hidden", name: "csrfmiddlewaretoken", value: csrf.token() }),
        h("button.ghost.small", { type: "submit" }, "Log out"),
      ]),
    ];
  }
  return [who, h("a", { href: `${config.login_path}?next=${encodeURIComponent(location.pathname)}` }, "Log in")];
}

function keys() {
  if (document.querySelector("dialog[open]")) return;
  const rows = [
    ["1 – 9", "Go to a view"],
    ["f", "Find a room or channel"],
    ["/", "Filter what is shown"],
    ["j k ↑ ↓", "Walk through a list"],
    ["p", "Pause or resume, in messages"],
    ["c", "Write a message"],
    ["Ctrl Enter", "Publish"],
    ["Esc", "Close the detail"],
    ["t", "Dark or light"],
  ];
  const dialog = h("dialog", { "aria-label": "Keys" }, [
    h("h2", "Keys"),
    h(
      "div.keys",
      rows.map(([key, what]) => [
        h(
          "span",
          key.split(" ").map((each) => [h("kbd", each), " "]),
        ),
        h("span", what),
      ]),
    ),
    h("form", { method: "dialog" }, h("div.actions", h("button", { autofocus: true }, "Close"))),
  ]);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

if (config.open || token.get()) enter();
else askForCredentials();
