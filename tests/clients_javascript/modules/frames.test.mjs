// What no server would accept, and what replaces a frame that cannot be read.

import assert from "node:assert/strict";
import { test } from "node:test";

import { frameFault, newId, replacementFor, rewriteJson } from "../../../clients/javascript/src/frames.js";

const code = (value, limits) => frameFault(JSON.stringify(value), limits)?.code ?? null;

test("half a character is refused, and a whole one is not", () => {
  assert.equal(code({ message: "\ud83d" }), "INVALID_JSON");
  assert.equal(code({ message: "😀" }), null);
  assert.equal(code({ message: "\\ud83d" }), null);
  const escaped = '{"message":"\\ud83d\\ude00"}';
  assert.equal(frameFault(escaped, {}, rewriteJson(escaped)), null);
});

test("numbers have 64 bits or are doubles", () => {
  for (const good of ["18446744073709551615", "-9223372036854775808", "1e308", '"1e999"']) {
    assert.equal(frameFault(`{"n":${good}}`), null, good);
  }
  for (const bad of ["18446744073709551616", "-9223372036854775809", "1e999"]) {
    assert.equal(frameFault(`{"n":${bad}}`)?.code, "VALIDATION_ERROR", bad);
  }
});

test("the server's limits of depth and bytes hold, and 0 is no limit", () => {
  const nested = { a: [{ b: [1] }] };
  assert.equal(code(nested, { depth: 4 }), null);
  assert.equal(code(nested, { depth: 3 }), "INVALID_JSON");
  assert.equal(code({ a: "[[[[{" }, { depth: 2 }), null);
  const text = { message: "ä".repeat(50) };
  const size = new TextEncoder().encode(JSON.stringify(text)).length;
  assert.equal(code(text, { bytes: size }), null);
  assert.equal(code(text, { bytes: size - 1 }), "FRAME_TOO_LARGE");
  assert.equal(code(text, { bytes: 0, depth: 0 }), null);
});

test("an unreadable message keeps its place, and an unreadable answer is a failure of its request", () => {
  const message = replacementFor('{"type":"event","room":"a","channel":"b","seq":7,"payload":{"n":1e');
  assert.deepEqual(message, { type: "event", room: "a", channel: "b", seq: 7, payload: {}, unreadable: true });
  const answer = replacementFor('{"type":"command_response","request_id":"r1","result":{"n":');
  assert.deepEqual([answer.type, answer.request_id, answer.error.code], ["error", "r1", "INTERNAL_ERROR"]);
  for (const lost of ["", "{", "[1", '{"type":"system","payload":{']) assert.equal(replacementFor(lost), null, lost);
});

test("ids are new each time", () => {
  const ids = new Set(Array.from({ length: 100 }, newId));
  assert.equal(ids.size, 100);
  for (const id of ids) assert.match(id, /^arq_[0-9a-f]{32}$/);
});
