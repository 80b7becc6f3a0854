// Amendments: the rule of the server, from the file that its own tests read.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Fold, fold } from "../../../clients/javascript/src/folding.js";
import { Message } from "../../../clients/javascript/src/message.js";

const cases = JSON.parse(readFileSync(new URL("../../protocol/folds.json", import.meta.url), "utf8"));

for (const { name, message, amendments, folded } of cases) {
  test(name, () => {
    const before = JSON.stringify([message, amendments]);
    const result = fold(message, amendments);
    assert.deepEqual(result, folded);
    assert.deepEqual(Object.keys(result.reactions ?? {}), Object.keys(folded.reactions ?? {}));
    assert.equal(JSON.stringify([message, amendments]), before);
    const all = new Fold();
    all.take(new Message(message));
    for (const each of [...amendments].reverse()) all.take(new Message(each));
    assert.deepEqual(all.messages.find((each) => each.id === message.id).raw, folded);
  });
}

test("a fold remembers the newest messages", () => {
  const all = new Fold({ keep: 2 });
  const frames = [1, 2, 3].map((seq) => ({ id: `m${seq}`, room: "a", channel: "b", from: "me", seq, payload: {} }));
  for (const frame of frames) all.take(new Message(frame));
  const react = { ...frames[0], type: "amend", of: "m1", of_seq: 1, do: "react", reaction: "x", seq: 4 };
  assert.equal(all.take(new Message(react)), null);
  assert.deepEqual(
    all.messages.map((each) => each.id),
    ["m2", "m3"],
  );
  assert.throws(() => new Fold({ keep: 0 }), RangeError);
});
