// Places in logs, and the subscriptions that read them: everything between the socket and an iterator.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Answers } from "../../../clients/javascript/src/answers.js";
import { catchUp } from "../../../clients/javascript/src/catch-up.js";
import { Cursor } from "../../../clients/javascript/src/cursor.js";
import { ServerError } from "../../../clients/javascript/src/errors.js";
import { Logs } from "../../../clients/javascript/src/logs.js";
import { Subscription } from "../../../clients/javascript/src/subscription.js";

const ADDRESS = "science:explore";
const frame = (seq, from = "other") => ({ type: "event", room: "science", channel: "explore", from, seq });

const nothing = () => new Answers(async () => null);

/** A subscription of a bus whose log holds the messages 1 to `head`. */
function subscribe(logs, { head = 0, buffer = 10, since, clientId = "me", answers = nothing(), ...options } = {}) {
  const host = {
    clientId,
    closed: false,
    answers,
    attach: async (subscription) => logs.add(subscription),
    detach: async (subscription) => logs.remove(subscription),
    historyFrames: async (_address, after, limit) =>
      Array.from({ length: Math.max(0, Math.min(limit, head - after)) }, (_, index) => frame(after + index + 1)),
    onError: (problem) => assert.fail(problem),
  };
  return new Subscription(host, ADDRESS, { buffer, since, ...options });
}

/** Live messages, as the bus delivers them. */
function deliver(logs, ...frames) {
  for (const each of frames) {
    logs.advance(ADDRESS, each.seq);
    for (const subscription of logs.receivers(ADDRESS)) subscription._deliver(ADDRESS, each);
  }
}

async function take(subscription, count) {
  const messages = [];
  for (let index = 0; index < count; index += 1) messages.push((await subscription.next()).value);
  return messages;
}

test("each message comes once and in order, although the server sends some again", async () => {
  const logs = new Logs();
  const subscription = subscribe(logs);
  await subscription.open();
  logs.continueAt(ADDRESS, { seq: 0, epoch: "a" });
  deliver(logs, frame(1), frame(2), frame(1), frame(2), frame(3));
  assert.deepEqual(
    (await take(subscription, 3)).map((message) => message.seq),
    [1, 2, 3],
  );
  assert.equal(subscription.waiting, 0);
  assert.deepEqual(subscription.position, { seq: 3, epoch: "a" });
});

test("own messages are left out without echo, and make no gap", async () => {
  const logs = new Logs();
  const [quiet, echoing] = [subscribe(logs), subscribe(logs, { echo: true })];
  await Promise.all([quiet.open(), echoing.open()]);
  deliver(logs, frame(1), frame(2, "me"), frame(3));
  assert.deepEqual(
    (await take(quiet, 2)).map((message) => [message.seq, message.afterGap]),
    [
      [1, false],
      [3, false],
    ],
  );
  assert.equal((await take(echoing, 3)).length, 3);
  assert.equal(quiet.gaps, 0);
});

test("what does not fit into the buffer is read from the history", async () => {
  const logs = new Logs();
  const subscription = subscribe(logs, { head: 7, buffer: 2 });
  await subscription.open();
  logs.continueAt(ADDRESS, { seq: 0, epoch: "a" });
  deliver(logs, ...Array.from({ length: 7 }, (_, index) => frame(index + 1)));
  assert.equal(subscription.waiting, 2);
  assert.deepEqual(
    (await take(subscription, 7)).map((message) => message.seq),
    [1, 2, 3, 4, 5, 6, 7],
  );
  assert.equal(subscription.gaps, 0);
});

test("another log under the same address is a gap, and begins with its own numbers", async () => {
  const logs = new Logs();
  const subscription = subscribe(logs);
  await subscription.open();
  logs.continueAt(ADDRESS, { seq: 5, epoch: "a" });
  deliver(logs, frame(6));
  logs.learn(ADDRESS, { seq: 0, epoch: "b" });
  deliver(logs, frame(1));
  const [before, after] = await take(subscription, 2);
  assert.deepEqual([before.seq, before.afterGap, after.seq, after.afterGap], [6, false, 1, true]);
  assert.equal(subscription.gaps, 1);
});

