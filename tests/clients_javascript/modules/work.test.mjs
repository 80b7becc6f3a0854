// Leased work, at a server without sockets.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { Claims } from "../../../clients/javascript/src/claims.js";
import { BusClosed, ClaimLost, ServerError } from "../../../clients/javascript/src/errors.js";
import { JobWorker } from "../../../clients/javascript/src/job-worker.js";
import { Line } from "../../../clients/javascript/src/line.js";
import { Requests } from "../../../clients/javascript/src/requests.js";
import { quietly, until } from "./waiting.mjs";

const ADDRESS = "jobs:new";
const settled = () => new Promise(setImmediate);

/** @type {Desk[]} */
const desks = [];

afterEach(() => {
  for (const desk of desks.splice(0)) desk.close();
});

/** A server with a queue. What it hands out is answered at the next turn, unless it is `deaf`. */
class Desk {
  constructor() {
    Object.assign(this, { ready: [], claimed: new Map(), frames: [], waiting: [], refusals: [], connections: 0 });
    desks.push(this);
    this.line = new Line();
    this.requests = new Requests(this.line, 10_000, () => {});
    this.claims = new Claims({ line: this.line, requests: this.requests, connections: () => this.connections });
  }

  async connect({ deaf = false } = {}) {
    this.connections += 1;
    const link = { socket: { bufferedAmount: 0 }, ended: new Promise((resolve) => (this.end = resolve)) };
    link.send = (text) => {
      const frame = JSON.parse(text);
      this.frames.push([frame.command, frame.parameters]);
      const result = this.#do(frame);
      if (result && !deaf) setImmediate(() => this.#say(frame, result));
      return true;
    };
    this.line.link = link;
    await this.requests.sendAgain(link);
    this.line.up = true;
    this.line.wakeAll();
  }

  lose() {
    this.line.link = null;
    this.line.up = false;
    this.waiting = [];
    this.requests.connectionLost();
    this.end();
  }

  /** The bus is closed. */
  close(end = new BusClosed("The bus is closed.")) {
    this.line.failure ??= end;
    this.requests.fail(end);
    this.claims.fail(end);
    this.line.wakeAll();
  }

  offer(...payloads) {
    for (const payload of payloads) {
      this.seq = (this.seq ?? 0) + 1;
      this.ready.push({ seq: this.seq, payload, attempt: 0 });
    }
    const waiting = this.waiting.splice(0);
    for (const frame of waiting) this.#say(frame, this.#claim(frame.parameters));
  }

  #say({ id }, result) {
    const failed = result instanceof Error;
    const error = failed && {
      code: result.code,
      number: result.number,
      message: result.reason,
      details: result.details,
    };
    this.requests.answered({ type: failed ? "error" : "command_response", request_id: id, result, error });
  }

  #claim({ max, have }) {
    const known = have ?? [...this.claimed.keys()];
    const again = [...this.claimed].filter(([claim]) => !known.includes(claim)).map(([, job]) => job);
    const fresh = again.length ? [] : this.ready.splice(0, max);
    for (const job of fresh) {
      job.attempt += 1;
      job.claim = `c${job.seq}-${job.attempt}`;
      this.claimed.set(job.claim, job);
    }
    const message = ({ seq, payload }) => ({ type: "event", room: "jobs", channel: "new", from: "x", seq, payload });
    const claims = [...again, ...fresh].map((job) => ({ ...job, lease: 30, message: message(job) }));
    return { claims, ready: this.ready.length };
  }

  #do(frame) {
    const { command, parameters } = frame;
    if (this.refusals.length && command !== "claim") return this.refusals.shift();
    if (command === "claim") {
      const answer = this.#claim(parameters);
      if (answer.claims.length || !parameters.wait) return answer;
      this.waiting.push(frame);
      return null;
    }
    const job = this.claimed.get(parameters.claim);
    if (!job) return lost("taken", "other");
    if (command === "renew") return { claim: job.claim, lease: 30 };
    this.claimed.delete(parameters.claim);
    if (command === "release") this.ready.push(job);
    return { claim: job.claim, seq: job.seq, state: command === "done" ? "done" : "ready" };
  }

  said(command) {
    return this.frames.filter(([name]) => name === command).map(([, parameters]) => parameters);
  }
}

const lost = (why, by = null) =>
  new ClaimLost({ code: "CLAIM_LOST", number: 409, message: "lost", details: [{ claim: "c", why, by, seq: 1 }] });

test("a worker runs at most so many handlers, and what they return is the result", async () => {
  const desk = new Desk();
  await desk.connect();
  desk.offer({ n: 1 }, { n: 2 }, { n: 3 });
  const [running, most] = [new Set(), []];
  const worker = new JobWorker(
    desk.claims,
    ADDRESS,
    async (job) => {
      running.add(job);
      most.push(running.size);
      await settled();
      running.delete(job);
      return { twice: job.payload.n * 2 };
    },
    { concurrency: 2, onError: assert.fail },
  );
  await until(() => desk.said("done").length === 3);
  assert.ok(Math.max(...most) <= 2);
  assert.deepEqual(
    desk.said("done").map(({ result }) => result.twice),
    [2, 4, 6],
  );
  await worker.close();
  assert.deepEqual([worker.running, desk.claimed.size], [0, 0]);
});

