// What the refusals of openings and adoptions mean.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ServerError } from "../../../clients/javascript/src/errors.js";
import { Streams } from "../../../clients/javascript/src/streams.js";

test("a run of another channel is refused, and says so", async () => {
  const frames = [];
  const request = async (frame) => {
    frames.push(frame);
    const [code, number, message] = frame.command
      ? ["STREAM_NOT_FOUND", 404, "There is no such stream."]
      : ["VALIDATION_ERROR", 400, "You sent another message with this id to another channel."];
    throw new ServerError({ code, number, message, details: [{ field: "id" }] });
  };
  const streams = new Streams({ requests: { request } });
  const reason = "The run 'r1' names a message of another channel. A run is unique on the whole bus.";
  const opening = { type: "event", id: "r1", room: "chat", channel: "42" };
  await assert.rejects(streams.open(opening, "text", 10_000), { code: "VALIDATION_ERROR", reason });
  await assert.rejects(streams.adopt("arq_r1", true, "chat:42"), { code: "STREAM_NOT_FOUND", reason });
  const { room, channel, parameters } = frames[1];
  // An older server ignores what stands beside the parameters, and refuses unknown parameters.
  assert.deepEqual([room, channel, parameters], ["chat", "42", { of: "arq_r1", keep: true }]);
});
