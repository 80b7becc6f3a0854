/** What the bus publishes about itself: telemetry events, the figures of the last minutes, and what clients did. */
import { explain } from "./format.js";
import { Observable, Ring } from "./store.js";
import { config, TelemetrySocket } from "./session.js";

/** @typedef {import("./session.js").Frame} Frame */
/**
 * The figures of all processes at one moment.
 * @typedef {{ t: number, connections: number, clients: number, in: number, out: number, errors: number,
 *   p50: number | null, p99: number | null }} Point `t` in seconds
 */
/** @typedef {Omit<Point, "t"> & { stats: Frame, at: number }} NodeFigures of one process; `at` in seconds */
/**
 * What a client did.
 * @typedef {{ at: number, client_id: string, client_type: string, screen_name: string | null, activity: string,
 *   room: string, channel: string }} Activity `at` in milliseconds
 */

const STREAM = `${config.system_room}:telemetry-stream`;
const ACTIVITY = `${config.system_room}:dashboard-events`;
/** Seconds of figures that are kept and shown. */
export const WINDOW = 10 * 60;
/** A process that was silent for so many seconds is not part of the sums any more. */
const SILENT = 15;
const SUMMED = /** @type {const} */ (["clients", "in", "out", "errors"]);
const QUANTILES = /** @type {const} */ (["p50", "p99"]);

export class Feed {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    /** @type {Ring<Frame>} */
    this.events = new Ring(2000);
    this.event = new Observable(/** @type {Frame | null} */ (null));
    /** @type {Point[]} oldest first */
    this.points = [];
    this.point = new Observable(/** @type {Point | null} */ (null));
    /** @type {Map<string, NodeFigures>} */
    this.nodes = new Map();
    /** @type {Ring<Activity>} */
    this.activities = new Ring(5000);
    this.activity = new Observable(/** @type {Activity | undefined} */ (undefined));
    /** Why there is no telemetry or activity for this visitor, or "". */
    this.refused = new Observable("");
    /** @type {Set<number>} seqs of the events that the socket or the history brought */
    this.seen = new Set();
    this.socket = new TelemetrySocket((frame) => this.#take(frame));
  }

  /** Load the last minutes, and follow what comes. */
  async open() {
    const { bus } = this.session;
    const since = new Date(Date.now() - WINDOW * 1000);
    try {
      for await (const message of bus.history(STREAM, { since, type: "telemetry" })) this.#take(message.raw, true);
      this.point.changed();
      this.event.changed();
    } catch (problem) {
      this.refused.set(explain(problem));
    }
    const activities = bus.subscribe(ACTIVITY, { since, buffer: 5000 });
    try {
      await activities.open();
      for await (const message of activities) this.#did(message);
    } catch (problem) {
      this.refused.set(explain(problem));
    }
  }

  /**
   * @param {Frame} frame
   * @param {boolean} [past] whether it is from the history
   */
  #take(frame, past = false) {
    const at = Date.parse(frame.timestamp) / 1000;
    if (frame.seq !== undefined) {
      // The socket may bring an event first, and the history brings it again.
      if (this.seen.has(frame.seq)) return;
      this.seen.add(frame.seq);
      if (this.seen.size > 20_000) this.seen = new Set([...this.seen].slice(-5000));
    }
    if (frame.eventType === "server_stats") this.#figures(frame.payload ?? {}, at, past);
    else {
      this.events.push(frame);
      if (!past) this.event.set(frame);
    }
  }

  /** @param {import("../arqonbus.js").Message} message */
  #did(message) {
    const payload = /** @type {any} */ (message.payload);
    const at = message.timestamp?.getTime() ?? Date.now();
    this.activities.push({ ...payload, at });
    this.activity.set(this.activities.items.at(-1));
  }

  /**
   * @param {Frame} stats
   * @param {number} at seconds
   * @param {boolean} past
   */
  #figures(stats, at, past) {
    const before = this.nodes.get(stats.node);
    const figures = { ...read(stats, before, at), stats, at };
    this.nodes.set(stats.node, figures);
    /** @type {Point} */
    const sum = { t: at, connections: 0, clients: 0, in: 0, out: 0, p50: null, p99: null, errors: 0 };
    for (const [id, node] of this.nodes) {
      if (at - node.at > SILENT) this.nodes.delete(id);
      else {
        sum.connections += node.connections;
        for (const name of SUMMED) sum[name] += node[name] ?? 0;
        // Quantiles of several processes cannot be added. A client may meet the worst one.
        for (const name of QUANTILES) sum[name] = worst(sum[name], node[name]);
      }
    }
    const last = this.points.at(-1);
    if (last && at < last.t) {
      const behind = this.points.findIndex((each) => each.t > at);
      if (past) this.points.splice(behind, 0, sum);
      return;
    }
    // Several processes publish at nearly the same moment. That is one point.
    if (last && at - last.t < 0.8) this.points[this.points.length - 1] = { ...sum, t: last.t };
    else this.points.push(sum);
    while (this.points.length && this.points[0].t < at - WINDOW) this.points.shift();
    if (!past) this.point.set(sum);
  }
}

/**
 * @param {number | null} one
 * @param {number | null} other
 */
const worst = (one, other) => (other === null ? one : Math.max(one ?? 0, other));

/**
 * A process's figures as the charts show them. Rates come from the difference to its figures before.
 * @param {Frame} stats
 * @param {NodeFigures | undefined} before
 * @param {number} at seconds
 */
function read(stats, before, at) {
  const figures = stats.process ?? {};
  const passed = before ? at - before.at : 0;
  const rate = (/** @type {string} */ name) => {
    const now = figures[name];
    const then = before?.stats.process?.[name];
    if (!Number.isFinite(now) || !Number.isFinite(then) || !before || passed <= 0 || now < then) return 0;
    return (now - then) / passed;
  };
  return {
    connections: figures.connections ?? 0,
    clients: figures.clients ?? 0,
    in: stats.messages_per_second ?? 0,
    out: rate("delivered"),
    errors: rate("errors"),
    p50: figures.publish_p50_ms ?? null,
    p99: figures.publish_p99_ms ?? null,
  };
}
