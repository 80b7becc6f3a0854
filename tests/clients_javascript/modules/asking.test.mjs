// Questions, as their asker and as their responder, at a server without sockets.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Asks, asking } from "../../../clients/javascript/src/asks.js";
import { AskFailed, ServerError } from "../../../clients/javascript/src/errors.js";
import { Message } from "../../../clients/javascript/src/message.js";
import { Responder, payloadOf } from "../../../clients/javascript/src/responder.js";
import { quietly, until } from "./waiting.mjs";

const reply = (correlation, rest = {}) => ({
  id: `r-${correlation}`,
  type: "reply",
  from: "adder",
  correlation,
  ...rest,
});

test("each reply reaches its own question, once", async () => {
  const asks = new Asks();
  const [one, two] = [asks.wait("q1", 1_000), asks.wait("q2", 1_000)];
  assert.equal(asks.take(reply("q2", { payload: { sum: 2 } })), true);
  assert.equal(asks.take(reply("q2")), true);
  assert.equal(asks.take(reply("q3")), false);
  assert.equal(asks.take({ type: "private", id: "p" }), false);
  assert.equal((await two).payload.sum, 2);
  asks.take(reply("q1", { error: "cannot" }));
  const problem = await one.catch((each) => each);
  assert.ok(problem instanceof AskFailed);
  assert.deepEqual([problem.reason, problem.reply.sender], ["cannot", "adder"]);
});

test("the server says who did not answer in time", async () => {
  const asks = new Asks();
  const asked = asks.wait("q1", 1_000);
  asks.refused({ type: "error", request_id: "q1", code: "ASK_TIMEOUT", details: [{ to: "adder" }] });
  const problem = await asked.catch((each) => each);
  assert.deepEqual([problem.code, problem.details[0].to], ["ASK_TIMEOUT", "adder"]);
});

test("a question goes to one client, or to a work channel", () => {
  const options = { timeout: 2_500, durable: false };
  assert.deepEqual(asking({}, "adder", options), { type: "private", to: ["adder"], ask: { timeout: 2.5 } });
  assert.deepEqual(asking({ type: "event" }, "jobs:new", { ...options, durable: true }), {
    ...{ type: "event", room: "jobs", channel: "new" },
    ask: { timeout: 2.5, durable: true },
  });
});

test("what a handler returns is the payload of its reply", () => {
  assert.deepEqual(
    [payloadOf(undefined), payloadOf({ a: 1 }), payloadOf("a"), payloadOf([1])],
    [{}, { a: 1 }, { result: "a" }, { result: [1] }],
  );
});

/** The questions `seqs` and what a responder did with them. */
function responding(handler, { asked = new Date(), refusals = [], now = null } = {}) {
  const [replies, reached] = [[], []];
  const questions = [1, 2, 3].map(
    (seq) =>
      new Message({
        ...{ id: `arq_${seq}`, type: "private", room: "pm", channel: "me", from: "asker", seq, payload: { seq } },
        ...(seq === 2 ? {} : { ask: { timeout: 20 }, reply_to: "asker", correlation: `q${seq}` }),
        timestamp: asked.toISOString(),
      }),
  );
  const inbox = {
    position: null,
    async *[Symbol.asyncIterator]() {
      for (const each of questions) {
        inbox.position = { seq: each.seq, epoch: "a" };
        yield each;
      }
    },
  };
  const responder = new Responder(inbox, handler, {
    concurrency: 2,
    marks: { reached: ({ seq }) => reached.push(seq), close: () => {} },
    reply: async (question, payload, error) => {
      const refusal = refusals.shift();
      if (refusal) throw refusal instanceof Error ? refusal : new ServerError({ code: refusal, number: 409 });
      replies.push([question.id, payload, error]);
    },
    ping: async () => ({ timestamp: (now ?? new Date()).toISOString() }),
    onError: assert.fail,
  });
  return { responder, replies, reached };
}

test("a responder answers questions only, and marks what is dealt with", async () => {
  let free;
  const held = new Promise((resolve) => (free = resolve));
  const { responder, replies, reached } = responding(async ({ payload }) => {
    if (payload.seq === 1) await held;
    return payload.seq * 10;
  });
  await until(() => replies.length === 1);
  // The first question is open, so nothing behind it counts.
  assert.deepEqual(reached, []);
  free();
  await responder.ended;
  assert.deepEqual(replies, [
    ["arq_3", { result: 30 }, null],
    ["arq_1", { result: 10 }, null],
  ]);
  assert.equal(reached.at(-1), 3);
});

test("the asker gets the error of the handler, and an old question is passed over", async () => {
  await quietly(async () => {
    const { responder, replies } = responding(() => {
      throw new RangeError("too much");
    });
    await responder.ended;
    assert.deepEqual(replies[0], ["arq_1", {}, "RangeError: too much"]);
  });
  const { responder, replies, reached } = responding(() => 1, { asked: new Date(Date.now() - 3_600_000) });
  await responder.ended;
  assert.deepEqual([replies, reached.at(-1)], [[], 3]);
  const open = responding(() => 1, { asked: new Date(0), now: new Date(10_000) });
  await open.responder.ended;
  assert.equal(open.replies.length, 2);
});

test("a question that has ended needs no reply, and one that does not fit gets the error", async () => {
  const { responder, replies } = responding(() => 1, { refusals: ["QUESTION_ENDED", "FRAME_TOO_LARGE"] });
  await responder.ended;
  assert.deepEqual(replies, [["arq_3", {}, "ServerError: FRAME_TOO_LARGE"]]);
  const nothing = responding(() => 1, { refusals: [new TypeError("It is no JSON.")] });
  await nothing.responder.ended;
  assert.ok(nothing.replies.some(([, , error]) => error === "TypeError: It is no JSON."));
});
