/** The console's connections: the bus as an ordinary client, REST with the same identity, and the telemetry socket. */
import { Backoff, connect } from "../arqonbus.js";
import { byId } from "./dom.js";
import { FramesKept } from "./frames-kept.js";
import { Memory } from "./memory.js";
import { Meter, Observable } from "./store.js";

const TOKEN = "arqonbus.token";
/** Frames of each kind that the command console remembers. */
const FRAMES = 600;

/**
 * What every view gets: the connection, and what is known about the bus.
 * @typedef {object} App
 * @property {Record<string, any>} config
 * @property {typeof api} api
 * @property {Session} session
 * @property {import("./rooms.js").Rooms} rooms
 * @property {import("./feed.js").Feed} feed
 * @property {(path: string) => void} go
 * @property {View} [view] the present one
 */
/**
 * What a view gives to the page.
 * @typedef {object} View
 * @property {HTMLElement} element
 * @property {(event: KeyboardEvent) => void} [key] handles a key that no field has
 * @property {() => void} [close]
 */
/** @typedef {Record<string, any>} Frame */
/** @typedef {"in" | "out"} Direction */
/**
 * `own`: whether it is a request of the page itself, or an answer to one. `place`: how many came before it.
 * @typedef {{ direction: Direction, text: string, at: number, label: string, own: boolean, place: number }} FrameRecord
 */
/** @typedef {import("../arqonbus.js").State} State */

/**
 * What the server says about itself and the visitor, in a data block of the page.
 * @type {Record<string, any>}
 */
export const config = JSON.parse(byId("console-config").textContent ?? "");

const scheme = location.protocol === "https:" ? "wss" : "ws";
export const busUrl = `${scheme}://${location.host}${config.bus_path}`;
export const telemetryUrl = `${scheme}://${location.host}${config.telemetry_path}`;

/** The access token of this tab, if the visitor gave one. */
const tab = new Memory("sessionStorage");
export const token = {
  get: () => tab.get(TOKEN),
  set: (/** @type {string} */ value) => tab.set(TOKEN, value),
  forget: () => tab.forget(TOKEN),
};

/**
 * The CSRF token of this site, and the header that carries it. A cookie that the page may read is newer than the token
 * that came with the page, because a log-in in another tab changes it.
 */
export const csrf = {
  header: config.csrf.header,
  token: () => (config.csrf.cookie && cookie(config.csrf.cookie)) || config.csrf.token,
};

/** The server refused a REST call. `code` and `message` are those of the error table. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{ code?: string, message?: string, details?: unknown[] }} error
   */
  constructor(status, error) {
    super(error.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = error.code ?? "";
    this.details = error.details ?? [];
  }
}

/**
 * Call REST: `api("GET", "nodes")`. Throws ApiError.
 * @param {string} method
 * @param {string} path below the API's root
 * @param {unknown} [body]
 * @returns {Promise<any>} the JSON of the answer
 */
export async function api(method, path, body = undefined) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  else if (method !== "GET") headers[csrf.header] = csrf.token();
  let response;
  try {
    response = await fetch(`${config.api_path}${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, { message: "The server does not answer." });
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    // A proxy answered with an error page. The status says enough.
  }
  if (!response.ok) throw new ApiError(response.status, value?.error ?? {});
  return value;
}

/** @param {string} name */
function cookie(name) {
  const found = document.cookie.split("; ").find((each) => each.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

/**
 * A frame in a few words.
 * @param {Frame} frame
 */
function label(frame) {
  const what =
    frame.command ?? frame.eventType ?? (typeof frame.payload?.event === "string" ? frame.payload.event : "");
  const where = frame.room && frame.channel ? `${frame.room}:${frame.channel}` : "";
  return [frame.type ?? "register", what || where].filter(Boolean).join(" ");
}

/** The visitor's client on the bus. */
export class Session {
  constructor() {
    /** @type {import("../arqonbus.js").Bus} there is one as soon as `open` resolves, before any view */
    this.bus = /** @type {any} */ (null);
    /** @type {Observable<State>} */
    this.state = new Observable(/** @type {State} */ ("connecting"));
    this.frames = new FramesKept(FRAMES);
    this.framesIn = new Meter();
    this.framesOut = new Meter();
    /** Ids of the requests that the visitor made. All others are the page's own. */
    this.asked = new Set();
  }

  /**
   * Whether a frame is one of the page's own requests, or the answer to one.
   * @param {Direction} direction
   * @param {Frame} frame
   */
  #own(direction, frame) {
    if (direction === "out") return frame.type === "command" && !this.asked.has(frame.id);
    if (frame.type === "command_response") return !this.asked.has(frame.request_id);
    // The page subscribes to what clients do, which the view of the agents shows.
    return frame.room === config.system_room && frame.channel === "dashboard-events";
  }

  get admin() {
    return this.bus?.role === "admin";
  }

  /** Connect. Throws what the server says when it refuses. */
  async open() {
    const bytes = [...crypto.getRandomValues(new Uint8Array(4))];
    const id = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    this.bus = await connect(busUrl, {
      clientId: `console-${id}`,
      clientType: "dashboard",
      screenName: config.user || "Console",
      room: config.room,
      channel: config.channel,
      token: token.get(),
      wait: null,
      onState: (state) => this.state.set(state),
      onFrame: (direction, text, parsed) => {
        (direction === "in" ? this.framesIn : this.framesOut).add();
        const frame = parsed ?? JSON.parse(text);
        this.frames.push({ direction, text, at: Date.now(), label: label(frame), own: this.#own(direction, frame) });
      },
    });
    return this.bus;
  }

  close() {
    this.bus?.close();
  }
}

/** The telemetry socket. It reconnects, calls `listen` with each event, and never throws: `state` shows its state. */
export class TelemetrySocket {
  /** @param {(frame: Frame) => void} listen */
  constructor(listen) {
    this.listen = listen;
    /** @type {Observable<State>} */
    this.state = new Observable(/** @type {State} */ ("connecting"));
    this.reason = "";
    this.receiving = true;
    this.backoff = new Backoff();
    this.#open();
  }

  #open() {
    const secret = token.get();
    const socket = new WebSocket(telemetryUrl, secret ? ["arqonbus.v1", `bearer.${secret}`] : ["arqonbus.v1"]);
    socket.onmessage = (event) => {
      const frame = JSON.parse(event.data);
      if (frame.type === "telemetry_connected") {
        this.backoff.reset();
        this.receiving = frame.payload?.receiving !== false;
        this.state.set("connected");
      } else if (frame.type === "error") this.reason = frame.error?.message ?? "";
      else if (frame.type === "telemetry") this.listen(frame);
    };
    socket.onclose = (event) => {
      const final = [4401, 4403, 4008].includes(event.code);
      this.state.set(final ? "closed" : "reconnecting");
      if (!final) setTimeout(() => this.#open(), this.backoff.pause());
    };
  }
}
