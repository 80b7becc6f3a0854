// Streamed messages as readers see them: parts, snapshots, ends, and the messages of a subscription that show them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Answers } from "../../../clients/javascript/src/answers.js";
import { StreamReset } from "../../../clients/javascript/src/errors.js";
import { Growth } from "../../../clients/javascript/src/growth.js";
import { Logs } from "../../../clients/javascript/src/logs.js";
import { Message } from "../../../clients/javascript/src/message.js";
import { Subscription } from "../../../clients/javascript/src/subscription.js";

const ADDRESS = "chat:42";
const place = { room: "chat", channel: "42" };
const opening = (seq, of = "arq_a1", mode = "text") => ({
  ...{ id: of, type: "event", ...place, from: "owner", seq, stream: { mode }, payload: { role: "assistant" } },
});
const part = (n, delta, of = "arq_a1") => ({ type: "append", ...place, of, n, delta });
const snapshot = (upto, text, rest = {}) => ({
  ...{ type: "append", ...place, of: "arq_a1", upto, text, snapshot: true, attempt: 1, mode: "text", ...rest },
});
const end = (seq, message, { of = "arq_a1", of_seq = 1, state = "complete", parts = 9, ...rest } = {}) => ({
  ...{ id: `${of}_end`, type: "stream_end", ...place, from: "owner", seq, of, of_seq },
  ...{ stream: { mode: "text", state, parts }, untaken: [], payload: {}, message, ...rest },
});
const plain = (seq) => ({ id: `arq_${seq}`, type: "event", ...place, from: "other", seq, message: `m${seq}` });

test("a part is applied when it is the next one, and at no other time", () => {
  const growth = Growth.in(opening(1));
  for (const each of [part(1, "a"), part(1, "a"), part(3, "c"), part(2, "b"), part(1, "x")]) growth.append(each);
  assert.deepEqual([growth.text, growth.have, growth.behind], ["abc", 3, false]);
  growth.append(part(6, "f"));
  assert.deepEqual([growth.text, growth.behind], ["abc", true]);
  growth.append(snapshot(5, "abcde"));
  assert.deepEqual([growth.text, growth.have, growth.behind, growth.resets], ["abcdef", 6, false, 0]);
});

test("an older snapshot of the same owner is ignored, and a later owner's replaces what is there", () => {
  const growth = Growth.in(opening(1));
  growth.append(snapshot(3, "abc"));
  growth.append(snapshot(2, "ab"));
  assert.equal(growth.text, "abc");
  growth.append(snapshot(0, "", { attempt: 2 }));
  growth.append(part(1, "new"));
  assert.deepEqual([growth.text, growth.have, growth.resets], ["new", 1, 1]);
  growth.append(snapshot(3, "abc"));
  assert.equal(growth.text, "new");
});

test("the end carries all of it, and nothing changes behind it", () => {
  const growth = Growth.in(opening(1));
  growth.append(part(1, "a"));
  growth.end(end(2, "all", { payload: { out: 4 }, untaken: ["arq_s1"], state: "aborted" }));
  growth.append(part(2, "b"));
  growth.end(end(3, "other"));
  const { text, state, have, endSeq, endPayload, untaken } = growth;
  assert.deepEqual([text, state, have, endSeq, endPayload], ["all", "aborted", 9, 2, { out: 4 }]);
  assert.deepEqual(untaken, ["arq_s1"]);
});

test("deltas give what is there, then what comes, and end with it", async () => {
  const message = new Message(opening(1), false, Growth.in(opening(1)));
  const growth = message._growth;
  growth.append(part(1, "Hel"));
  const heard = [];
  const reading = (async () => {
    for await (const delta of message.deltas()) heard.push(delta);
    return message.state;
  })();
  await new Promise(setImmediate);
  growth.append(part(2, "lo"));
  await new Promise(setImmediate);
  growth.end(end(2, "Hello!", { parts: 3 }));
  assert.equal(await reading, "complete");
  assert.deepEqual(heard, ["Hel", "lo", "!"]);
  assert.equal(await message.ended, "complete");
});

