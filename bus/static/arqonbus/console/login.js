/** What the visitor sees before there is a connection: the log-in card, and the page that waits. */
import { fill, h } from "./dom.js";
import { busUrl, config } from "./session.js";

/** The address of the mark. */
export const mark = () => new URL("./icon.svg", import.meta.url).href;
/** How long the page says no more than that it connects, in milliseconds. */
const PATIENCE = 4000;

/**
 * Ask the visitor to log in to the site, or to give an access token.
 * @param {HTMLElement} root
 * @param {string} reason why the server refused the last attempt, or ""
 * @param {(token: string) => void} ontoken
 */
export function askForCredentials(root, reason, ontoken) {
  root.removeAttribute("aria-busy");
  const secret = h("input", {
    type: "password",
    name: "token",
    placeholder: "arq_tok_…",
    autocomplete: "off",
    required: true,
  });
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    ontoken(secret.value.trim());
  };
  const form = h("form", { onsubmit }, [
    h("label", "Access token", secret),
    h("button.primary", { type: "submit" }, "Open the console"),
    h("p.fault", { role: "alert" }, reason),
  ]);
  const command = h("code", "manage.py create_token");
  const card = h("div.door-card", [
    h("img", { src: mark(), alt: "", width: 44, height: 44 }),
    h("h1", "ArqonBus"),
    h("p.dim", "This bus needs to know who you are. Log in with a user of this site, or give an access token."),
    h("a.button", { href: `${config.login_path}?next=${encodeURIComponent(location.pathname)}` }, "Log in"),
    h("div.or", "or"),
    form,
    h("p.faint", "An admin creates tokens in the admin page or with ", command, ". The token stays in this tab only."),
  ]);
  fill(root, h("main.door", { id: "main" }, card));
  secret.focus();
}

/**
 * Show that the page connects, and after a while what may be wrong. Returns a function that ends the waiting.
 * @param {HTMLElement} root
 */
export function showConnecting(root) {
  const caption = h("p", "Connecting …");
  fill(root, h("div.loading", h("img", { src: mark(), alt: "", width: 44, height: 44 }), caption));
  const timer = setTimeout(() => caption.replaceWith(...advice()), PATIENCE);
  return () => clearTimeout(timer);
}

/** What may be wrong when no socket opens. The page goes on trying. */
function advice() {
  const status = h("p", { role: "status" }, "No answer yet from ", h("code", busUrl), ". The page goes on trying.");
  if (!config.debug) return [status];
  const hint = h(
    "p.dim",
    "Is the site served by an ASGI server (",
    h("code", "runbus"),
    ", daphne, uvicorn), and does its ",
    h("code", "asgi.py"),
    " have the bus under this path? The server's log and ",
    h("code", "manage.py check"),
    " tell you more.",
  );
  return [status, hint];
}
