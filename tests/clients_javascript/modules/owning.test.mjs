// The owner of a streamed message: its parts reach the server once and in order, whatever happens on the way.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Server } from "./server.mjs";

test("what was written reaches the server, and the end says so", async (t) => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  // On a busy machine more time may pass between them than the time of texts that go together.
  const [now, words] = [performance.now(), ["Hel", "lo", ", ", "you"]];
  const clock = t.mock.method(performance, "now", () => now);
  const written = words.map((word) => out.write(word));
  clock.mock.restore();
  await Promise.all(written);
  await out.flush();
  // The first text goes at once, and the others go together.
  assert.deepEqual([server.text, out.have, out.of], ["Hello, you", 2, "arq_r1"]);
  await out.write("!");
  const end = await out.end("complete", { out: 2 });
  assert.deepEqual([server.text, end.state, end.seq, out.state], ["Hello, you!", "complete", 2, "complete"]);
  await assert.rejects(out.write("more"), /has ended/);
});

test("after a break the opening is sent again, and then what the server does not have", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  await out.write("one ");
  await out.flush();
  server.lose();
  // This connection takes everything and answers nothing.
  await server.connect({ deaf: true });
  await out.write("two ");
  const flushed = out.flush();
  await new Promise((resolve) => setTimeout(resolve, 20));
  server.lose();
  await out.write("three");
  await server.connect();
  await flushed;
  const end = await out.end();
  assert.deepEqual([server.text, end.state], ["one two three", "complete"]);
  assert.ok(server.openings >= 3);
});

test("a refusal in the middle makes no hole", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  server.refusals = [null, ["BUSY", 503], null, null];
  const words = ["a", "b", "c", "d", "e"];
  await Promise.all(
    words.map(async (word) => {
      await out.write(word);
      await out.flush();
    }),
  );
  await out.end();
  assert.equal(server.text, "abcde");
});

test("a lost stream stops what produces the text, and everything that follows fails", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  await out.write("a");
  server.refusals = [["STREAM_LOST", 409]];
  await assert.rejects(out.flush(), { code: "STREAM_LOST" });
  assert.equal(out.stopRequested.aborted, true);
  assert.equal(out.stopRequested.reason.code, "STREAM_LOST");
  await assert.rejects(out.write("b"), { code: "STREAM_LOST" });
  await assert.rejects(out.end(), { code: "STREAM_LOST" });
});

test("of text that is too long all that fits is kept, and the message can still end", async () => {
  const server = new Server();
  server.most = 100_001;
  await server.connect();
  const out = await server.open();
  await out.write("good ");
  await out.flush();
  const text = Array.from({ length: 100_000 }, (_, n) => String.fromCharCode(97 + (n % 26))).join("");
  out.write(text);
  const names = (problem) => problem.code === "FRAME_TOO_LARGE" && /ARQONBUS_FRAME_BYTES/.test(problem.message);
  await assert.rejects(out.flush(), names);
  await assert.rejects(out.write("more"), names);
  // What lacks text is not complete.
  await assert.rejects(out.end(), names);
  assert.equal((await out.end("aborted")).state, "aborted");
  assert.equal(server.text, `good ${text}`.slice(0, 100_001));
});

test("an end behind text that is too long is refused with it", async () => {
  const server = new Server();
  server.most = 10;
  await server.connect();
  const out = await server.open();
  out.write("twelve bytes");
  out.write("and more");
  await assert.rejects(out.end(), { code: "FRAME_TOO_LARGE" });
  assert.equal((await out.end("aborted")).state, "aborted");
  assert.equal(server.text, "twelve byt");
  // An end that says so itself is not refused.
  const next = new Server();
  next.most = 10;
  await next.connect();
  const short = await next.open();
  short.write("twelve bytes");
  assert.deepEqual([(await short.end("aborted")).state, next.text], ["aborted", "twelve byt"]);
});