test("deltas fail when their text is thrown away, and can begin again", async () => {
  const growth = Growth.in(opening(1));
  growth.append(part(1, "dead"));
  const deltas = growth.deltas();
  assert.equal((await deltas.next()).value, "dead");
  growth.append(snapshot(0, "", { attempt: 2 }));
  await assert.rejects(deltas.next(), StreamReset);
  growth.append(part(1, "alive"));
  assert.equal((await growth.deltas().next()).value, "alive");
});

test("a list of parts grows, is replaced, and ends like a text", async () => {
  const growth = Growth.in(opening(1, "arq_a1", "parts"));
  const event = (n) => ({ type: "append", ...place, of: "arq_a1", n, part: { n } });
  for (const n of [1, 2]) growth.append(event(n));
  growth.append({ ...snapshot(3), text: undefined, mode: "parts", parts: [{ n: 1 }, { n: 2 }, { n: 3 }] });
  assert.deepEqual([growth.parts.length, growth.have, growth.resets], [3, 3, 0]);
  growth.end({
    ...end(2),
    message: undefined,
    parts: [{ n: 7 }],
    stream: { mode: "parts", state: "complete", parts: 1 },
  });
  assert.deepEqual([growth.parts, growth.resets], [[{ n: 7 }], 1]);
});

test("a folded message is one with its text and state", () => {
  const stream = { mode: "text", state: "complete", parts: 2, end_seq: 9 };
  const message = new Message({ ...opening(4), stream, message: "whole", end_payload: { out: 1 } });
  assert.deepEqual([message.id, message.text, message.state, message.seq], ["arq_a1", "whole", "complete", 4]);
  assert.deepEqual([message.payload, message.endPayload, message.endSeq], [{ role: "assistant" }, { out: 1 }, 9]);
  assert.equal(new Message(plain(1)).state, null);
});

// --- in a subscription ---

/** A client with one subscription, and the frames that reach it. */
function client({ since = 0, log = [], folded = async () => null, ...options } = {}) {
  const answers = new Answers(folded);
  const logs = new Logs((address) => answers.leave(address));
  const subscribe = (more = {}) =>
    new Subscription(
      {
        ...{ clientId: "me", closed: false, answers },
        attach: async (subscription) => {
          subscription._startAt(ADDRESS, { seq: more.since ?? since, epoch: "a" });
          logs.add(subscription);
        },
        detach: async (subscription) => logs.remove(subscription),
        historyFrames: async (_address, after, limit) => log.filter((each) => each.seq > after).slice(0, limit),
        onError: (problem) => assert.fail(problem),
      },
      ADDRESS,
      { buffer: 10, ...options, ...more },
    );
  const hear = (...frames) => {
    for (const frame of frames) {
      if (frame.type === "append") {
        const growth = answers.append(ADDRESS, frame);
        for (const each of logs.receivers(ADDRESS)) each._grows(growth);
      } else {
        if (frame.stream) answers.take(frame);
        for (const each of logs.receivers(ADDRESS)) each._deliver(ADDRESS, frame);
      }
    }
  };
  return { answers, logs, hear, subscribe, subscription: subscribe() };
}

const take = async (subscription) => (await subscription.next()).value;

test("a subscription gives a streamed message once, and its end is only a place", async () => {
  const { hear, subscription, answers } = client();
  await subscription.open();
  hear(opening(1), part(1, "a"), plain(2), part(2, "b"));
  const message = await take(subscription);
  assert.deepEqual([message.text, message.state, message.late], ["ab", "open", false]);
  hear(end(3, "ab!", { parts: 3 }), plain(4));
  assert.deepEqual([message.text, message.state], ["ab!", "complete"]);
  assert.equal((await take(subscription)).seq, 2);
  // Behind the message 2 there is only the end, which needs no reader.
  assert.deepEqual(subscription.position, { seq: 3, epoch: "a" });
  assert.equal((await take(subscription)).seq, 4);
  assert.equal(answers.get("arq_a1"), null);
});

