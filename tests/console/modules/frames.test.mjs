// Which frames the page keeps.

import assert from "node:assert/strict";
import { test } from "node:test";

import { FramesKept } from "../../../bus/static/arqonbus/console/frames-kept.js";

const texts = (frames, own) => frames.items(own).map((each) => each.text);

test("what the page itself says and hears pushes no frame of the visitor out", () => {
  const frames = new FramesKept(3);
  frames.push({ text: "asked", own: false });
  for (let n = 1; n <= 10; n += 1) frames.push({ text: `own ${n}`, own: true });
  frames.push({ text: "answered", own: false });
  assert.deepEqual(texts(frames, false), ["asked", "answered"]);
  assert.equal(frames.total, 12);
});

test("with the page's own ones they are in the order in which they came, and bounded", () => {
  const frames = new FramesKept(2);
  for (const [text, own] of [
    ["a", true],
    ["b", false],
    ["c", true],
    ["d", false],
  ])
    frames.push({ text, own });
  assert.deepEqual(texts(frames, true), ["a", "b", "c", "d"]);
  for (let n = 0; n < 100; n += 1) frames.push({ text: `${n}`, own: n % 2 === 0 });
  assert.equal(texts(frames, true).at(-1), "99");
  assert.ok(texts(frames, true).length <= 5);
});
