// What the console knows about the jobs of a work channel.

import assert from "node:assert/strict";
import { test } from "node:test";

import { JobStates, countsOf, merged, sentence } from "../../../bus/static/arqonbus/console/views/messages/jobs.js";

const change = (what, seq, by = "ada") => ({ what, seq, attempt: 1, by });
const notice = (...changes) => ({ event: "work", changes });

test("a notice is one line, and many changes are only counted", () => {
  const few = notice(change("claimed", 1), change("claimed", 2), change("done", 1, "kai"), change("dead", 3, null));
  assert.equal(sentence(few), "ada took jobs 1, 2 · kai finished job 1 · job 3 dead");
  assert.equal(sentence({ ...few, counts: { claimed: 900, done: 1, dead: 1 } }), "900 at work · 1 done · 1 dead");
  const many = notice(...Array.from({ length: 9 }, (_, seq) => change("done", seq)));
  assert.equal(sentence(many), "ada finished 9 jobs");
});

test("notices that follow one another are added up", () => {
  const both = merged(notice(change("claimed", 1)), {
    ...notice(change("claimed", 2)),
    counts: { claimed: 5, done: 4 },
  });
  assert.deepEqual([...countsOf(both)].sort(), [
    ["claimed", 6],
    ["done", 4],
  ]);
  assert.equal(both.changes.length, 2);
});

test("values that the protocol does not know are left out", () => {
  const odd = {
    changes: [null, { what: "constructor", seq: 1 }, { what: "done", seq: "1" }],
    counts: { toString: 3, done: "9" },
  };
  assert.equal(sentence(odd), "");
  assert.equal(sentence({ changes: "all", counts: null }), "");
});

test("the state of a job is the last one that is known", () => {
  const states = new JobStates();
  states.heard(notice(change("claimed", 1), change("claimed", 2), change("done", 2)));
  assert.deepEqual(
    [states.get(1).what, states.get(2).what, states.get(3), states.get(undefined)],
    [...["claimed", "done"], undefined, undefined],
  );
  // More changed than was listed: whoever was at work may be done.
  states.heard({ changes: [change("done", 9)], counts: { done: 70 } });
  assert.deepEqual([states.get(1), states.get(2).what], [undefined, "done"]);
  states.learn({ claimed: [{ seq: 5, attempt: 2, by: null }], claimed_count: 1, dead: [], dead_count: 0 });
  assert.deepEqual(states.get(5), { what: "claimed", attempt: 2, by: "" });
  states.learn({ claimed: [], claimed_count: 0, dead: [{ seq: 5, attempts: 2 }], dead_count: 1 });
  assert.equal(states.get(5).what, "dead");
});

test("at most twelve thousand jobs are remembered", () => {
  const states = new JobStates();
  for (let seq = 0; seq < 13_000; seq += 1) states.heard(notice(change("done", seq)));
  assert.equal(states.bySeq.size, 12_000);
  assert.equal(states.get(0), undefined);
});
