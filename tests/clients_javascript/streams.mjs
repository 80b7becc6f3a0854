// Scenarios of messages that grow: owners and readers at real servers, over lines that break.
import { Backoff, StreamReset, connect } from "../../clients/javascript/arqonbus.js";
import { Line } from "./line.mjs";

const backoff = () => new Backoff({ first: 20, most: 100 });
const words = (count) => Array.from({ length: count }, (_, index) => `w${index} `);

/** Whether each text is a beginning of the whole one. */
const growsTo = (texts, whole) =>
  texts.every((text, index) => whole.startsWith(text) && (!index || text.length >= texts[index - 1].length));

/** All texts that a message had, until its end. */
async function follow(bus, message) {
  const texts = [];
  let pieces = "";
  const state = await bus.streamText(message, (text, delta) => {
    texts.push(text);
    pieces += delta;
  });
  return {
    state,
    text: message.text,
    grew: growsTo(texts, message.text),
    pieces: pieces === message.text,
    late: message.late,
  };
}

export const streams = ({ url, given, say, until, listen }) => ({
  async answer() {
    // An old member, one that joins in the middle, one without parts, and the history.
    const [owner, reader] = [await connect(url, { clientId: given.clientId }), await connect(url)];
    const { address } = given;
    const old = await reader.subscribe(address).open();
    const quiet = await (await connect(url)).subscribe(address, { parts: false }).open();
    const out = await owner.stream(address, { run: given.run, payload: { role: "assistant" } });
    const message = (await old.next()).value;
    const following = follow(reader, message);
    for (const word of words(50)) await out.write(word);
    await out.flush();
    const half = out.have;
    const joiner = await connect(url);
    const late = await joiner.subscribe(address).open();
    const joined = (await late.next()).value;
    const lateText = joined.text;
    const lateFollowing = follow(joiner, joined);
    const [kept] = (await joiner.historyPage(address)).messages;
    const open = [kept.id, kept.state, kept.text.length > 0, kept.payload];
    for (const word of words(50)) await out.write(word);
    const end = await out.end("complete", { usage: { out: 100 } });
    const silent = (await quiet.next()).value;
    await silent.ended;
    const whole = words(50).join("").repeat(2);
    const history = [];
    for await (const each of joiner.history(address))
      history.push([each.id, each.text === whole, each.state, each.endPayload]);
    const raw = (await joiner.historyPage(address, { fold: false })).messages.map((each) => each.raw.type);
    await owner.publish(address, "behind it");
    say("answer", {
      of: out.of,
      whole: message.text === whole,
      read: await following,
      rolled: half < 50,
      late: [whole.startsWith(lateText) && lateText.length > 0, joined.id, joined.sender, await lateFollowing],
      open,
      grown: kept.text === whole,
      end: [end.state, end.seq, end.duplicate],
      silent: [silent.text === whole, silent.state],
      history,
      raw,
      next: [(await old.next()).value.text, (await late.next()).value.text, (await quiet.next()).value.text],
      payload: message.payload,
    });
    process.exit(0);
  },

  async parts() {
    const [owner, reader] = [await connect(url), await connect(url)];
    const inbox = await reader.inbox().open();
    const out = await owner.stream(`pm:${reader.clientId}`, { mode: "parts" });
    async function* run() {
      for (let n = 1; n <= 20; n += 1) yield { type: "TOKEN", n };
    }
    const message = (await inbox.next()).value;
    await out.pipe(run());
    await out.end();
    const heard = [];
    for await (const part of message.deltas()) heard.push(part.n);
    const other = await owner.stream(given.address, { mode: "parts" });
    await other.end("aborted");
    say("parts", { heard, have: message.have, private: message.private, mode: message.mode, state: other.state });
    process.exit(0);
  },

  async breaks() {
    // Owner and reader behind lines that are cut again and again.
    const { address, cuts } = given;
    const lines = [await Line.to(url), await Line.to(url)];
    const [owner, reader] = await Promise.all(
      lines.map((line, index) => connect(line.url, { clientId: `${given.clientId}-${index}`, backoff: backoff() })),
    );
    const subscription = await reader.subscribe(address).open();
    const out = await owner.stream(address);
    const message = (await subscription.next()).value;
    const following = follow(reader, message);
    const over = { yes: false };
    const writing = (async () => {
      let text = "";
      for (let n = 0; !over.yes; n += 1) {
        await out.write(`w${n} `);
        text += `w${n} `;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await out.end();
      return text;
    })();
    for (let cut = 0; cut < cuts; cut += 1) {
      const { have } = out;
      await until(() => out.have > have && owner.connected && reader.connected);
      lines[cut % 2].cut();
      if (cut % 3 === 2) lines[(cut + 1) % 2].cut();
    }
    const { have } = out;
    await until(() => out.have > have);
    over.yes = true;
    const text = await writing;
    const read = await following;
    say("broken", { read, equal: read.text === text, connections: [owner.connections, reader.connections] });
    process.exit(0);
  },

  async restarted() {
    // The server goes away in the middle, and comes back.
    const { address } = given;
    const [owner, reader] = [
      await connect(url, { clientId: `${given.clientId}-owner`, backoff: backoff() }),
      await connect(url, { clientId: `${given.clientId}-reader`, backoff: backoff() }),
    ];
    const subscription = await reader.subscribe(address).open();
    const out = await owner.stream(address, { run: `run-${given.clientId}` });
    const message = (await subscription.next()).value;
    const following = follow(reader, message);
    let text = "";
    const commands = listen();
    const over = { yes: false };
    commands.next().then(() => (over.yes = true));
    for (let n = 0; !over.yes || n < 50; n += 1) {
      await out.write(`w${n} `);
      text += `w${n} `;
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (n === 20) say("underway");
    }
    await out.end();
    const read = await following;
    say("survived", { read, equal: read.text === text, connections: [owner.connections, reader.connections] });
    process.exit(0);
  },

  async large() {
    // More text at once than a frame holds, and more than a message holds.
    const { address, other } = given;
    const owner = await connect(url);
    const line = "0123456789 \u20ac \ud83d\ude00\n";
    const fits = line.repeat(8_000);
    const out = await owner.stream(address, { run: given.run });
    await out.write(fits);
    await out.end();
    const much = await owner.stream(address);
    const first = await much
      .write(line.repeat(200_000))
      .then(() => much.flush())
      .catch((problem) => problem);
    await much.end("aborted");
    const many = await owner.stream(address);
    let second = null;
    try {
      for (let n = 0; n < 200; n += 1) await many.write("x".repeat(5_000));
      await many.flush();
    } catch (problem) {
      second = problem;
    }
    await many.end("aborted");
    const kept = [];
    for await (const each of owner.history(address)) kept.push(each);
    const elsewhere = await owner.stream(other, { run: given.run }).catch((problem) => problem.reason);
    const open = await owner.stream(address);
    const adopted = await owner.adoptStream(open.of, { address });
    say("large", {
      whole: kept[0].text === fits,
      bytes: kept.slice(1).map((each) => new TextEncoder().encode(JSON.stringify(each.text)).length),
      begins: [line.repeat(200_000).startsWith(kept[1].text), /^x*$/.test(kept[2].text)],
      codes: [first.code, second.code],
      reason: first.reason,
      elsewhere,
      attempt: adopted.attempt,
    });
    process.exit(0);
  },

  async quiet() {
    // A reader without parts, also over the next connection.
    const { address } = given;
    const line = await Line.to(url);
    const frames = [];
    const onFrame = (direction, _text, frame) => direction === "in" && frames.push(frame);
    const [owner, reader] = [await connect(url), await connect(line.url, { backoff: backoff(), onFrame })];
    const subscription = await reader.subscribe(address, { parts: false }).open();
    line.cut();
    await until(() => reader.connections === 2 && reader.connected);
    // What the new connection had to say is answered before this.
    await reader.ping();
    const out = await owner.stream(address);
    const message = (await subscription.next()).value;
    await out.write("all of it");
    await out.flush();
    await out.end();
    const state = await message.ended;
    say("quiet", { state, text: message.text, parts: frames.filter((frame) => frame.type === "append").length });
    process.exit(0);
  },

  async stopped() {
    const { address } = given;
    const [owner, reader] = [await connect(url), await connect(url)];
    const subscription = await reader.subscribe(address).open();
    const out = await owner.stream(address);
    const message = (await subscription.next()).value;
    async function* model() {
      for (;;) {
        yield "token ";
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    const piped = out.pipe(model());
    await until(() => message.text.length > 30);
    const stopped = await reader.stopStream(message);
    await piped;
    const aborted = out.stopRequested.aborted;
    const end = await out.end();
    say("stopped", {
      stopping: stopped.stopping,
      aborted,
      end: end.state,
      read: await message.ended,
      equal: message.have === out.have,
    });
    process.exit(0);
  },

  async steered() {
    const { address } = given;
    const [owner, reader] = [await connect(url), await connect(url)];
    const subscription = await reader.subscribe(address).open();
    const out = await owner.stream(address);
    const message = (await subscription.next()).value;
    const first = await reader.publish(address, "shorter", { steer: message });
    const steer = (await out.steers().next()).value;
    steer.took();
    await out.write("Taken. ");
    await out.flush();
    const second = await reader.publish(address, "louder", { steer: message.id });
    await until(() => out.have >= 1);
    await out.end();
    await message.ended;
    const late = await reader.publish(address, "too late", { steer: out.of });
    say("steered", {
      first: [first.steered, steer.text, steer.steer === out.of],
      second: second.steered,
      untaken: message.untaken.length === 1 && message.untaken[0] === second.id,
      late: [late.steered, late.seq !== null],
    });
    process.exit(0);
  },

  async adopted() {
    const { address, token } = given;
    const [owner, heir, reader] = await Promise.all([1, 2, 3].map(() => connect(url, { token })));
    const subscription = await reader.subscribe(address).open();
    const out = await owner.stream(address);
    const message = (await subscription.next()).value;
    await out.write("dead text");
    await out.flush();
    const deltas = message.deltas();
    const before = (await deltas.next()).value;
    const next = await heir.adoptStream(out.of, { keep: false });
    const reset = await deltas.next().catch((problem) => problem instanceof StreamReset);
    const lost = await out
      .write("a ghost")
      .then(() => out.flush())
      .catch((problem) => problem.code);
    await next.write("alive");
    await next.end();
    await message.ended;
    say("adopted", {
      before,
      reset,
      lost,
      aborted: out.stopRequested.aborted,
      attempt: next.attempt,
      text: message.text,
      again: (await message.deltas().next()).value,
    });
    process.exit(0);
  },
});
