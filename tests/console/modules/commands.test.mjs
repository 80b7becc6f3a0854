// The language of the console's prompt.

import assert from "node:assert/strict";
import { test } from "node:test";

import { complete, parse } from "../../../bus/static/arqonbus/console/views/commands/language.js";

const KNOWN = [
  { command: "help", summary: "Lists commands.", who: "everybody", parameters: { command: { type: "string" } } },
  {
    command: "history",
    summary: "Reads messages.",
    who: "everybody",
    parameters: { channel: { type: "string" }, limit: { anyOf: [{ type: "integer" }, { type: "null" }], default: 50 } },
  },
  { command: "hide", summary: "Hides.", who: "admin", parameters: {} },
];
const ADDRESSES = { room: ["science"], channel: ["science:explore", "science:share"] };
const offers = (line) => complete(line, KNOWN, ADDRESSES).map((offer) => offer.text);

test("a line is a name and parameters, whose values are JSON where they can be", () => {
  assert.deepEqual(parse("status"), ["status", {}]);
  assert.deepEqual(parse('history channel=science:explore limit=3 type="a b" all=true'), [
    "history",
    { channel: "science:explore", limit: 3, type: "a b", all: true },
  ]);
  assert.deepEqual(parse('x metadata={"a": 1, "b": 2}'), ["x", { metadata: { a: 1, b: 2 } }]);
  assert.throws(() => parse("status fast"), /fast is not a parameter/);
});

test("commands, their parameters and addresses are completed", () => {
  assert.deepEqual(offers("hi"), ["history ", "hide "]);
  assert.deepEqual(offers("history "), ["history channel=", "history limit="]);
  assert.deepEqual(offers("history limit=3 "), ["history limit=3 channel="]);
  assert.deepEqual(offers("history channel=sh"), ["history channel=science:share "]);
  assert.deepEqual(offers("help command=hi"), ["help command=history ", "help command=hide "]);
  for (const line of ["history", "nothing li", "history limit=4"]) assert.deepEqual(offers(line), [], line);
});

test("an offer says what it is about", () => {
  const about = (line) => complete(line, KNOWN, ADDRESSES).map((offer) => offer.about);
  assert.deepEqual(about("hid"), ["Hides. (admins)"]);
  assert.deepEqual(about("history li"), [" (integer, default 50)"]);
});
