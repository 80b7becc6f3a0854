/** The console's connections: the bus as an ordinary client, REST with the same identity, and the telemetry socket. */
import { Backoff, BusClosed, connect } from "../arqonbus.js";
import { Memory } from "./memory.js";
import { Meter, Observable, Ring } from "./store.js";

const TOKEN = "arqonbus.token";
/** Frames that the command console remembers. */
const FRAMES = 600;

/** What the server told of itself and of the visitor, in a data block of the page. */
export const config = JSON.parse(document.getElementById("console-config").textContent);

const scheme = location.protocol === "https:" ? "wss" : "ws";
export const busUrl = `${scheme}://${location.host}${config.bus_path}`;
export const telemetryUrl = `${scheme}://${location.host}${config.telemetry_path}`;

/** The access token of this tab, if the visitor gave one. */
const tab = new Memory("sessionStorage");
export const token = {
  get: () => tab.get(TOKEN),
  set: (value) => tab.set(TOKEN, value),
  forget: () => tab.forget(TOKEN),
};

/**
 * The CSRF token of this site, and the header that carries it. A cookie that the page may read is newer than what came with the page,
 * since a log-in in another tab changes it.
 */
export const csrf = {
  header: config.csrf.header,
  token: () => (config.csrf.cookie && cookie(config.csrf.cookie)) || config.csrf.token,
};

/** A REST call that was refused: `code` and `message` are those of the error table. */
export class ApiError extends Error {
  constructor(status, error) {
    super(error.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = error.code ?? "";
    this.details = error.details ?? [];
  }
}

/** Call REST: `api("GET", "nodes")`; the answer's JSON. Throws ApiError. */
export async function api(method, path, body = undefined) {
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
    // An error page of something in between; the status says enough.
  }
  if (!response.ok) throw new ApiError(response.status, value?.error ?? {});
  return value;
}

function cookie(name) {
  const found = document.cookie.split("; ").find((each) => each.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

/** A frame in a few words. */
function label(frame) {
  const what =
    frame.command ?? frame.eventType ?? (typeof frame.payload?.event === "string" ? frame.payload.event : "");
  const where = frame.room && frame.channel ? `${frame.room}:${frame.channel}` : "";
  return [frame.type ?? "register", what || where].filter(Boolean).join(" ");
}

/** The visitor's client on the bus. */
export class Session {
  constructor() {
    this.bus = null;
    /** `connecting`, `connected`, `reconnecting`, `closed`. */
    this.state = new Observable("connecting");
    this.frames = new Ring(FRAMES);
    this.framesIn = new Meter();
    this.framesOut = new Meter();
    /** Ids of what the visitor asked; other questions are the page's own. */
    this.asked = new Set();
  }

  /** Whether a frame is one of the page's own questions, or the answer to one. */
  #own(direction, frame) {
    if (direction === "out") return frame.type === "command" && !this.asked.has(frame.id);
    if (frame.type === "command_response") return !this.asked.has(frame.request_id);
    // The page listens to what clients do; that is in the view of the agents.
    return frame.room === config.system_room && frame.channel === "dashboard-events";
  }

  get admin() {
    return this.bus?.role === "admin";
  }

  /** Connect; throws what the server says when it refuses. */
  async open() {
    const id = Array.from(crypto.getRandomValues(new Uint8Array(4)), (byte) => byte.toString(16).padStart(2, "0")).join(
      "",
    );
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

/** The telemetry socket: kept open, told to `listen`. Throws nothing; `state` says how it stands. */
export class TelemetrySocket {
  constructor(listen) {
    this.listen = listen;
    this.state = new Observable("connecting");
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

export { BusClosed };