test("a stop ends a pipe early, and the state is that of the stop", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  let onClosed;
  const closed = new Promise((resolve) => (onClosed = resolve));
  async function* model() {
    try {
      for (;;) {
        yield "token ";
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    } finally {
      onClosed();
    }
  }
  const piped = out.pipe(model());
  await out.flush();
  server.stopping = true;
  server.streams.notice({ event: "stop_requested", of: "arq_r1" });
  await piped;
  assert.equal((await out.end()).state, "stopped");
  await closed;
});

test("a stop that came during a break is heard with the next connection", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  const stopped = new Promise((resolve) => out.stopRequested.addEventListener("abort", resolve));
  server.lose();
  server.stopping = true;
  await server.connect();
  await stopped;
});

test("a source that fails aborts the message, and its error goes on", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  const fault = new Error("the model is away");
  async function* model() {
    yield "some";
    throw fault;
  }
  await assert.rejects(out.pipe(model()), fault);
  assert.deepEqual([server.text, server.state], ["some", "aborted"]);
});

test("bytes are read as UTF-8, also where a character is cut", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  const bytes = new TextEncoder().encode("tschüß 😀");
  const source = new ReadableStream({
    start(controller) {
      for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
      controller.close();
    },
  });
  // As in a browser that does not iterate over streams.
  await out.pipe({ getReader: () => source.getReader() });
  await out.end();
  assert.equal(server.text, "tschüß 😀");
});

test("a steer is given once, and the next part says that it was taken", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  const steer = { event: "steer", of: "arq_r1", message: { id: "arq_s1", type: "event", message: "shorter" } };
  server.streams.notice(steer);
  server.streams.notice(steer);
  const heard = [];
  const reading = (async () => {
    for await (const message of out.steers()) {
      heard.push(message.text);
      message.took();
    }
  })();
  await new Promise(setImmediate);
  await out.write("ok");
  await out.end();
  await reading;
  assert.deepEqual([heard, server.took], [["shorter"], ["arq_s1"]]);
});

test("a run that has ended cannot go on", async () => {
  const server = new Server();
  await server.connect();
  server.state = "complete";
  const out = await server.open();
  assert.equal(out.state, "complete");
  await assert.rejects(out.write("more"), { code: "STREAM_ENDED" });
  await assert.rejects(out.end(), { code: "STREAM_ENDED" });
});

test("what the server stopped during a break ends quietly", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  await out.write("a");
  await out.flush();
  server.lose();
  server.state = "stopped";
  await server.connect();
  const end = await out.end();
  assert.deepEqual([end.state, end.seq, server.text], ["stopped", null, "a"]);
});

test("readers at the owner's own client see what is kept", async () => {
  const server = new Server();
  await server.connect();
  const growth = server.answers.take({
    ...{ id: "arq_r1", type: "event", room: "chat", channel: "42", seq: 1, stream: { mode: "text" } },
  });
  const out = await server.open();
  await out.write("mine");
  assert.equal(growth.text, "");
  await out.flush();
  assert.equal(growth.text, "mine");
});

test("readers at the owner's own client see its end, too", async () => {
  const server = new Server();
  await server.connect();
  const growth = server.answers.take({
    ...{ id: "arq_r1", type: "event", room: "chat", channel: "42", seq: 1, stream: { mode: "text" } },
  });
  const out = await server.open();
  await out.write("mine");
  await out.end("complete", { out: 1 });
  const { text, state, endSeq, endPayload } = growth;
  assert.deepEqual([text, state, endSeq, endPayload], ["mine", "complete", 2, { out: 1 }]);
  assert.equal(server.answers.get("arq_r1"), null);
});

test("an adopted answer whose beginning is not known is read from the history at its end", async () => {
  const server = new Server({ have: 2 });
  server.answers.read = async () => ({
    ...{ id: "arq_r1", type: "event", room: "chat", channel: "42", seq: 1, message: "all of it" },
    ...{ stream: { mode: "text", state: server.state, parts: server.have, end_seq: 2 } },
  });
  await server.connect();
  const growth = server.answers.append("chat:42", { of: "arq_r1", of_seq: 1, n: 1, delta: "all" });
  const out = await server.open();
  await out.write("it");
  await out.end();
  assert.equal(await growth.ended(), "complete");
  assert.deepEqual([growth.text, server.answers.get("arq_r1")], ["all of it", null]);
});
