/** What the bus tells of itself: telemetry events, the servers' figures over the last minutes, and who did what. */
import { Observable, Ring } from "./store.js";
import { config, TelemetrySocket } from "./session.js";

const STREAM = `${config.system_room}:telemetry-stream`;
const ACTIVITY = `${config.system_room}:dashboard-events`;
/** Minutes of figures that are kept and shown. */
export const WINDOW = 10 * 60;
/** A process that said nothing for so long (seconds) is not part of the sums any more. */
const SILENT = 15;

export class Feed {
  constructor(session) {
    this.session = session;
    this.events = new Ring(2000);
    this.event = new Observable(null);
    /** {t, connections, clients, in, out, p50, p99, errors}, oldest first, one for each moment at which a server told. */
    this.points = [];
    this.point = new Observable(null);
    /** node id → its last figures, with `at` in seconds. */
    this.nodes = new Map();
    this.activities = new Ring(5000);
    this.activity = new Observable(null);
    /** Why there is no telemetry or activity for this visitor, or "". */
    this.refused = new Observable("");
  }

  /** Begin: what was told in the last minutes first, then what comes. */
  async open() {
    const { bus } = this.session;
    this.socket = new TelemetrySocket((frame) => this.#take(frame));
    const since = new Date(Date.now() - WINDOW * 1000);
    try {
      for await (const message of bus.history(STREAM, { since, type: "telemetry" })) this.#take(message.raw, true);
      this.point.changed();
      this.event.changed();
    } catch (problem) {
      this.refused.set(problem.reason ?? problem.message);
    }
    const heard = bus.subscribe(ACTIVITY, { since, buffer: 5000 });
    try {
      await heard.open();
      for await (const message of heard) this.#did(message);
    } catch (problem) {
      this.refused.set(problem.reason ?? problem.message);
    }
  }

  #take(frame, past = false) {
    const at = Date.parse(frame.timestamp) / 1000;
    if (frame.seq !== undefined) {
      // The socket may bring first what the history brings too.
      if (this.seen?.has(frame.seq)) return;
      (this.seen ??= new Set()).add(frame.seq);
      if (this.seen.size > 20_000) this.seen = new Set([...this.seen].slice(-5000));
    }
    if (frame.eventType === "server_stats") this.#figures(frame.payload ?? {}, at, past);
    else {
      this.events.push(frame);
      if (!past) this.event.set(frame);
    }
  }

  #did(message) {
    const { payload } = message;
    const at = message.timestamp?.getTime() ?? Date.now();
    this.activities.push({ ...payload, at });
    this.activity.set(this.activities.items.at(-1));
  }

  #figures(stats, at, past) {
    const before = this.nodes.get(stats.node);
    const figures = { ...read(stats, before, at), stats, at };
    this.nodes.set(stats.node, figures);
    const sum = { t: at, connections: 0, clients: 0, in: 0, out: 0, p50: null, p99: null, errors: 0 };
    for (const [id, node] of this.nodes) {
      if (at - node.at > SILENT) this.nodes.delete(id);
      else {
        sum.connections += node.connections;
        for (const name of ["clients", "in", "out", "errors"]) sum[name] += node[name] ?? 0;
        // Quantiles of several processes cannot be added; the worst one is what a client may meet.
        for (const name of ["p50", "p99"]) if (node[name] !== null) sum[name] = Math.max(sum[name] ?? 0, node[name]);
      }
    }
    const last = this.points.at(-1);
    if (last && at < last.t) {
      if (past)
        this.points.splice(
          this.points.findIndex((each) => each.t > at),
          0,
          sum,
        );
      return;
    }
    // Several processes tell at nearly the same moment: one point.
    if (last && at - last.t < 0.8) this.points[this.points.length - 1] = { ...sum, t: last.t };
    else this.points.push(sum);
    while (this.points.length && this.points[0].t < at - WINDOW) this.points.shift();
    if (!past) this.point.set(sum);
  }
}

/** A process's figures as the charts show them; rates come from the difference to what it told before. */
function read(stats, before, at) {
  const figures = stats.process ?? {};
  const passed = before ? at - before.at : 0;
  const rate = (name) => {
    const now = figures[name];
    const then = before?.stats.process?.[name];
    if (!Number.isFinite(now) || !Number.isFinite(then) || passed <= 0 || now < then) return 0;
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
