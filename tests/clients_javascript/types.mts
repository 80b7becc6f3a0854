// Never run: `make lint-js` lets tsc read it. What an application writes has types, and what it must not write is refused.

import {
    AskFailed,
    Backoff,
    CLOSE_CODES,
    ClaimLost,
    ClosedByServer,
    IdentityInUse,
    Message,
    ServerError,
    StreamReset,
    comesBack,
    connect,
    splitAddress,
} from "../../clients/javascript/arqonbus.js";
import type {
    Bus,
    ChannelInfo,
    IdentityStore,
    Job,
    JobWorker,
    Marked,
    OutStream,
    Position,
    Receipt,
    Responder,
    State,
    StreamEnd,
    StreamState,
    Subscription,
    WorkOverview,
} from "../../clients/javascript/arqonbus.js";

const bus: Bus = await connect("ws://localhost:8765/", {
    clientId: "me",
    room: "science:explore",
    token: async () => "arq_tok_…",
    backoff: new Backoff({ most: 5_000 }),
    onState: (state: State) => console.log(state),
});

// Who one is after a reload: under a name, in a store of one's own, or by the token itself.
const visitor: Bus = await connect("ws://localhost:8765/", { identity: "visitor" });
let kept: string | null = null;
const store: IdentityStore = { get: () => kept, set: (text) => (kept = text) };
const worker = await connect("ws://localhost:8765/", { clientId: "worker", identity: store }).catch((error) => {
    if (error instanceof IdentityInUse) console.log(error.message);
});
const proof: string | null = visitor.resumeToken;
await connect("ws://localhost:8765/", { clientId: visitor.clientId, resumeToken: proof });
console.log(worker, visitor.identityKept satisfies boolean | null);

// Messages: as an iterator, with a listener, from a position.
const subscription: Subscription = bus.subscribe("science:explore", { since: 0, presence: true });
for await (const message of subscription) {
    const seq: number | null = message.seq;
    const when: Date | null = message.timestamp;
    console.log(message.sender, message.text, seq, when);
}
const place: Position | null = subscription.position;
bus.subscribe("science:explore", (message, from) => console.log(message.payload, from.gaps));
bus.inbox({ since: place }, (message: Message) => console.log(message.private));

// Publishing and asking.
const receipt: Receipt = await bus.publish("science:explore", "hello", { payload: { n: 1 }, id: "greeting-1" });
await bus.private(["you", "them"], "psst", { ack: false });
const info: ChannelInfo = await bus.channelInfo("science:explore");
const members: string[] = info.participants.map((row) => row.client_id);
for await (const old of bus.history("science:explore", { since: new Date(0), sender: "you" })) console.log(old.id);
for await (const client of bus.clients()) console.log(client.channels.length);
const { messages, next } = await bus.historyPage("science:explore", { limit: 50, before: receipt.seq });
const stop = bus.on("error", (error, where) => console.log(error.message, where?.address));
console.log(
    members,
    messages.length,
    next,
    stop(),
    splitAddress("a:b")[1],
    CLOSE_CODES[4012]?.reconnect,
    comesBack(1006),
);

// Messages that grow: written, read, steered, stopped, adopted.
const out: OutStream = await bus.stream("chat:42", { run: "run-1", payload: { role: "assistant" } });
await out.write("Hello");
await out.pipe(await fetch("/model", { signal: out.stopRequested }).then((answer) => answer.body ?? []));
for await (const steer of out.steers()) steer.took();
const ended: StreamEnd = await out.end("complete", { tokens: 3 });
const parts = await bus.stream(null, { mode: "parts" });
await parts.part({ type: "STEP" });
for await (const message of bus.subscribe("chat:42", { parts: true })) {
    const state: StreamState | null = message.state;
    if (state === null) continue;
    try {
        for await (const delta of message.deltas()) console.log(delta, message.text, message.parts.length);
    } catch (error) {
        if (error instanceof StreamReset) console.log(await message.ended);
    }
    await bus.streamText(message, (text, delta) => console.log(text.length, delta));
    const steered: boolean | undefined = (await bus.publish("chat:42", "shorter", { steer: message })).steered;
    console.log(steered, (await bus.stopStream(message)).stopping, ended.untaken.length);
    await (await bus.adoptStream(message.id, { keep: false })).end("aborted");
}
await bus.join("chat:42", { parts: false });

// Marks, leased work, questions, status.
const marked: Marked = await bus.mark("science:explore", 3, { back: true });
bus.subscribe("science:explore", { since: "mark", autoMark: true });
const worker2: JobWorker = bus.work("jobs:new", async (job: Job) => ({ n: job.attempt }), { concurrency: 4 });
for (const job of await bus.claim("jobs:new", { max: 2, wait: 1_000 })) {
    await fetch("/build", { signal: job.lost });
    await job.release({ delay: 1_000, error: "later" });
}
const overview: WorkOverview = await bus.workOverview("jobs:new");
const responder: Responder = await bus.answers((question) => ({ sum: question.payload.a })).open();
const sum: Message = await bus.ask("adder", { a: 1 }, { timeout: 1_000, durable: true });
await bus.setStatus({ status: "working", ttl: 60_000 });
for await (const client of bus.clients({ skill: "review" })) console.log(client.status?.task, client.card?.skills);
console.log(marked.unread, worker2.running, overview.dead.length, responder, sum.error);

// Failures are told apart by class.
try {
    await bus.createChannel("science:new", { retention: { count: 10 }, ephemeral: false });
} catch (error) {
    if (error instanceof ServerError && error.retry) {
        const [code, wait]: [string, number | null] = [error.code, error.retryAfter];
        console.log(code, wait);
    }
    if (error instanceof ClaimLost) console.log(error.why, error.by);
    if (error instanceof AskFailed) console.log(error.reply.sender);
    if (error instanceof ClosedByServer) console.log(error.closeCode, error.error?.details);
}

// What is misspelt or of the wrong kind does not compile.
// @ts-expect-error no such option
await connect("ws://localhost:8765/", { clientID: "me" });
// @ts-expect-error an address is a text
await bus.publish({ room: "science" }, "hello");
// @ts-expect-error a store has both
await connect("ws://localhost:8765/", { identity: { get: () => null } });
// @ts-expect-error no such event
bus.on("message", () => undefined);
// @ts-expect-error what came is not to be changed
subscription.gaps = 0;
// @ts-expect-error null on ephemeral channels
const always: number = receipt.seq;
// @ts-expect-error a time, a seq or a position
bus.subscribe("science:explore", { since: { after: 1 } });
// @ts-expect-error a message ends in one of three states
await out.end("done");
// @ts-expect-error a handler is a function
bus.work("jobs:new", { concurrency: 4 });
// @ts-expect-error a part is an object
await parts.part("text");