test("a log that did not reach the client for a while is a gap only if it went on", async () => {
  for (const [head, gaps] of [
    [6, 0],
    [9, 1],
  ]) {
    const logs = new Logs();
    const subscription = subscribe(logs);
    await subscription.open();
    logs.continueAt(ADDRESS, { seq: 5, epoch: "a" });
    deliver(logs, frame(6));
    logs.live.clear();
    logs.learn(ADDRESS, { seq: head, epoch: "a" });
    assert.equal(subscription.gaps, gaps, `at ${head}`);
  }
});

test("a position is lost when it belongs to another log, or to messages that are pruned", () => {
  const logs = new Logs();
  const inbox = "pm:me";
  logs.registered(
    { [inbox]: { seq: 20, epoch: "a", recovered: false, first_seq: 11 } },
    { [inbox]: { seq: 3 } },
    new Set(),
  );
  logs.advance(inbox, 20);
  const start = (since) => logs.startOf(inbox, since);
  assert.deepEqual(start({ seq: 15, epoch: "a" }), { place: { seq: 15, epoch: "a" }, lost: false });
  assert.deepEqual(start({ seq: 15, epoch: "b" }), { place: { seq: 10, epoch: "a" }, lost: true });
  assert.deepEqual(start({ seq: 5, epoch: "a" }), { place: { seq: 10, epoch: "a" }, lost: true });
  assert.deepEqual(start({ seq: 21, epoch: "a" }), { place: { seq: 10, epoch: "a" }, lost: true });
  assert.deepEqual(start({ seq: 10 }), { place: { seq: 10, epoch: "a" }, lost: false });
});

test("a registration names the places of what is wanted, and forgets what does not return", () => {
  const logs = new Logs();
  logs.continueAt(ADDRESS, { seq: 3, epoch: "a" });
  logs.continueAt("science:*", { seq: 1, epoch: "b" });
  logs.continueAt("other:room", { seq: 9, epoch: "c" });
  assert.deepEqual(logs.positions(new Set([ADDRESS])), {
    [ADDRESS]: { epoch: "a", seq: 3 },
    "science:*": { epoch: "b", seq: 1 },
  });
  logs.registered(
    { [ADDRESS]: { seq: 8, epoch: "a", recovered: true } },
    { [ADDRESS]: { seq: 3 } },
    new Set([ADDRESS]),
  );
  assert.deepEqual(logs.places.get(ADDRESS), { seq: 3, epoch: "a" });
  assert.equal(logs.places.has("other:room"), false);
  logs.forget(ADDRESS, new Set());
  assert.equal(logs.places.size, 0);
});

test("catching up stops at a full page, at the head, and when the log was started anew", async () => {
  const accept = (cursor) => (each) => (cursor.last = each.seq);
  const lagging = (head) => Object.assign(new Cursor(), { last: 0, head, lagging: true });
  const full = lagging(5);
  assert.equal(await catchUp(full, 2, async () => [frame(1), frame(2)], accept(full)), false);
  assert.deepEqual([full.last, full.lagging], [2, true]);
  const whole = lagging(2);
  assert.equal(await catchUp(whole, 9, async () => [frame(1), frame(2)], accept(whole)), false);
  assert.equal(whole.lagging, false);
  const anew = lagging(5);
  const restart = async () => {
    anew.startAt({ seq: 40, epoch: "b" });
    return [frame(1)];
  };
  assert.equal(await catchUp(anew, 9, restart, accept(anew)), false);
  assert.equal(anew.last, 40);
});

test("a head that may not be read is lost, and any other error is the caller's", async () => {
  const cursor = Object.assign(new Cursor(), { last: 2, head: 5, lagging: true });
  const fail = (number) => () => Promise.reject(new ServerError({ code: "X", number }));
  await assert.rejects(
    catchUp(cursor, 9, fail(503), () => {}),
    ServerError,
  );
  assert.equal(await catchUp(cursor, 9, fail(403), () => {}), true);
  assert.deepEqual([cursor.last, cursor.lagging, cursor.gap], [5, false, true]);
});
