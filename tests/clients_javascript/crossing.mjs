// Subscriptions that cross: opened, closed and opened again at random, over a line that takes its time and breaks.
// The model is one sentence: an open subscription is a member, and has every message since it was opened once and in
// order; nobody else is a member.

/** Random numbers that can be had again. */
export function dice(seed) {
  let state = seed >>> 0;
  return (sides) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % sides;
  };
}

const moment = (time) => new Promise((resolve) => setTimeout(resolve, time));

async function until(condition, what) {
  const end = performance.now() + 20_000;
  for (let found; ; await moment(10)) {
    if ((found = await condition())) return found;
    if (performance.now() > end) throw new Error(`not within 20 s: ${what}`);
  }
}

class Reader {
  constructor(bus, address, since) {
    Object.assign(this, { address, since, seqs: [], ended: false, error: null });
    this.subscription = bus.subscribe(address, { since });
    this.opened = this.subscription.open().then(
      () => true,
      (problem) => ((this.error = problem), false),
    );
    this.read = this.#read();
  }

  async #read() {
    if (!(await this.opened)) return;
    for await (const message of this.subscription) {
      if (message.text === "end") this.ended = true;
      this.seqs.push(message.seq);
    }
  }

  close() {
    this.closing = this.subscription.close();
  }
}

/** One run. `bus` is behind the line, `other` is not; `cut` breaks the line. The faults found, each a sentence. */
export async function crossing({ bus, other, room, seed, steps, cut }) {
  const roll = dice(seed);
  const addresses = ["a", "b", "c"].map((name) => `${room}:${name}-${seed}`);
  const any = (list) => list[roll(list.length)];
  const readers = new Set();
  const all = [];
  const open = (address = any(addresses)) => {
    const reader = new Reader(bus, address, roll(2) ? 0 : null);
    readers.add(reader);
    all.push(reader);
    return reader;
  };
  const close = (reader) => {
    readers.delete(reader);
    reader?.close();
  };
  // Somebody stays in the channels, so that they are the same ones all the time.
  for (const address of addresses) await other.join(address);
  for (let step = 0; step < steps; step += 1) {
    const what = roll(20);
    if (what < 6) open();
    else if (what < 11 && readers.size) close(any([...readers]));
    else if (what < 14) {
      // As React does in strict mode: an effect, its clean-up, and the effect again, in one go.
      const reader = open();
      close(reader);
      open(reader.address);
    } else if (what < 18) await other.publish(any(addresses), `${step}`);
    else if (what === 18) await cut();
    if (roll(3)) await moment(roll(12));
  }
  await bus.whenConnected();
  await Promise.all([...readers].map((reader) => reader.opened));
  await Promise.all(all.map((reader) => reader.closing));
  const heads = new Map();
  for (const address of addresses) heads.set(address, (await other.publish(address, "end")).seq);
  const faults = [];
  for (const reader of readers) {
    await until(() => reader.ended || reader.error, `the end of ${reader.address}`).catch((problem) =>
      faults.push(problem.message),
    );
    const { address, since, seqs, error } = reader;
    const first = since === 0 ? 1 : seqs[0];
    const wanted = Array.from({ length: heads.get(address) - first + 1 }, (_, i) => first + i);
    if (error) faults.push(`${address}: ${error.message}`);
    if (seqs.join() !== wanted.join()) faults.push(`${address} since ${since}: ${seqs} and not ${wanted}`);
    if (reader.subscription.gaps) faults.push(`${address}: a gap that is none`);
  }
  const member = async (address) =>
    (await other.channelInfo(address)).participants.some((row) => row.client_id === bus.clientId);
  const held = (address) => [...readers].some((reader) => reader.address === address);
  for (const address of addresses) {
    const right = async () => (await member(address)) === held(address);
    await until(right, `${address}: member ${held(address)}`).catch((problem) => faults.push(problem.message));
  }
  for (const reader of [...readers]) close(reader);
  await Promise.all(all.map((reader) => reader.closing));
  for (const address of addresses) if (await member(address)) faults.push(`${address} is not left at the end`);
  await Promise.all(all.map((reader) => reader.read));
  return faults;
}
