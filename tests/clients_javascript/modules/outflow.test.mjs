// What an owner still has to send of its streamed message: numbers, cuts, and what does not fit.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Outflow } from "../../../clients/javascript/src/outflow.js";

const drain = (flow) => {
  const appends = [];
  for (let next; (next = flow.next());) appends.push(next);
  return appends;
};

test("texts go together, and never break a character", () => {
  const flow = new Outflow("text");
  for (const piece of ["Hel", "lo ", "\ud83d"]) flow.write(piece);
  flow.roll();
  flow.write("\ude00!");
  flow.roll();
  assert.deepEqual(drain(flow), [
    { n: 1, delta: "Hello " },
    { n: 2, delta: "😀!" },
  ]);
  assert.throws(() => flow.write("a\ude00"), { code: "INVALID_JSON" });
  assert.throws(() => flow.write("\ud83dx"), { code: "INVALID_JSON" });
});

test("a long text has several numbers, each with little enough of JSON", () => {
  const bytes = (text) => new TextEncoder().encode(JSON.stringify(text)).length - 2;
  const long = `${"x".repeat(32 * 1024 - 1)}😀`.repeat(3);
  for (const text of [long, '\u0001"\n'.repeat(20_000), "é€😀".repeat(20_000), `x${"😀".repeat(20_000)}`]) {
    const flow = new Outflow("text");
    flow.write(text);
    flow.roll();
    const appends = drain(flow);
    assert.ok(appends.length > 1);
    // A cut in the middle of a character would be written as an escape.
    for (const { delta } of appends) assert.ok(bytes(delta) <= 32 * 1024 && !/\\ud/.test(JSON.stringify(delta)));
    assert.equal(appends.map((each) => each.delta).join(""), text);
    assert.equal(flow.size, text.length);
  }
});

test("of text that is too much, the halves are tried, and nothing is taken behind it", () => {
  const flow = new Outflow("text", 2);
  flow.write("😀😀😀");
  flow.roll();
  const [append] = drain(flow);
  assert.equal(flow.halve(append), true);
  flow.write("behind it");
  flow.end("complete");
  assert.deepEqual(drain(flow), [
    { n: 3, delta: "😀" },
    { n: 4, delta: "😀😀" },
  ]);
  const [first] = flow.acked(3);
  assert.equal(first.delta, "😀");
  flow.drop({ n: 4, delta: "😀😀" });
  assert.deepEqual([flow.last, flow.full, flow.idle], [3, false, true]);
  // One character is not halved.
  flow.write("😀");
  flow.roll();
  assert.equal(flow.halve(drain(flow)[0]), false);
});

test("what the server does not have is sent again, with the same numbers", () => {
  const flow = new Outflow("parts", 5);
  for (const n of [6, 7, 8]) flow.part({ n });
  flow.take("arq_s1");
  flow.part({ n: 9 });
  flow.end("complete", { out: 4 });
  const sent = drain(flow);
  assert.deepEqual(sent.at(-1), { n: 9, part: { n: 9 }, took: ["arq_s1"], end: "complete", payload: { out: 4 } });
  assert.deepEqual(
    flow.acked(7).map((each) => each.n),
    [6, 7],
  );
  flow.rewind();
  assert.deepEqual(drain(flow), sent.slice(2));
  // The part of the end is kept, but whether the end is remains open until its own answer.
  flow.acked(9);
  flow.rewind();
  assert.deepEqual(drain(flow), sent.slice(3));
  flow.acked(9, true);
  assert.equal(flow.idle, true);
});

test("an end without anything to say has the number of the last part", () => {
  const flow = new Outflow("text");
  flow.write("a");
  flow.roll();
  drain(flow);
  flow.take("arq_s1");
  flow.end("stopped");
  assert.deepEqual(drain(flow), [{ n: 1, end: "stopped", took: ["arq_s1"] }]);
  const empty = new Outflow("text");
  empty.end("complete");
  assert.deepEqual(drain(empty), [{ n: 0, end: "complete" }]);
});

test("text that was given up leaves the numbers of what the server has", () => {
  const flow = new Outflow("text", 2);
  flow.write("too long");
  flow.roll();
  flow.drop(flow.next());
  assert.deepEqual([flow.last, flow.size, flow.idle], [2, 0, true]);
});
