// Pauses, the semaphore and the queue of each key.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff, KeyedQueue, Semaphore } from "../../../clients/javascript/src/pacing.js";

test("pauses grow up to a bound, obey the server, and start again", () => {
  const backoff = new Backoff({ first: 100, most: 1000, jitter: () => 1 });
  assert.deepEqual(
    Array.from({ length: 6 }, () => backoff.pause()),
    [100, 200, 400, 800, 1000, 1000],
  );
  assert.equal(backoff.pause(3000), 3100);
  backoff.reset();
  assert.equal(backoff.pause(), 100);
  assert.equal(new Backoff({ first: 100, jitter: () => 0 }).pause(), 50);
});

test("a semaphore lets in so many at once, in order", async () => {
  const semaphore = new Semaphore(2);
  const entered = [];
  const enter = (name) => semaphore.acquire().then(() => entered.push(name));
  await Promise.all([enter("a"), enter("b")]);
  const [third, fourth] = [enter("c"), enter("d")];
  assert.deepEqual(entered, ["a", "b"]);
  semaphore.release();
  await third;
  semaphore.release();
  await fourth;
  assert.deepEqual(entered, ["a", "b", "c", "d"]);
});

test("the work of one key runs in order, also after a failure, and leaves nothing behind", async () => {
  const queue = new KeyedQueue();
  const done = [];
  let openGate;
  const gate = new Promise((resolve) => (openGate = resolve));
  const first = queue.run("a", () => gate.then(() => done.push("first")));
  const failing = queue.run("a", () => Promise.reject(new Error("no")));
  const last = queue.run("a", () => done.push("last"));
  await queue.run("b", () => done.push("other key"));
  assert.deepEqual(done, ["other key"]);
  openGate();
  await assert.rejects(failing, /no/);
  await Promise.all([first, last]);
  assert.deepEqual(done, ["other key", "first", "last"]);
  await new Promise(setImmediate);
  assert.equal(queue.last.size, 0);
});
