// Waiting for what a test expects, and handlers that throw.

import assert from "node:assert/strict";

/** Wait until `condition` is true. Throws after 10 seconds. */
export async function until(condition) {
  for (const end = Date.now() + 10_000; !condition();) {
    assert.ok(Date.now() < end, "it did not happen");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Quiet: what a handler throws is expected. */
export async function quietly(work) {
  const { reportError } = globalThis;
  const reported = [];
  globalThis.reportError = (problem) => reported.push(problem);
  try {
    await work(reported);
  } finally {
    globalThis.reportError = reportError;
  }
}
