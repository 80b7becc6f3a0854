// Requests over a line that comes and goes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BusClosed, ConnectionLost, TimedOut } from "../../../clients/javascript/src/errors.js";
import { Line } from "../../../clients/javascript/src/line.js";
import { Requests } from "../../../clients/javascript/src/requests.js";

/** What was sent on one connection. */
class Wire {
  constructor() {
    this.sent = [];
    this.socket = { bufferedAmount: 0 };
    this.ended = new Promise((resolve) => (this.end = resolve));
  }

  send(text) {
    this.sent.push(JSON.parse(text));
    return true;
  }
}

function made() {
  const line = new Line();
  const errors = [];
  return { line, errors, requests: new Requests(line, 10_000, (problem) => errors.push(problem.code)) };
}

/** Connected: what was not answered goes out again, then everything else. */
async function connect({ line, requests }) {
  const wire = new Wire();
  line.link = wire;
  await requests.sendAgain(wire);
  line.up = true;
  line.wakeAll();
  return wire;
}

function lose({ line, requests }, wire) {
  line.link = null;
  line.up = false;
  requests.connectionLost();
  wire.end();
}

const settled = () => new Promise(setImmediate);
const answer = (requests, id, rest) => requests.answered({ type: "command_response", request_id: id, ...rest });

test("a repeatable request survives a break, and its second answer is dropped", async () => {
  const parts = made();
  const first = await connect(parts);
  const asked = parts.requests.command("status", {}, { repeat: true, id: "r1" });
  await settled();
  assert.deepEqual(
    first.sent.map((frame) => frame.id),
    ["r1"],
  );
  lose(parts, first);
  const second = await connect(parts);
  assert.deepEqual(
    second.sent.map((frame) => frame.id),
    ["r1"],
  );
  answer(parts.requests, "r1", { result: { ok: 1 } });
  answer(parts.requests, "r1", { result: { ok: 2 } });
  assert.deepEqual(await asked, { ok: 1 });
});

test("a request that must not be repeated has an unknown outcome after a break", async () => {
  const parts = made();
  const wire = await connect(parts);
  const asked = parts.requests.command("create_channel", {}, { id: "r1" });
  await settled();
  assert.equal(wire.sent.length, 1);
  lose(parts, wire);
  await assert.rejects(asked, ConnectionLost);
  assert.deepEqual((await connect(parts)).sent, []);
});

test("a busy server is asked again, and its refusal is an error at once", async () => {
  const parts = made();
  const wire = await connect(parts);
  const asked = parts.requests.command("status", {}, { repeat: true, id: "r1" });
  await settled();
  answer(parts.requests, "r1", { status: "error", error: { code: "BUSY", number: 503, retry_after: 0 } });
  while (wire.sent.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  answer(parts.requests, "r1", { status: "error", error: { code: "FORBIDDEN", number: 403 } });
  await assert.rejects(asked, { code: "FORBIDDEN" });
});

test("a request whose repeat gets no answer in time says what the last answer was", async () => {
  const parts = made();
  const wire = await connect(parts);
  const asked = parts.requests.command("status", {}, { repeat: true, id: "r1", timeout: 400 });
  const failed = assert.rejects(asked, { name: "TimedOut", message: /UNAVAILABLE: Too slow/ });
  await settled();
  const error = { code: "UNAVAILABLE", number: 503, message: "Too slow", retry_after: 0 };
  answer(parts.requests, "r1", { status: "error", error });
  await failed;
  assert.equal(wire.sent.length, 2);
});

test("an error that answers no request is told, and what is too large is refused before it is sent", async () => {
  const parts = made();
  parts.requests.setLimits({ frame_bytes: 60 });
  const wire = await connect(parts);
  parts.requests.answered({ type: "error", error: { code: "TOO_SLOW", number: 429 } });
  assert.deepEqual(parts.errors, ["TOO_SLOW"]);
  await assert.rejects(parts.requests.command("ping", { echo: "x".repeat(60) }), { code: "FRAME_TOO_LARGE" });
  assert.deepEqual(wire.sent, []);
});

test("without a connection a request ends with its time or with the bus, and leaves nothing behind", async () => {
  const parts = made();
  await assert.rejects(parts.requests.command("ping", {}, { repeat: true, timeout: 1 }), TimedOut);
  await assert.rejects(parts.requests.send("{}", 1), TimedOut);
  assert.equal(parts.line.waiters.size, 0);
  const waiting = parts.requests.command("ping");
  parts.line.failure = new BusClosed("over");
  parts.requests.fail(parts.line.failure);
  await assert.rejects(waiting, BusClosed);
  await assert.rejects(parts.requests.command("ping"), BusClosed);
  assert.equal(parts.line.waiters.size, 0);
});

test("an id is used once at a time", async () => {
  const parts = made();
  await connect(parts);
  const first = parts.requests.command("ping", {}, { id: "r1" });
  await assert.rejects(parts.requests.command("ping", {}, { id: "r1" }), RangeError);
  answer(parts.requests, "r1", { result: 1 });
  assert.equal(await first, 1);
});
