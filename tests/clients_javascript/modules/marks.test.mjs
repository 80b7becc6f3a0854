// Marks: how far a client has dealt with its logs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Answers } from "../../../clients/javascript/src/answers.js";
import { ServerError } from "../../../clients/javascript/src/errors.js";
import { Logs } from "../../../clients/javascript/src/logs.js";
import { Marks } from "../../../clients/javascript/src/marks.js";
import { Subscription } from "../../../clients/javascript/src/subscription.js";

const ADDRESS = "jobs:new";
const settled = () => new Promise(setImmediate);

/** Marks at a server that answers when it is told to. */
function made() {
  const [sent, waiting, errors] = [[], [], []];
  const send = (address, { seq }) => {
    sent.push([address, seq]);
    return new Promise((resolve, reject) => waiting.push({ seq, resolve, reject }));
  };
  const marks = new Marks(send, (problem) => errors.push(problem.code));
  const answer = async (problem = null) => {
    const { seq, resolve, reject } = waiting.shift();
    if (problem) reject(problem);
    else resolve({ seq, epoch: "a" });
    await settled();
  };
  return { marks, sent, errors, answer };
}

test("one mark of a log is on its way, and the next one is the newest", async () => {
  const { marks, sent, answer } = made();
  const reader = marks.reader(ADDRESS);
  for (const seq of [1, 2, 3, 4]) reader.reached({ seq, epoch: "a" });
  assert.deepEqual(sent, [[ADDRESS, 1]]);
  await answer();
  assert.deepEqual(sent.slice(1), [[ADDRESS, 4]]);
  await answer();
  reader.reached({ seq: 4, epoch: "a" });
  assert.equal(sent.length, 2);
});

test("the mark is that of the slowest reader, and a reader that ends holds nobody up", async () => {
  const { marks, sent, answer } = made();
  const [fast, slow] = [marks.reader(ADDRESS), marks.reader(ADDRESS)];
  fast.reached({ seq: 9, epoch: "a" });
  assert.deepEqual(sent, []);
  slow.reached({ seq: 3, epoch: "a" });
  assert.deepEqual(sent, [[ADDRESS, 3]]);
  await answer();
  slow.close();
  assert.deepEqual(sent.at(-1), [ADDRESS, 9]);
});

test("a refused mark is reported once, and a log that was made anew is marked again", async () => {
  const { marks, sent, errors, answer } = made();
  const reader = marks.reader(ADDRESS);
  reader.reached({ seq: 5, epoch: "a" });
  await answer(new ServerError({ code: "FORBIDDEN", number: 403 }));
  reader.reached({ seq: 6, epoch: "a" });
  assert.deepEqual([sent.length, errors], [1, ["FORBIDDEN"]]);
  reader.reached({ seq: 1, epoch: "b" });
  assert.deepEqual(sent.at(-1), [ADDRESS, 1]);
});

/** A subscription with marks, in a log that is live. */
async function subscription(marks, options = {}) {
  const logs = new Logs();
  const host = {
    clientId: "me",
    closed: false,
    answers: new Answers(async () => null),
    marks,
    mark: async () => ({}),
    takesReply: (frame) => frame.type === "reply",
    attach: async (each) => {
      logs.continueAt(each.address, { seq: 10, epoch: "a" });
      each._startAt(each.address, { seq: 10, epoch: "a" });
      logs.add(each);
    },
    detach: async () => {},
    onError: (problem) => assert.fail(problem),
  };
  const made = new Subscription(host, options.address ?? ADDRESS, { buffer: 10, autoMark: true, ...options });
  await made.open();
  const deliver = (seq, from = "other", type = "event") =>
    made._deliver(made.address, { type, room: made.room, channel: made.channel, from, seq });
  return { made, deliver };
}

test("a message is marked when the next one is asked for, and the client's own ones with it", async () => {
  const { marks, sent, answer } = made();
  const { made: reading, deliver } = await subscription(marks);
  for (const seq of [11, 12]) deliver(seq);
  deliver(13, "me");
  assert.equal((await reading.next()).value.seq, 11);
  assert.deepEqual(sent, []);
  assert.equal((await reading.next()).value.seq, 12);
  assert.deepEqual(sent, [[ADDRESS, 11]]);
  await answer();
  const third = reading.next();
  await settled();
  assert.deepEqual(sent.at(-1), [ADDRESS, 13]);
  deliver(14);
  assert.equal((await third).value.seq, 14);
  const closing = reading.close();
  await answer();
  await closing;
  // The last one was not dealt with, as far as this client knows.
  assert.equal(sent.length, 2);
});

test("a listener is waited for before its message counts as dealt with", async () => {
  const { marks, sent, answer } = made();
  const { made: reading, deliver } = await subscription(marks);
  const ends = [];
  reading._listen(() => new Promise((resolve) => ends.push(resolve)));
  deliver(11);
  deliver(12);
  await settled();
  assert.deepEqual([ends.length, sent], [1, []]);
  ends[0]();
  await settled();
  assert.deepEqual([ends.length, sent], [2, [[ADDRESS, 11]]]);
  await answer();
});

test("the reply to a question of this client is not shown to who reads the inbox", async () => {
  const { marks } = made();
  const { made: reading, deliver } = await subscription(marks, { address: "pm:me", autoMark: false });
  deliver(11, "adder", "reply");
  deliver(12);
  assert.equal((await reading.next()).value.seq, 12);
});