test("behind the end of all that it gave, a subscription stands behind the end", async () => {
  const { hear, subscription } = client();
  await subscription.open();
  hear(opening(1));
  await take(subscription);
  hear(end(2, "done"));
  assert.deepEqual(subscription.position, { seq: 2, epoch: "a" });
});

test("who joins behind the opening gets what has arrived, and then what comes", async () => {
  const { hear, subscription, subscribe } = client({ since: 7 });
  await subscription.open();
  hear(snapshot(812, "so far", { of_seq: 5, from: "owner" }), part(813, "!"));
  const message = await take(subscription);
  assert.deepEqual([message.id, message.text, message.late, message.sender], ["arq_a1", "so far!", true, "owner"]);
  // The place of the opening lies before what is read, so it is none of the reader's.
  assert.equal(subscription.position, null);
  const second = await subscribe().open();
  hear(end(8, "so far!?", { of_seq: 5 }));
  assert.equal(message.text, "so far!?");
  assert.equal((await take(second)).text, "so far!?");
  assert.equal(second.waiting, 0);
});

test("a second reader from the beginning gets the opening and no other message for it", async () => {
  const { hear, subscription, subscribe } = client();
  await subscription.open();
  hear(opening(1), part(1, "a"));
  const first = await take(subscription);
  const second = await subscribe({ since: 0 }).open();
  hear(opening(1), part(2, "b"), end(2, "ab"));
  const again = await take(second);
  assert.deepEqual(
    [first.text, again.text, again.late, second.waiting, subscription.waiting],
    ["ab", "ab", false, 0, 0],
  );
});

test("an end without its opening is one complete message", async () => {
  const { hear, subscription } = client({ since: 5 });
  await subscription.open();
  hear(end(6, "all of it", { of_seq: 2, payload: { out: 3 } }));
  const message = await take(subscription);
  assert.deepEqual([message.id, message.text, message.state, message.late], ["arq_a1", "all of it", "complete", true]);
  assert.deepEqual([message.type, message.payload, message.endPayload], ["event", {}, { out: 3 }]);
});

test("behind a full buffer an answer is found in the history, also while its reader waits for the end", async () => {
  const log = [plain(1), plain(2), opening(3), end(4, "whole"), plain(5)];
  const stream = { mode: "text", state: "complete", parts: 9, end_seq: 4 };
  const read = client({ log, buffer: 1, folded: async () => ({ ...opening(3), stream, message: "whole" }) });
  const { hear, subscription } = read;
  await subscription.open();
  hear(...log);
  const heard = [];
  while (heard.length < 4) {
    const message = await take(subscription);
    assert.equal(await message.ended, message.seq === 3 ? "complete" : null);
    heard.push(message.text);
  }
  assert.deepEqual(heard, ["m1", "m2", "whole", "m5"]);
});

test("a channel that was left ends the reading of its open answers", async () => {
  const { hear, subscription, logs } = client();
  await subscription.open();
  logs.continueAt(ADDRESS, { seq: 0, epoch: "a" });
  hear(opening(1), part(1, "a"));
  const message = await take(subscription);
  logs.forget(ADDRESS, new Set());
  assert.equal(await message.ended, "open");
  const heard = [];
  for await (const delta of message.deltas()) heard.push(delta);
  assert.deepEqual(heard, ["a"]);
});

test("without parts a message is empty until its end", async () => {
  const { hear, subscription } = client({ since: 3, parts: false });
  await subscription.open();
  hear(snapshot(2, "ab", { of_seq: 1 }));
  assert.equal(subscription.waiting, 0);
  hear(opening(4, "arq_b"));
  const message = await take(subscription);
  assert.equal(message.text, "");
  hear(end(5, "whole", { of: "arq_b", of_seq: 4 }));
  assert.equal(message.text, "whole");
});
