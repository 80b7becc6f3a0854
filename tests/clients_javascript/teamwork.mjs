// Scenarios of clients that work together: marks, leased work, questions, and status, at real servers.
import { AskFailed, Backoff, ClaimLost, connect } from "../../clients/javascript/arqonbus.js";

const backoff = () => new Backoff({ first: 20, most: 100 });

/** Everything that an asynchronous generator gives. */
async function all(source) {
  const rows = [];
  for await (const row of source) rows.push(row);
  return rows;
}

export const teamwork = ({ url, given, say, until, listen }) => ({
  async marks() {
    // One visit after another: at the first one nothing of the past comes, and later what came in between.
    const { address, clientId, identity } = given;
    let stored = identity ?? null;
    const store = { get: () => stored, set: (text) => (stored = text) };
    const writer = await connect(url);
    const visit = async (count) => {
      const bus = await connect(url, { clientId, identity: store, backoff: backoff() });
      const inbox = bus.inbox({ since: "mark", autoMark: true });
      const channel = bus.subscribe(address, { since: "mark", autoMark: true });
      await Promise.all([inbox.open(), channel.open()]);
      const heard = [];
      for (const each of [channel, inbox]) {
        for (let index = 0; index < count; index += 1) heard.push((await each.next()).value.text);
        // Asking for one more says that the last one is dealt with.
        each.next();
        await bus.ping();
        await each.close();
      }
      bus.close();
      return heard;
    };
    const send = async (...texts) => {
      for (const text of texts) {
        await writer.publish(address, text);
        await writer.private(clientId, text);
      }
    };
    const visitor = await connect(url, { clientId, identity: store });
    await writer.publish(address, "past");
    await writer.private(clientId, "past");
    visitor.close();
    const first = await visit(0);
    await send("one", "two");
    const second = await visit(2);
    await send("three");
    const third = await visit(1);
    say("marks", { first, second, third });
    process.exit(0);
  },

  async marking() {
    const { address } = given;
    const bus = await connect(url, { token: given.token });
    for (const text of ["a", "b", "c"]) await bus.publish(address, text);
    const page = await bus.historyPage(address);
    const marked = await page.messages[1].mark();
    const unread = (await bus.listChannels(address.split(":")[0])).map((row) => row.unread);
    const same = await bus.mark(address, 1);
    const back = await bus.mark(address, 1, { back: true });
    const beyond = await bus.mark(address, 9).catch((problem) => problem.code);
    const resumed = await bus.subscribe(address, { since: "mark", echo: true }).open();
    const texts = [(await resumed.next()).value.text, (await resumed.next()).value.text];
    say("marking", { marked: marked.seq, unread, same: same.seq, back: back.unread, beyond, texts });
    bus.close();
  },

  async leased() {
    // Jobs come before and after the server is killed.
    const { address, concurrency, jobs, token } = given;
    const bus = await connect(url, { token, backoff: backoff() });
    const publisher = await connect(url, { token, backoff: backoff() });
    await publisher.createChannel(address, { work: { lease: 30 } });
    bus.on("error", (problem) => say("refused", { why: problem.why ?? problem.code }));
    const done = [];
    let most = 0;
    const worker = bus.work(
      address,
      async (job) => {
        const { n } = job.payload;
        if (n === 3 && job.attempt === 1) throw new Error("not at the first attempt");
        done.push(n);
        if (done.length === jobs / 2) say("half");
        await bus.ping();
        most = Math.max(most, worker.running);
        return { n };
      },
      { concurrency },
    );
    for (let n = 0; n < jobs; n += 1) await publisher.publish(address, { n });
    await until(() => new Set(done).size === jobs);
    await worker.close();
    const { ready, claimed_count: claimed } = await bus.workOverview(address);
    say("all", { done, most, left: [ready, claimed], connections: bus.connections });
    process.exit(0);
  },

  async claims() {
    // A worker that loses its job to another one.
    const { address } = given;
    const [one, two] = [await connect(url, { token: given.token }), await connect(url, { token: given.token })];
    await one.createChannel(address, { work: { attempts: 5 } });
    await one.publish(address, { n: 1 });
    const [job] = await one.claim(address, { wait: 5_000 });
    await job.release({ error: "not now" });
    const [again] = await two.claim(address, { wait: 5_000 });
    const lost = await job.done("late").catch((problem) => problem);
    const overview = await two.workOverview(address);
    const finished = await again.done({ ok: true });
    const repeated = await again.done({ ok: true });
    await one.publish(address, { n: 2 });
    const [bad] = await one.claim(address, { wait: 5_000 });
    const rejected = await bad.reject("broken");
    const dead = (await one.workOverview(address)).dead.map(({ seq, errors }) => [seq, errors.at(-1).error]);
    await one.retryJob(address, bad.seq);
    const [retried] = await two.claim(address, { wait: 5_000 });
    await one.discardJob(address, bad.seq);
    const cancelled = await retried.done().catch((problem) => problem);
    await one.publish(address, "later", { deliverAt: new Date(Date.now() + 3_600_000) });
    say("claims", {
      attempts: [job.attempt, again.attempt, retried.attempt],
      lost: [lost instanceof ClaimLost, lost.why],
      claimed: overview.claimed.map(({ seq, attempt }) => [seq, attempt]),
      finished: [finished.state, repeated.state],
      rejected: rejected.state,
      dead,
      cancelled: [cancelled instanceof ClaimLost, cancelled.why],
      delayed: (await one.workOverview(address)).delayed,
    });
    process.exit(0);
  },

  async asks() {
    const [asker, adder] = [await connect(url), await connect(url, { clientId: given.clientId })];
    // It comes before the first mark, so before anybody answers.
    const letters = await adder.inbox().open();
    const early = asker.ask(given.clientId, { a: 40, b: 2 });
    await letters.next();
    const responder = await adder
      .answers(({ payload }) => {
        if (payload.broken) throw new RangeError("cannot add that");
        return payload.a === undefined ? "no numbers" : { sum: payload.a + payload.b };
      })
      .open();
    const inbox = await asker.inbox().open();
    const asked = await Promise.all(Array.from({ length: 20 }, (_, n) => asker.ask(given.clientId, { a: n, b: n })));
    const text = await asker.ask(given.clientId, "what?");
    const failed = await asker.ask(given.clientId, { broken: true }).catch((problem) => problem);
    const nobody = await asker.ask("nobody-is-here", {}).catch((problem) => problem.code);
    const silent = await connect(url);
    const late = await asker.ask(silent.clientId, {}, { timeout: 300 }).catch((problem) => problem);
    const again = await asker.ask(given.clientId, { a: 1, b: 2 }, { id: given.id });
    const repeated = await asker.ask(given.clientId, { a: 1, b: 2 }, { id: given.id });
    await adder.private(asker.clientId, "a plain one");
    say("asks", {
      early: (await early).payload.sum,
      sums: asked.map((reply) => reply.payload.sum),
      text: text.payload,
      failed: [failed instanceof AskFailed, failed.reason],
      nobody,
      late: [late.code, late.message.includes(`${silent.clientId} did not answer within 0.3 s.`)],
      repeated: again.id === repeated.id,
      inbox: (await inbox.next()).value.text,
    });
    // A work channel: the result is the reply.
    const admin = await connect(url, { token: given.token });
    await admin.createChannel(given.address, { work: {} });
    const worker = admin.work(given.address, (job) => ({ twice: job.payload.n * 2 }));
    say("work", { result: (await asker.ask(given.address, { n: 21 })).payload });
    await worker.close();
    await responder.close();
    process.exit(0);
  },

  async decides() {
    const [agent, person] = [await connect(url), await connect(url, { token: given.token })];
    const waiting = async (count = 1) => {
      for (;;) {
        const rows = await all(person.listDecisions({ address: given.address, toDecide: true }));
        if (rows.length >= count) return rows;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    const allow = ["approve", "edit", "respond", "reject"];
    const refund = { key: "refund", title: "Refund?", action: "refund", args: { amount: 20 }, allow };
    const asked = agent.decideByHuman(given.address, refund);
    const [row] = await waiting();
    const own = await agent.decide(row, "approve").catch((problem) => problem.code);
    const silent = await person.decide(row, "respond").catch((problem) => problem.code);
    await person.decide(row, "edit", { args: { amount: 15 }, comment: "the rest" });
    const edited = await asked;
    const again = await agent.decideByHuman(given.address, refund);
    await agent.consumeDecision(edited);
    const used = await agent.consumeDecision(edited).catch((problem) => problem.code);
    const drop = { key: "drop", title: "Drop?", action: "drop", expires: 60_000 };
    await person.decide(await agent.requestDecision(given.address, drop), "reject");
    const refused = await agent.requestDecision(given.address, drop).catch((problem) => problem.code);
    const no = await agent.decideByHuman(given.address, drop);
    const late = await agent
      .decideByHuman(given.address, { ...drop, key: "late", timeout: 50 })
      .catch((problem) => problem.name);
    const left = await agent.cancelDecision((await waiting())[0]);
    say("decides", {
      row: [row.title, row.args, row.may_decide],
      refusals: [own, silent, used, refused],
      edited: [edited.state, edited.args, edited.comment, again.decision === edited.decision],
      no: no.state,
      late: [late, left.state],
      own: (await all(agent.listDecisions({ address: given.address, mine: true }))).map((each) => each.state),
    });
    // A wait that goes on when the server comes back.
    const kept = agent.decideByHuman(given.address, { ...drop, key: "kept", args: { n: 1 } });
    const [later] = await waiting();
    say("waits");
    await new Promise((resolve) => process.stdin.once("data", resolve));
    await person.decide(later, "approve");
    say("kept", { state: (await kept).state });
    process.exit(0);
  },

  async responder() {
    let stored = given.identity;
    const identity = { get: () => stored, set: (kept) => (stored = kept) };
    const bus = await connect(url, { clientId: given.clientId, identity, backoff: backoff() });
    await bus.answers(({ payload }) => ({ by: given.by, n: payload.n })).open();
    say("ready", { identity: stored });
    for await (const line of listen()) if (line === "end") break;
    process.exit(0);
  },

  async asker() {
    const bus = await connect(url, { backoff: backoff() });
    say("connected");
    const reply = await bus.ask(given.to, { n: 1 }, { durable: true, timeout: 40_000 });
    say("answered", { payload: reply.payload });
    bus.close();
  },

  async status() {
    const { room, skill } = given;
    const bus = await connect(url, {
      room,
      channel: "team",
      card: { name: "Noor", skills: [skill] },
      backoff: backoff(),
    });
    const other = await connect(url, { room, channel: "team", token: given.token });
    const notices = [];
    const heard = await other.subscribe(`${room}:team`, { presence: true }).open();
    (async () => {
      for await (const message of heard) {
        if (message.event === "client_updated") notices.push(message.payload.status?.task ?? null);
      }
    })();
    await bus.setStatus({ status: "working", task: "review", tokens: 12 });
    await until(() => notices.length === 1);
    const found = [];
    for await (const each of other.clients({ skill }))
      found.push([each.client_id === bus.clientId, each.status, each.card]);
    const [member] = (await other.channelInfo(`${room}:team`)).participants.filter((each) => each.status);
    await bus.setStatus();
    await until(() => notices.at(-1) === null);
    await bus.setStatus({ task: "short", ttl: 1_000 });
    await until(() => notices.length >= 4 && notices.at(-1) === null);
    say("status", { found, member: member.status.task, notices });
    process.exit(0);
  },
});
