// Addresses, places and times.

import assert from "node:assert/strict";
import { test } from "node:test";

import { isJoinable, splitAddress } from "../../../clients/javascript/src/addresses.js";
import { isAnotherLog, isPosition, isoTime, placeIn, sinceTime } from "../../../clients/javascript/src/positions.js";

test("an address is a pair, and a room alone is the whole room", () => {
  assert.deepEqual(splitAddress("science:explore"), ["science", "explore"]);
  assert.deepEqual(splitAddress("science"), ["science", "*"]);
  assert.deepEqual(splitAddress("science:"), ["science", "*"]);
  for (const wrong of ["", ":explore", "a:b:c", null, undefined]) {
    assert.throws(() => splitAddress(wrong), { name: "TypeError", message: /is not an address\. .*room:channel/ });
  }
});

test("clients join channels, and neither inboxes nor whole rooms", () => {
  assert.equal(isJoinable("science:explore"), true);
  for (const address of ["science", "science:*", "pm:me", "*:*"]) assert.equal(isJoinable(address), false, address);
});

test("a time without a zone is UTC, and what is not a time is refused", () => {
  assert.equal(isoTime("2026-01-31"), "2026-01-31T00:00:00Z");
  assert.equal(isoTime("2026-01-31 10:20"), "2026-01-31T10:20Z");
  assert.equal(isoTime("2026-01-31T10:20:30,5+0130"), "2026-01-31T10:20:30.5+01:30");
  assert.equal(isoTime("2026-13-31"), null);
  assert.equal(sinceTime(new Date(0)), "1970-01-01T00:00:00.000Z");
  for (const wrong of ["yesterday", new Date(NaN), 5]) assert.throws(() => sinceTime(wrong), RangeError);
});

test("a place names its log, and an empty epoch is an unknown log", () => {
  assert.deepEqual(placeIn({ seq: 7, epoch: "" }), { seq: 7, epoch: null });
  assert.deepEqual(placeIn({ seq: 7, epoch: "a" }, 3), { seq: 3, epoch: "a" });
  assert.equal(isAnotherLog({ epoch: "a" }, { epoch: "b" }), true);
  assert.equal(isAnotherLog({ epoch: null }, { epoch: "b" }), false);
  assert.equal(isPosition({ seq: 1 }), true);
  for (const wrong of [null, 1, "1", new Date(0), {}]) assert.equal(isPosition(wrong), false);
});
