/** The controls at the edge of the page: the theme, the account, and the list of keys. */
import { fill, h, icon } from "./dom.js";
import { Memory } from "./memory.js";
import { config, csrf, token } from "./session.js";

/** The button that switches between dark and light. */
export function themeButton() {
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
export function account(bus) {
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

/** Show what the keys do. */
export function showKeys() {
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
