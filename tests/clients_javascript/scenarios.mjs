// What the tests let node do: `node scenarios.mjs NAME URL [JSON]`. Each line on standard output is one JSON event.
import { createInterface } from "node:readline";
import {
  Backoff,
  BusClosed,
  CLOSE_CODES,
  ClosedByServer,
  ConnectionFailed,
  ServerError,
  comesBack,
  connect,
} from "../../clients/javascript/arqonbus.js";
import { crossing, dice } from "./crossing.mjs";
import { Line } from "./line.mjs";
import { rooms } from "./rooms.mjs";
import { snapshots } from "./snapshots.mjs";
import { streams } from "./streams.mjs";
import { teamwork } from "./teamwork.mjs";
import { world } from "./world.mjs";

const [name, url, text] = process.argv.slice(2);
const given = JSON.parse(text ?? "{}");
const say = (event, values = {}) => process.stdout.write(`${JSON.stringify({ event, ...values })}\n`);
const short = (message) => ({ seq: message.seq, text: message.text, sender: message.sender });

/** So many messages; `end`: and close it. */
async function take(subscription, count, end = true) {
  const taken = [];
  while (taken.length < count) taken.push((await subscription.next()).value);
  if (end) await subscription.close();
  return taken;
}

async function until(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

const scenarios = {
  async tables() {
    const rows = Object.entries(CLOSE_CODES).map(([code, kind]) => [Number(code), kind.meaning, kind.reconnect]);
    say("tables", { rows, broken: [1000, 1001, 1006, 1011].every(comesBack), policy: comesBack(1008) });
  },

  async exchange() {
    const alice = await connect(url, { clientId: given.alice, screenName: "Alice" });
    const bob = await connect(url, { clientId: given.bob, clientType: "ai-agent" });
    const heard = alice.subscribe(given.address, { presence: true });
    await heard.open();
    const called = [];
    const byCallback = bob.subscribe(given.address, (message) => called.push(message.text));
    await byCallback.open();
    const notice = (await heard.next()).value;
    const receipt = await bob.publish(given.address, "hello", { metadata: { tag: 1 } });
    const payload = await bob.publish(given.address, { temperature: 21.5 });
    const [first, second] = await take(heard, 2);
    await alice.publish(given.address, "hi Bob");
    const inbox = await bob.inbox({ since: 0 }).open();
    await alice.private(given.bob, "psst");
    const secret = (await inbox.next()).value;
    const refusal = await alice.private("nobody-here", "?").catch((problem) => problem);
    await bob.ping(); // What was sent to Bob before has come before the pong.
    say("exchange", {
      notice: [notice.event, notice.payload.client_id],
      receipt,
      payload,
      first: { ...short(first), id: first.id, metadata: first.metadata, time: first.timestamp instanceof Date },
      second: second.payload,
      called,
      secret: [secret.text, secret.private],
      refusal: [refusal instanceof ServerError, refusal.code, refusal.details],
      repeat: await bob.publish(given.address, "hello again", { id: receipt.id }),
    });
    alice.close();
    bob.close();
  },

  async commands() {
    const bus = await connect(url, { token: given.token, room: given.address });
    const address = `${given.address.split(":")[0]}:made-here`;
    await bus.createChannel(address, { description: "for a test" });
    for (let i = 1; i <= 1203; i += 1) bus.publish(address, `m${i}`, { ack: i % 2 === 0 });
    await bus.publish(address, "the last");
    const all = [];
    for await (const message of bus.history(address)) all.push(message.text);
    const room = address.split(":")[0];
    const whole = [];
    for await (const message of bus.history(room)) whole.push(message.text);
    const page = await bus.historyPage(address, { limit: 2 });
    const newest = await bus.historyPage(room, { limit: 2 });
    const older = await bus.historyPage(room, { limit: 1, before: newest.next });
    const pong = await bus.ping({ n: 1 });
    const clients = [];
    for await (const client of bus.clients()) clients.push(client.client_id);
    const command = bus.command;
    bus.command = (name, parameters, options) => command.call(bus, name, { ...parameters, limit: 1 }, options);
    const rows = await bus.listChannels(room);
    bus.command = command;
    say("commands", {
      role: bus.role,
      address: bus.address,
      history: [all.length, all[0], all.at(-1), new Set(all).size],
      room: [whole.join() === all.join(), [...older.messages, ...newest.messages].map((each) => each.text)],
      page: [page.messages.map(short).map((each) => each.text), page.next],
      help: (await bus.help()).map((each) => each.command),
      pong: [pong.pong, pong.echo],
      rows: rows.map((each) => each.channel),
      head: (await bus.channelInfo(address)).seq,
      version: (await bus.status()).server.protocol,
      there: clients.includes(bus.clientId),
      unknown: await bus.command("fly").catch((problem) => problem.code),
    });
    await bus.deleteChannel(address);
    bus.close();
    say("closed", { error: await bus.ping().catch((problem) => problem instanceof BusClosed) });
  },

  async reader() {
    const bus = await connect(url, { clientId: given.clientId, onState: (state) => say("state", { state }) });
    const subscription = await bus.subscribe(given.address, { since: 0, buffer: given.buffer ?? 1000 }).open();
    say("ready");
    const seqs = [];
    for await (const message of subscription) {
      seqs.push(message.seq);
      if (seqs.length === given.tell) say("underway");
      if (message.text === "end") break;
    }
    say("read", { seqs, gaps: subscription.gaps, connections: bus.connections });
    bus.close();
  },

  async writer() {
    const bus = await connect(url, { clientId: given.clientId });
    const texts = Array.from({ length: given.count }, (_, i) => `m${i + 1}`);
    say("ready");
    const receipts = await Promise.all(texts.map((each) => bus.publish(given.address, each)));
    await bus.publish(given.address, "end");
    say("written", { seqs: receipts.map((each) => each.seq), connections: bus.connections });
    bus.close();
  },

  async refusals() {
    const first = await connect(url, { clientId: given.clientId });
    const second = await connect(url, { clientId: given.clientId }).catch((problem) => problem);
    const wrong = await connect(url, { token: "arq_tok_wrong" }).catch((problem) => problem);
    const nobody = await connect(given.nobody).catch((problem) => problem);
    const page = await connect("not a url").catch((problem) => problem);
    const name = await first.publish("a room:x", "?").catch((problem) => problem);
    const id = await connect(url, { clientId: "my id" }).catch((problem) => problem);
    say("refusals", {
      id: id.message,
      second: [second instanceof ClosedByServer, second.closeCode, second.error?.code],
      wrong: [wrong instanceof ClosedByServer, wrong.closeCode, wrong.error?.code],
      nobody: nobody instanceof ConnectionFailed,
      page: page instanceof ConnectionFailed,
      name: [name.code, name.number, name.retry],
    });
    first.close();
  },

  async stays_away() {
    const bus = await connect(url, { clientId: given.clientId, token: given.token });
    const subscription = await bus.subscribe(given.address).open();
    say("ready");
    const error = await subscription.next().catch((problem) => problem);
    say("ended", { closeCode: error.closeCode, code: error.error?.code, state: bus.state });
  },

  async own_socket() {
    const { WebSocket } = globalThis;
    delete globalThis.WebSocket;
    const without = await connect(url).catch((problem) => problem.message);
    let used = 0;
    class Counted extends WebSocket {
      constructor(...all) {
        super(...all);
        used += 1;
      }
    }
    const bus = await connect(url, { WebSocket: Counted });
    say("own_socket", { without, used, pong: (await bus.ping()).pong });
    bus.close();
  },

  async dead_line() {
    // The server is frozen: its sockets stay open and nothing answers.
    const bus = await connect(url, {
      clientId: given.clientId,
      heartbeat: 1000,
      onState: (state) => say("state", { state }),
    });
    for (let number = 1; number <= 6; number += 1)
      await (await bus.subscribe(`${number}-${given.address}`).open()).close();
    const subscription = await bus.subscribe(given.address).open();
    say("ready");
    const message = (await subscription.next()).value;
    say("heard", { text: message.text, connections: bus.connections });
    bus.close();
  },

  async line() {
    // A line for others, such as a browser: what to do with it comes by standard input.
    const roll = dice(given.seed ?? 1);
    const line = await Line.to(url, () => roll((given.delay ?? 0) + 1));
    const commands = createInterface({ input: process.stdin });
    say("line", { url: line.url });
    for await (const command of commands) {
      line[command]();
      say(command);
    }
    line.end();
  },

  async made_anew() {
    // A member goes away, its channel is deleted meanwhile, and it comes back to another one of that name.
    const line = await Line.to(url);
    const [bus, other] = [
      await connect(line.url, { clientId: given.clientId }),
      await connect(url, { token: given.token }),
    ];
    const { address } = given;
    const room = address.split(":")[0];
    const [early, late] = [await bus.subscribe(address).open(), await bus.subscribe(address, { since: 0 }).open()];
    const whole = await bus.subscribe(room).open();
    for (let i = 1; i <= 5; i += 1) await other.publish(address, `old ${i}`);
    await other.publish(room, "old, to all");
    const heard = [];
    for (const each of [early, late]) heard.push((await take(each, 6, false)).map((message) => message.text));
    await take(whole, 1, false);
    const before = early.position;
    line.shut();
    await until(async () => !(await other.channelInfo(address)).participant_count);
    await other.deleteChannel(address);
    line.mend();
    bus.reconnectNow();
    await until(() =>
      other.channelInfo(address).then(
        (info) => info.participant_count,
        () => false,
      ),
    );
    for (let i = 1; i <= 3; i += 1) await other.publish(address, `new ${i}`);
    await other.publish(room, "new, to all");
    const after = [];
    for (const each of [early, late]) {
      const messages = await take(each, 4, false);
      after.push({
        texts: messages.map((message) => message.text),
        gaps: messages.map((message) => message.afterGap),
        told: each.gaps,
      });
    }
    const { epoch } = await other.channelInfo(address);
    say("made_anew", {
      heard,
      after,
      same: before.epoch === early.position.epoch,
      right: early.position.epoch === epoch,
      whole: (await take(whole, 1, false))[0].text,
    });
    bus.close();
    other.close();
    line.end();
  },

  async ended() {
    // A subscription that ended does not come back with the next connection.
    const line = await Line.to(url);
    const [bus, other] = [await connect(line.url), await connect(url)];
    const { address } = given;
    const subscription = await bus.subscribe(address).open();
    say("ready", { clientId: bus.clientId });
    const error = await subscription.next().catch((problem) => problem);
    const again = await subscription.next().catch((problem) => problem);
    say("over", { code: error.code, same: again === error });
    await new Promise((resolve) =>
      createInterface({ input: process.stdin }).once("line", resolve).once("close", resolve),
    );
    line.cut();
    await until(() => bus.connections === 2 && bus.connected);
    // What the next connection had to join is joined before it answers this.
    await bus.ping();
    const info = await other.channelInfo(address).catch((problem) => problem.code);
    say("after", { there: info.participants?.map((row) => row.client_id) ?? info });
    bus.close();
    other.close();
    line.end();
    process.stdin.destroy();
  },

  async inbox_places() {
    const bus = await connect(url, { clientId: given.clientId, token: given.token });
    const other = await connect(url);
    const first = await bus.inbox().open();
    for (let i = 1; i <= 3; i += 1) await other.private(given.clientId, `${i}`);
    await take(first, 3, false);
    const { seq, epoch } = first.position;
    bus.close();
    const back = await connect(url, { clientId: given.clientId, token: given.token });
    const places = {
      own: { seq, epoch },
      before: { seq: 1, epoch },
      chosen: { seq: 1 },
      old: { seq: 9, epoch: "old" },
      unknown: { seq: 2, epoch: "" },
      beyond: { seq: 9, epoch },
      none: { seq: 0, epoch: "old" },
    };
    const open = Object.entries(places).map(([name, since]) => [name, back.inbox({ since })]);
    for (const [, inbox] of open) await inbox.open();
    await other.private(given.clientId, "4");
    const told = {};
    for (const [name, inbox] of open) {
      const heard = [];
      for await (const message of inbox) {
        heard.push(`${message.text}${message.afterGap ? " after a gap" : ""}`);
        if (message.text === "4") break;
      }
      told[name] = [heard, inbox.gaps];
    }
    say("places", { position: [seq, epoch !== ""], told });
    back.close();
    other.close();
  },

  async rebuilt() {
    // The server comes back with logs of which nobody knows whether they are those of before.
    const bus = await connect(url, { clientId: given.clientId, token: given.token, room: given.address });
    const room = given.address.split(":")[0];
    const readers = { channel: bus.subscribe(given.address), whole: bus.subscribe(room), inbox: bus.inbox() };
    for (const each of Object.values(readers)) await each.open();
    const before = {};
    say("ready");
    for (const [name, each] of Object.entries(readers)) {
      await each.next();
      before[name] = each.position.epoch;
    }
    say("heard");
    const told = {};
    for (const [name, each] of Object.entries(readers)) {
      const heard = [];
      while (heard.at(-1)?.[0] !== "new") {
        const { text, afterGap, address } = (await each.next()).value;
        if (address === each.address) heard.push([text, afterGap]);
      }
      told[name] = { heard, epoch: each.position.epoch !== before[name] };
    }
    say("told", { told, connections: bus.connections });
    bus.close();
  },

  async crossing() {
    for (const seed of given.seeds) {
      const roll = dice(seed);
      const line = await Line.to(url, () => roll(15));
      const other = await connect(url);
      const bus = await connect(line.url, { backoff: new Backoff({ first: 5, most: 20 }) });
      const { steps, room } = given;
      const faults = await crossing({ bus, other, room, seed, steps, cut: () => line.cut() });
      say("crossed", { seed, faults, connections: bus.connections });
      bus.close();
      other.close();
      line.end();
    }
    say("all");
  },
};

/** What the test says to the scenario, line by line. */
const listen = () => createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const parts = { url, given, say, until, listen };
const all = {};
for (const some of [scenarios, world(parts), streams(parts), teamwork(parts), rooms(parts), snapshots(parts)])
  for (const [each, run] of Object.entries(some)) {
    if (each in all) throw new Error(`Two scenarios have the name ${each}.`);
    all[each] = run.bind(some);
  }
await all[name]();
