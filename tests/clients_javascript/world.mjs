// Scenarios of the world that a client lives in: listeners that throw, functions that never return, pages in the
// background.
import { readFile, writeFile } from "node:fs/promises";
import { Backoff, ServerError, connect } from "../../clients/javascript/arqonbus.js";
import { dice } from "./crossing.mjs";
import { Line } from "./line.mjs";

const never = () => new Promise(() => {});

/** Time that passes only when it is told to, and then for all timers at once, as in a page in the background. */
class Clock {
  constructor() {
    this.real = { setTimeout, clearTimeout };
    this.time = performance.now();
    this.timers = new Map();
    let last = 0;
    performance.now = () => this.time;
    globalThis.setTimeout = (callback, time = 0, ...values) => {
      const id = (last += 1);
      this.timers.set(id, { due: this.time + time, callback: () => callback(...values) });
      return { id, unref() {} };
    };
    globalThis.setInterval = (callback, time) => {
      const again = () => this.timers.set(timer.id, { due: this.time + time, callback: () => (again(), callback()) });
      const timer = globalThis.setTimeout(() => {}, time);
      again();
      return timer;
    };
    globalThis.clearInterval = globalThis.clearTimeout = (timer) => this.timers.delete(timer?.id);
  }

  /** So much later: whatever was due meanwhile happens now. */
  pass(time) {
    this.time += time;
    for (const [id, { due, callback }] of [...this.timers].sort(([, one], [, two]) => one.due - two.due)) {
      if (due <= this.time && this.timers.delete(id)) callback();
    }
  }

  /** Wait for something real, while this time stands still. */
  async until(condition) {
    while (!(await condition())) await new Promise((resolve) => this.real.setTimeout(resolve, 5));
  }
}

