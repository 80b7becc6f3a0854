// What the server, or the client itself, refuses of a streamed message: the rest goes on, and nobody waits for ever.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Outflow } from "../../../clients/javascript/src/outflow.js";
import { Sender } from "../../../clients/javascript/src/sender.js";
import { Server } from "./server.mjs";

test("an end behind a part that is refused is refused, too", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  server.refusals = [["VALIDATION_ERROR", 400, []]];
  out.write("refused");
  out.write("gathered");
  await assert.rejects(out.end("stopped"), { code: "VALIDATION_ERROR" });
  assert.equal((await out.end("aborted")).state, "aborted");
});

test("a flush does not wait for the second half of a character", async () => {
  const server = new Server();
  await server.connect();
  const out = await server.open();
  await out.write("hi \ud83d");
  await out.flush();
  assert.equal(server.text, "hi ");
  await out.write("\ude00");
  await out.end();
  assert.equal(server.text, "hi 😀");
});

test("what stands before an append that is given up is kept", () => {
  const flow = new Outflow("parts");
  for (const n of [1, 2, 3]) flow.part({ n });
  flow.next();
  flow.take("arq_s1");
  const second = flow.next();
  flow.next();
  flow.end("complete");
  flow.drop(second);
  assert.deepEqual([flow.last, flow.size, flow.ending], [1, '{"n":1}'.length, false]);
  flow.end("aborted");
  // The steer is not lost with the end that took it.
  assert.deepEqual(flow.next(), { n: 1, part: { n: 1 }, end: "aborted", took: ["arq_s1"] });
});

test("a part that the client itself refuses leaves those that are on their way", async () => {
  const server = new Server();
  await server.connect();
  server.requests.setLimits({ frame_bytes: 10_000 });
  // The client refuses the end while the answer to the part is on its way.
  const answered = server.requests.answered.bind(server.requests);
  server.requests.answered = (answer) => setImmediate(answered, answer);
  const out = await server.open();
  out.write("sent");
  await assert.rejects(out.end("complete", { long: "x".repeat(20_000) }), { code: "FRAME_TOO_LARGE" });
  const end = await out.end("aborted");
  assert.deepEqual([server.text, end.state, end.have], ["sent", "aborted", 1]);
});

test("a hole that nothing can fill is an error, and nothing is sent again and again", async () => {
  const server = new Server();
  await server.connect();
  const flow = new Outflow("text");
  flow.last = 7;
  flow.write("behind a hole");
  const problem = await new Promise((resolve) => {
    const hooks = { onFailure: resolve, onProgress() {}, onCommitted() {} };
    new Sender(server, flow, { of: "arq_r1", opening: null, token: null }, hooks).flush();
  });
  assert.equal(problem.code, "STREAM_GAP");
});
