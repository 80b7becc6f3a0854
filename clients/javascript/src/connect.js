/** `connect`: checks the options of an application, and makes a `Bus` of them. */

import { Bus } from "./bus.js";
import { frameFault } from "./frames.js";
import { Identity } from "./identity.js";
import { Backoff } from "./pacing.js";

/** @import { ConnectOptions, IdentityStore } from "../arqonbus.d.ts" */
/** @import { Frame } from "./frames.js" */
/** @import { Dial } from "./link.js" */

/**
 * The registration frame without its type. Throws ServerError for what no server accepts.
 * @param {ConnectOptions} options
 */
function registrationOf({ clientId, clientType = "app", room, channel, screenName, avatar, personality, card }) {
  /** @type {Frame} */
  const registration = {
    ...{ client_id: clientId, client_type: clientType, room, channel },
    ...{ screen_name: screenName, avatar, personality, card },
  };
  for (const key of Object.keys(registration)) {
    if (registration[key] === undefined || registration[key] === null) delete registration[key];
  }
  const fault = frameFault(JSON.stringify(registration));
  if (fault) throw fault;
  return registration;
}

/** @param {string | IdentityStore} identity */
const isIdentity = (identity) =>
  typeof identity === "string" ? identity : typeof identity.get === "function" && typeof identity.set === "function";

/**
 * Throws TypeError for options that are wrong, or that do not fit one another.
 * @param {ConnectOptions} options
 */
function checkCredentials({ ticket, identity = null, resumeToken = null, clientId }) {
  if (ticket && typeof ticket !== "function") {
    throw new TypeError("A ticket is valid for one connection. Give a function that fetches one: `ticket: () => …`.");
  }
  if (identity !== null && !isIdentity(identity)) {
    const store = "`identity: { get: () => …, set: (text) => … }`";
    throw new TypeError(`An identity is a name, or a store for one text: ${store}.`);
  }
  if (resumeToken !== null && (identity !== null || !clientId)) {
    throw new TypeError("A `resumeToken` needs the `clientId` that it proves. Do not combine it with `identity`.");
  }
}

/**
 * Connect to a bus. It resolves with a `Bus` that is registered.
 *
 * Throws ConnectionFailed when no server answers, ClosedByServer or ServerError when the server refuses.
 * @param {string | URL} [url]
 * @param {ConnectOptions} [options]
 */
export async function connect(url = "ws://localhost:8765/", options = {}) {
  const Implementation = options.WebSocket ?? globalThis.WebSocket;
  if (!Implementation) {
    throw new TypeError(
      "This runtime has no WebSocket of its own (node 20 needs --experimental-websocket). " +
        'Give one: connect(url, { WebSocket: (await import("ws")).WebSocket })',
    );
  }
  const registration = registrationOf(options);
  checkCredentials(options);
  const { token, ticket, onFrame, openTimeout = 10_000, identity = null, resumeToken = null } = options;
  /** @type {Dial} */
  const dial = { url: String(url), token, ticket, onFrame, openTimeout, WebSocket: Implementation };
  const settings = {
    resumeToken,
    reconnect: options.reconnect ?? true,
    giveUpAfter: options.giveUpAfter ?? null,
    wait: options.wait === undefined ? 0 : options.wait,
    timeout: options.timeout ?? 30_000,
    buffer: options.buffer ?? 1000,
    maxUnacked: options.maxUnacked ?? 1000,
    heartbeat: options.heartbeat ?? 25_000,
    backoff: options.backoff ?? new Backoff(),
    onState: options.onState,
  };
  const bus = new Bus(dial, registration, settings, identity === null ? null : new Identity(identity, openTimeout));
  dial.onUnreadable = (problem) => bus._emit("error", problem);
  return bus._open();
}