export const world = ({ url, given, say, until }) => ({
  async listeners() {
    // Whatever the application's own functions do, the client goes on.
    const line = await Line.to(url);
    const thrown = [];
    const fault = (where) => {
      thrown.push(where);
      throw new Error(`a fault of the application: ${where}`);
    };
    const bus = await connect(line.url, {
      onState: (state) => fault(`onState ${state}`),
      onFrame: (direction) => fault(`onFrame ${direction}`),
      token: () => null,
    });
    bus.on("state", (state) => fault(`state ${state}`));
    bus.on("state", async (state) => fault(`async state ${state}`));
    bus.on("notice", () => fault("notice"));
    bus.on("error", () => fault("error"));
    const other = await connect(url);
    const heard = [];
    await bus
      .subscribe(given.address, (message) => {
        heard.push(message.text);
        fault(`message ${message.text}`);
      })
      .open();
    await other.join(given.address);
    await other.publish(given.address, "one");
    await bus.send({ version: "1.0", type: "no such type" });
    await until(() => thrown.includes("error"));
    line.cut();
    await until(() => bus.connections === 2 && bus.connected);
    await other.publish(given.address, "two");
    await until(() => heard.length === 2);
    bus.close();
    say("listeners", { heard, state: bus.state, thrown: [...new Set(thrown)] });
    other.close();
    line.end();
  },

  async functions() {
    // A function that never returns, that fails, and that works in the end.
    const line = await Line.to(url);
    const options = { openTimeout: 200, backoff: new Backoff({ first: 1, most: 5 }), wait: null };
    const answers = { tokens: [], tickets: [], identities: [] };
    const turns = (name, value) => () => {
      answers[name].push(1);
      const turn = answers[name].length % 3;
      if (turn === 1) return never();
      if (turn === 2) throw new Error("no luck");
      return value;
    };
    const late = await connect(line.url, { ...options, wait: 0, token: never }).catch((problem) => [
      problem.name,
      problem.message,
    ]);
    const bus = await connect(line.url, { ...options, token: turns("tokens", given.token) });
    line.cut();
    await until(() => bus.connections === 2 && bus.connected);
    const visitor = await connect(line.url, { ...options, ticket: turns("tickets", null) });
    const kept = await connect(line.url, { ...options, identity: { get: turns("identities", null), set: never } });
    say("functions", {
      late,
      role: bus.role,
      answers: Object.values(answers).map((each) => each.length),
      kept: kept.identityKept,
    });
    for (const each of [bus, visitor, kept]) each.close();
    line.end();
  },

  async background() {
    // A page whose timers run once a minute, over a quiet line and then over a dead one.
    const line = await Line.to(url);
    const clock = new Clock();
    const states = [];
    const frames = { in: 0, out: 0 };
    const bus = await connect(line.url, {
      onState: (state) => states.push(state),
      onFrame: (direction) => (frames[direction] += 1),
    });
    for (let minute = 0; minute < 10; minute += 1) {
      clock.pass(60_000);
      // Each second time the answer is there, and the next timer comes before it.
      if (minute % 2) clock.pass(60_000);
      const asked = frames.out;
      await clock.until(() => frames.in > asked);
    }
    say("quiet", { states: states.splice(0), connections: bus.connections });
    line.hush();
    let minutes = 0;
    while (bus.state === "connected" && minutes < 10) {
      clock.pass(60_000);
      await new Promise((resolve) => clock.real.setTimeout(resolve));
      minutes += 1;
    }
    say("dead", { states, minutes });
    process.exit(0);
  },

  async times() {
    // A time without a zone is UTC, wherever the page is.
    const bus = await connect(url);
    await bus.publish(given.address, "one");
    const [first] = (await bus.historyPage(given.address, { limit: 1 })).messages;
    const before = new Date(first.timestamp.getTime() - 1).toISOString();
    const bare = before.slice(0, -1);
    const shifted = `${new Date(first.timestamp.getTime() - 1 + 19_800_000).toISOString().slice(0, -1)}+05:30`;
    const texts = [
      before,
      bare,
      bare.replace("T", " "),
      `${bare}000`,
      `${bare.replace(".", ",")}z`,
      `${bare}+00`,
      shifted,
      shifted.replace("+05:30", "+0530"),
      before.slice(0, 10),
      new Date(before),
    ];
    const found = [];
    for (const after of texts)
      found.push((await bus.historyPage(given.address, { after })).messages.map((message) => message.text).join());
    for (const since of texts)
      found.push((await (await bus.subscribe(given.address, { since, echo: true }).open()).next()).value.text);
    const wrong = ["yesterday", "12:00", "2026-13-01", "Jan 1 2026", "1", ""];
    const refused = [];
    for (const after of wrong)
      refused.push(
        await bus.historyPage(given.address, { after }).then(
          () => "taken",
          (problem) => problem.name,
        ),
      );
    say("times", { zone: new Date(0).getHours(), found, refused });
    bus.close();
  },

  async unsendable() {
    let out = 0;
    const bus = await connect(url, { onFrame: (direction) => (out += direction === "out") });
    const { address } = given;
    const nested = (levels) => {
      let value = 1;
      for (let level = 0; level < levels; level += 1) value = { n: value };
      return value;
    };
    const pairs = { half: "\ud83d", "the other half": "\ude00!", "wrong way round": "\ude00\ud83d" };
    const attempts = {
      ...Object.fromEntries(Object.entries(pairs).map(([name, text]) => [name, () => bus.publish(address, text)])),
      "in the payload": () => bus.publish(address, { deep: [{ text: "cut \ud83d" }] }),
      "in a key": () => bus.publish(address, { "\ud83d": 1 }),
      "in the metadata": () => bus.publish(address, "x", { metadata: { a: "\udfff" } }),
      "in the id": () => bus.publish(address, "x", { id: "\ud800" }),
      "without an ack": () => bus.publish(address, "\ud83d", { ack: false }),
      "in a letter": () => bus.private("nobody", "\ud83d"),
      "in a command": () => bus.ping("\ud83d"),
      "in a frame": () => bus.send({ type: "event", message: "\ud83d" }),
      "in a frame of text": () => bus.send('{"type":"event","message":"\\ud83d"}'),
      "too deep": () => bus.publish(address, nested(32)),
      "far too deep": () => bus.publish(address, nested(100_000)),
      "too deep as text": () => bus.send(`${"[".repeat(33)}${"]".repeat(33)}`),
      "a number of 65 bits": () => bus.publish(address, { n: 2 ** 64 }),
      "a number below": () => bus.publish(address, { deep: [-(2 ** 63) - 2 ** 11] }),
      "a number as text": () => bus.send('{"type":"event","payload":{"n":1E+999}}'),
      "too large": () => bus.publish(address, "x".repeat(300_000)),
      "too large in bytes": () => bus.publish(address, "é".repeat(140_000)),
    };
    const before = out;
    const refusals = {};
    // More often than the server's patience with bad frames lasts.
    for (let round = 0; round < 6; round += 1) {
      for (const [name, attempt] of Object.entries(attempts))
        refusals[name] = await attempt().then(
          () => "sent",
          (problem) => `${problem instanceof ServerError} ${problem.code}`,
        );
    }
    const sent = out - before;
    const taken = [];
    const good = {
      whole: "😀",
      last: "\u{10ffff}",
      "no escape": "\\ud83d",
      "more of them": "\\\\\\ud83d",
      private: "\ue000\ud7ff",
    };
    const heard = await bus.subscribe(address, { echo: true }).open();
    for (const text of Object.values(good)) {
      await bus.publish(address, text);
      taken.push((await heard.next()).value.text === text);
    }
    await bus.publish(address, nested(31));
    taken.push(JSON.stringify((await heard.next()).value.payload) === JSON.stringify(nested(31)));
    const [room, channel] = address.split(":");
    await bus.send(`{"type":"event","room":"${room}","channel":"${channel}","echo":true,"message":"\\ud83d\\ude00"}`);
    taken.push((await heard.next()).value.text === "😀");
    const numbers = {
      most: 2 ** 63,
      least: -(2 ** 63) + 2 ** 11,
      large: 1e21,
      largest: Number.MAX_VALUE,
      text: "18446744073709552000 1e999",
    };
    await bus.publish(address, numbers);
    taken.push(JSON.stringify((await heard.next()).value.payload) === JSON.stringify(numbers));
    // Any text: what is well-formed is sent and the rest is not.
    const roll = dice(7);
    const letters = ["a", "\\", '"', "u", "d83d", "\ud83d", "\ude00", "😀", "\n"];
    let wrong = 0;
    for (let i = 0; i < 500; i += 1) {
      const text = Array.from({ length: roll(6) }, () => letters[roll(letters.length)]).join("");
      const went = await bus.publish(address, text, { ack: false }).then(
        () => true,
        () => false,
      );
      if (went !== text.isWellFormed()) wrong += 1;
    }
    await bus.ping();
    say("unsendable", { refusals, sent, taken, wrong, connections: bus.connections, state: bus.state });
    bus.close();
  },

  async no_line() {
    // What waits for a connection that does not come has an end, and leaves nothing behind.
    const line = await Line.to(url);
    const bus = await connect(line.url, { timeout: 100 });
    line.shut();
    await until(() => !bus.connected);
    const late = (problem) => problem.name;
    const waits = [
      bus.publish(given.address, "x"),
      bus.publish(given.address, "x", { ack: false }),
      bus.send({ type: "event" }),
      bus.ping(),
    ];
    const outcomes = await Promise.all(waits.map((each) => each.then(() => "went", late)));
    const open = bus.subscribe(given.address);
    const opening = open.open().then((closed) => closed.closed, late);
    await open.close();
    const opened = await opening;
    const whole = bus.subscribe(given.address);
    const reading = whole.next().catch(late);
    bus.close();
    say("no_line", { outcomes, opened, read: await reading, left: bus._line.waiters.size });
    line.end();
  },

  async worker() {
    // A worker that keeps who it is in a file, and its place beside it.
    const text = () =>
      readFile(given.file, "utf8").catch((problem) => (problem.code === "ENOENT" ? null : Promise.reject(problem)));
    const identity = { get: text, set: (value) => writeFile(given.file, value) };
    const bus = await connect(url, { clientId: given.clientId, identity: given.file ? identity : null });
    const jobs = await bus.inbox({ since: given.since ?? 0 }).open();
    say("ready", { clientId: bus.clientId, kept: bus.identityKept });
    for (let count = 0; count < given.jobs; count += 1) {
      const job = (await jobs.next()).value;
      say("job", { text: job.text, afterGap: job.afterGap, place: jobs.position, gaps: jobs.gaps });
    }
    if (given.stay) await never();
    bus.close();
  },

  async proof() {
    // The same without a store: the token is brought by hand. What does not fit is refused.
    const first = await connect(url, { clientId: given.clientId });
    const { resumeToken } = first;
    const second = await connect(url, { clientId: given.clientId, resumeToken });
    await until(() => first.failure);
    const refusal = async (options) =>
      connect(url, options).then(
        () => "in",
        (problem) => `${problem.name}: ${problem.message}`,
      );
    const store = (text) => ({ get: () => text, set: () => {} });
    say("proof", {
      over: first.failure.closeCode,
      same: second.resumeToken === resumeToken,
      refusals: [
        await refusal({ clientId: given.clientId }),
        await refusal({ resumeToken }),
        await refusal({ clientId: given.clientId, resumeToken, identity: "x" }),
        await refusal({ identity: {} }),
        await refusal({ identity: "" }),
        await refusal({ identity: store("{}") }),
        await refusal({ identity: store("nonsense") }),
        await refusal({
          clientId: "somebody",
          identity: store(JSON.stringify({ client_id: "else", resume_token: "x" })),
        }),
      ],
      made_up: (await connect(url, { identity: store(null) }).then((bus) => (bus.close(), bus.clientId))).slice(0, 3),
      // Node 20 has no storage for a name.
      memory: await connect(url, { identity: "name" }).then((bus) => (bus.close(), bus.identityKept)),
    });
    second.close();
  },
});
