/** The console: connects as the visitor, or asks for credentials, and shows the views. */
import { ClosedByServer, ServerError } from "../arqonbus.js";
import { byId } from "./dom.js";
import { Feed } from "./feed.js";
import { askForCredentials, showConnecting } from "./login.js";
import { Rooms } from "./rooms.js";
import { Session, api, config, token } from "./session.js";
import { Shell } from "./shell.js";
import { agents } from "./views/agents.js";
import { clients } from "./views/clients.js";
import { commands } from "./views/commands.js";
import { contracts } from "./views/contracts.js";
import { decisions } from "./views/decisions.js";
import { messages } from "./views/messages.js";
import { operations } from "./views/operations.js";
import { overview } from "./views/overview.js";
import { start } from "./views/start.js";
import { telemetry } from "./views/telemetry.js";

/** @type {import("./shell.js").ViewEntry[]} */
const VIEWS = [
  ["overview", "Overview", overview],
  ["messages", "Messages", messages],
  ["clients", "Clients", clients],
  ["agents", "Agents", agents],
  ["decisions", "Decisions", decisions],
  ["telemetry", "Telemetry", telemetry],
  ["commands", "Commands", commands],
  ["operations", "Operations", operations],
  ["contracts", "Contracts", contracts],
  ["start", "Connect", start],
];
const root = byId("app");

const go = (/** @type {string} */ path) => void (location.hash = `#/${path}`);
const app = /** @type {import("./session.js").App} */ ({ config, api, session: new Session(), go });

// In the developer tools `arqonbus.session.bus` is the client of this page.
Object.assign(globalThis, { arqonbus: app });

/** Connect as the visitor. If the server refuses, ask for other credentials. */
async function enter() {
  const stopWaiting = showConnecting(root);
  app.session = new Session();
  try {
    await app.session.open();
  } catch (problem) {
    token.forget();
    const error = problem instanceof ClosedByServer ? problem.error : problem;
    ask(error instanceof ServerError ? error.reason : /** @type {Error} */ (problem).message);
    return;
  } finally {
    stopWaiting();
  }
  app.rooms = new Rooms(app.session);
  app.feed = new Feed(app.session);
  app.feed.open();
  new Shell(root, app, VIEWS);
}

/** @param {string} [reason] why the server refused the last attempt */
function ask(reason = "") {
  app.session.close();
  askForCredentials(root, reason, (value) => {
    token.set(value);
    enter();
  });
}

if (config.open || token.get()) enter();
else ask();