test("a job whose handler throws is out again after a growing pause, with the error", async () => {
  const desk = new Desk();
  await desk.connect();
  await quietly(async (reported) => {
    desk.offer({ poison: true });
    const fail = () => {
      throw new TypeError("bitter");
    };
    const worker = new JobWorker(desk.claims, ADDRESS, fail, { onError: assert.fail });
    await until(() => desk.said("release").length >= 2);
    await worker.close();
    const [first, second] = desk.said("release");
    assert.deepEqual([first.delay, second.delay], [2, 4]);
    assert.equal(first.error, "TypeError: bitter");
    assert.equal(reported[0].message, "bitter");
  });
});

test("a handler may end the job itself", async () => {
  const desk = new Desk();
  await desk.connect();
  desk.offer({});
  const worker = new JobWorker(desk.claims, ADDRESS, (job) => job.reject("never"), { onError: assert.fail });
  await until(() => desk.said("reject").length === 1);
  await worker.close();
  assert.deepEqual([desk.said("reject")[0].error, desk.said("done").length], ["never", 0]);
});

test("jobs in an answer that was lost with its connection are found by the next claim", async () => {
  const desk = new Desk();
  await desk.connect();
  desk.offer({ n: 1 });
  const [mine] = await desk.claims.claim(ADDRESS, { max: 1, wait: 0 });
  desk.lose();
  await desk.connect({ deaf: true });
  desk.offer({ n: 2 });
  const asked = desk.claims.claim(ADDRESS, { max: 5, wait: 1_000 });
  await until(() => desk.claimed.size === 2);
  desk.lose();
  await assert.rejects(asked, { name: "ConnectionLost" });
  await desk.connect();
  const found = await desk.claims.claim(ADDRESS, { max: 5, wait: 1_000 });
  const [{ payload, attempt }] = found;
  assert.deepEqual([found.length, payload.n, attempt], [1, 2, 1]);
  assert.deepEqual(desk.said("claim").at(-1).have, [mine.claim]);
  // The server knows now. It is not told again on this connection.
  desk.offer({ n: 3 });
  await desk.claims.claim(ADDRESS, { max: 1, wait: 0 });
  assert.equal(desk.said("claim").at(-1).have, undefined);
});

test("a worker that lost its job hears why, and its signal aborts", async () => {
  const desk = new Desk();
  await desk.connect();
  desk.offer({});
  const [job] = await desk.claims.claim(ADDRESS, { max: 1, wait: 0 });
  desk.claimed.clear();
  const problem = await job.done().catch((each) => each);
  assert.ok(problem instanceof ClaimLost && problem instanceof ServerError);
  assert.deepEqual([problem.why, problem.by, problem.seq, job.state], ["taken", "other", 1, "lost"]);
  assert.equal(job.lost.reason, problem);
});

test("what a worker could not finish is an error of the bus, and it goes on", async () => {
  const desk = new Desk();
  await desk.connect();
  const errors = [];
  desk.refusals.push(lost("cancelled"));
  desk.offer({ n: 1 }, { n: 2 });
  const worker = new JobWorker(desk.claims, ADDRESS, () => 1, { onError: (problem) => errors.push(problem.why) });
  await until(() => desk.said("done").length === 2);
  assert.deepEqual(errors, ["cancelled"]);
  await worker.close();
});

test("a job whose result nobody can take is dead at once, and after another fault it is out again", async () => {
  const desk = new Desk();
  await desk.connect();
  const errors = [];
  const worker = new JobWorker(desk.claims, ADDRESS, (job) => job.payload.big && 3n, {
    onError: (problem) => errors.push(problem.code ?? problem.name),
  });
  desk.refusals.push(new ServerError({ code: "FRAME_TOO_LARGE", number: 413, message: "It is too large." }));
  desk.offer({ n: 1 });
  await until(() => errors.length === 1);
  desk.offer({ big: true });
  await until(() => errors.length === 2);
  desk.refusals.push(new ServerError({ code: "INTERNAL_ERROR", number: 500 }));
  desk.offer({ n: 3 });
  await until(() => errors.length === 3);
  assert.deepEqual(errors, ["FRAME_TOO_LARGE", "TypeError", "INTERNAL_ERROR"]);
  const [first, second] = desk.said("reject");
  assert.equal(first.error, "The result was refused. ServerError: FRAME_TOO_LARGE: It is too large.");
  assert.match(second.error, /BigInt/);
  assert.equal(desk.said("release")[0].delay, 2);
  await worker.close();
});

test("a finish is repeated while the server is busy", async () => {
  const desk = new Desk();
  await desk.connect();
  desk.refusals.push(new ServerError({ code: "UNAVAILABLE", number: 503 }));
  desk.offer({ n: 1 });
  const worker = new JobWorker(desk.claims, ADDRESS, () => 1, { onError: assert.fail });
  await until(() => desk.said("done").length === 2);
  await worker.close();
});

test("jobs that come when the worker is closed are given back", async () => {
  const desk = new Desk();
  await desk.connect();
  const worker = new JobWorker(desk.claims, ADDRESS, () => assert.fail(), { onError: assert.fail });
  await until(() => desk.waiting.length === 1);
  await worker.close();
  await worker.ended;
  desk.offer({});
  await until(() => desk.said("release").length === 1);
  assert.deepEqual(desk.said("release")[0].delay, 0);
});

test("a worker ends with its bus, and with a refusal", async () => {
  const desk = new Desk();
  await desk.connect();
  const worker = new JobWorker(desk.claims, ADDRESS, () => 1, { onError: assert.fail });
  await settled();
  const end = new BusClosed("The bus is closed.");
  desk.close(end);
  await worker.ended;
  assert.equal(worker.failure, end);
});
