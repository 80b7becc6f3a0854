// Amendments: the rule of the server, from the file that its own tests read.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Fold, fold, erasures } from "../../../clients/javascript/src/folding.js";
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

test("a fold drops the content of erased messages", () => {
  const frame = { id: "m1", room: "a", channel: "b", from: "me", seq: 1, message: "secret", payload: {} };
  const edit = { ...frame, type: "amend", of_seq: 1, do: "edit", edits: ["message"], message: "secreter", seq: 2 };
  const notice = (...messages) => ({ room: "a", channel: "b", payload: { event: "erased", messages } });
  const all = new Fold();
  for (const each of [frame, edit]) all.take(new Message(each));
  all.erase({ ...notice({ seq: 1 }), payload: {} });
  all.erase(notice({ seq: 2, of_seq: 1 }, { seq: 9 }, { seq: 3, of_seq: 1 }));
  assert.equal(all.messages[0].raw.edited.seq, 2);
  assert.ok(!JSON.stringify(all.messages).includes("secret"));
  const [told] = erasures(all, notice({ seq: 1 }));
  assert.deepEqual([told.erased, told.seq, told.text, told.folded], [true, null, "", all.messages[0]]);
  assert.ok(all.messages[0].erased);
  assert.ok(all.take(new Message(frame)).erased);
  const late = new Fold();
  late.take(new Message(frame));
  assert.ok(late.take(new Message({ ...frame, message: undefined, erased: true })).erased);
});
