// What the console holds of one channel.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Message } from "../../../bus/static/arqonbus/arqonbus.js";
import { HELD, MessageLog, NO_FILTERS, PAGE, itemOf } from "../../../bus/static/arqonbus/console/views/messages/log.js";

const ADDRESS = "science:explore";
const frame = (seq, rest = {}) => ({
  id: `id-${seq}`,
  type: "event",
  room: "science",
  channel: "explore",
  from: "writer",
  seq,
  timestamp: new Date(seq * 1000).toISOString(),
  message: `message ${seq}`,
  ...rest,
});
const item = (seq, rest) => itemOf(new Message(frame(seq, rest)), seq);

/** A log over a history of `size` messages. */
function over(size) {
  const bus = {
    asked: [],
    async historyPage(_address, options) {
      this.asked.push(options);
      const end = options.before ?? size + 1;
      const begin = Math.max(1, end - options.limit);
      const messages = Array.from({ length: end - begin }, (_, index) => new Message(frame(begin + index)));
      return { messages, next: begin > 1 ? begin : null };
    },
  };
  return { bus, log: new MessageLog({ session: { bus } }, ADDRESS) };
}

const shown = (log) => log.shown.map((each) => each.frame.seq);

test("older pages come before what is held, until there is nothing older", async () => {
  const { log } = over(PAGE + 5);
  assert.equal(await log.loadOlder(), true);
  assert.deepEqual([log.shown.length, log.exhausted], [PAGE, false]);
  await log.loadOlder();
  assert.deepEqual([shown(log)[0], log.shown.length, log.exhausted], [1, PAGE + 5, true]);
});

test("a message that came live and with the first page is shown once", async () => {
  const { log } = over(3);
  await log.loadOlder();
  assert.equal(log.add([item(2), item(3)]), null);
  assert.equal(log.add([item(3), item(4)]), 1);
  assert.deepEqual(shown(log), [1, 2, 3, 4]);
});

test("a page that was asked for before a reset is not used", async () => {
  const { log } = over(3);
  const loading = log.loadOlder();
  log.reset();
  assert.equal(await loading, false);
  assert.deepEqual(log.held, []);
});

test("filters hold for live messages, and go to the server for older ones", async () => {
  const { bus, log } = over(3);
  log.filters = { ...NO_FILTERS, sender: "other", after: 2500 };
  assert.equal(log.filtering, true);
  await log.loadOlder();
  assert.equal(bus.asked[0].sender, "other");
  assert.equal(log.exhausted, true, "the oldest one is too old");
  assert.equal(log.add([item(4), item(5, { from: "other" })]), 1);
  assert.deepEqual(shown(log), [5]);
});

test("the oldest messages are dropped, and can be loaded again", async () => {
  const { bus, log } = over(HELD * 2);
  await log.loadOlder();
  log.exhausted = true;
  const many = Array.from({ length: HELD * 1.2 }, (_, index) => item(HELD * 2 + 1 + index));
  log.add(many);
  assert.equal(log.held.length, HELD);
  assert.equal(log.exhausted, false);
  assert.equal(log.edge, log.held[0].frame.seq);
  await log.loadOlder();
  assert.equal(bus.asked.at(-1).before, log.held[PAGE].frame.seq);
});

test("an answer that was met without its opening moves to its place in the history", async () => {
  const { log } = over(5);
  const late = frame(3, { stream: { mode: "text" }, late: true, timestamp: undefined });
  log.add([itemOf(new Message(late), 9), item(6)]);
  await log.loadOlder();
  assert.deepEqual(shown(log), [1, 2, 3, 4, 5, 6]);
  assert.equal(log.held[2].message.late, false);
});

test("an answer passes the filters once it has ended with the words that they want", () => {
  const { log } = over(0);
  log.filters = { ...NO_FILTERS, text: "needle" };
  const answer = item(1, { stream: { mode: "text", state: "complete", parts: 1 }, message: "a needle" });
  answer.text = "";
  const plain = item(2, { message: "the needle of another" });
  const begun = { ...answer, frame: frame(1, { message: undefined }) };
  log.add([begun, item(3, { message: "hay" }), plain]);
  assert.deepEqual(shown(log), [2]);
  assert.equal(log.ended(begun), true);
  assert.deepEqual(shown(log), [1, 2]);
  assert.equal(log.ended(begun), false);
});
