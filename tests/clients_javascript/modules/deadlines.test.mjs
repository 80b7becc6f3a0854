// Whether the time of a question is over, by the server's clock.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Deadlines } from "../../../clients/javascript/src/deadlines.js";
import { Message } from "../../../clients/javascript/src/message.js";

const question = (asked) => new Message({ timestamp: new Date(asked).toISOString(), ask: { timeout: 20 } });

/** Whether a question of 20 seconds is over when the server's clock shows `seconds` more than at its beginning. */
async function isOver(asked, seconds) {
  const deadlines = new Deadlines();
  await deadlines.learn(async () => ({ timestamp: new Date(asked + seconds * 1_000).toISOString() }));
  return deadlines.over(question(asked));
}

test("the time on the server counts, and not that of this machine", async () => {
  for (const asked of [Date.now() - 3_600_000, Date.now() + 3_600_000]) {
    assert.deepEqual([await isOver(asked, 0), await isOver(asked, 22)], [false, true]);
  }
});

test("without the time on the server, a minute is left to differences of clocks", async () => {
  const deadlines = new Deadlines();
  await deadlines.learn(() => Promise.reject(new Error("no answer")));
  const over = [-10, -60, -90].map((seconds) => deadlines.over(question(Date.now() + seconds * 1_000)));
  assert.deepEqual(over, [false, false, true]);
});
