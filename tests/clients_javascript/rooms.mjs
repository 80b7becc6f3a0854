// Scenarios of rooms that are followed, first screens and amendments, at real servers.
import { Backoff, connect } from "../../clients/javascript/arqonbus.js";

const backoff = () => new Backoff({ first: 20, most: 100 });

const take = async (subscription, count) => {
  const messages = [];
  for (let index = 0; index < count; index += 1) messages.push((await subscription.next()).value);
  return messages;
};

export const rooms = ({ url, given, say, until }) => ({
  async followed() {
    // A room is followed over a restart of the server. Its channels come into being meanwhile.
    const { room } = given;
    const [bus, speaker] = [await connect(url, { backoff: backoff() }), await connect(url, { backoff: backoff() })];
    await speaker.publish(`${room}:a`, "past");
    const messages = await bus.follow(room, { buffer: 3 }).open();
    const sent = [];
    const write = async (part) => {
      for (let n = 0; n < 12; n += 1) {
        sent.push(`${part}${n}`);
        await speaker.publish(`${room}:${"abc"[n % 3]}`, `${part}${n}`);
      }
    };
    await write("before");
    say("written");
    await until(() => bus.connections > 1 && bus.connected && speaker.connections > 1 && speaker.connected);
    await write("after");
    const heard = (await take(messages, sent.length)).map((each) => each.text);
    const { positions, channels, gaps, truncated } = messages;
    await messages.close();
    await speaker.publish(`${room}:b`, "last");
    await speaker.publish(`${room}:later`, "the first of a new channel");
    const again = await bus.follow(room, { since: positions }).open();
    const last = (await take(again, 2)).map((each) => each.text).sort();
    const places = bus.follow(`${room}-2`);
    await places.open();
    const untaken = await bus.follow(room).open();
    say("followed", {
      missing: sent.filter((each) => !heard.includes(each)),
      heard: heard.length,
      positions: Object.fromEntries(Object.entries(positions).map(([name, { seq }]) => [name, seq])),
      channels: channels.filter((name) => name !== "*").sort(),
      gaps,
      truncated,
      last,
      empty: places.positions,
      places: Object.fromEntries(Object.entries(untaken.positions).map(([name, { seq }]) => [name, seq])),
      connections: bus.connections,
    });
    process.exit(0);
  },

  async amended() {
    const { address } = given;
    const [alice, bob] = [await connect(url), await connect(url)];
    const live = await bob.subscribe(address, { fold: true }).open();
    const first = await alice.publish(address, "helo");
    const second = await alice.publish(address, "second");
    const [seen] = await take(live, 2);
    await alice.edit(first, "hello");
    await seen.react("👍");
    await alice.react({ address, id: first.id }, "👍");
    await alice.delete(second);
    const changes = await take(live, 4);
    const forbidden = await bob.edit(first, "mine").catch((problem) => problem.code);
    const missing = await bob.delete({ address, id: "arq_none" }).catch((problem) => problem.code);
    const wrong = await bob.edit({}, "x").catch((problem) => problem.constructor.name);
    const page = (await bob.historyPage(address)).messages.map((each) => each.raw);
    const late = await take(await bob.subscribe(address, { since: 0, fold: true }).open(), 6);
    const screen = await take(await alice.subscribe(address, { last: 3 }).open(), 1);
    say("amended", {
      itself: seen.folded === seen,
      amends: changes[0].amends === first.id,
      texts: changes.map((each) => each.folded.text),
      reactions: changes[2].folded.reactions["👍"].map((each) => (each === bob.clientId ? "bob" : "alice")),
      edited: changes[2].folded.edited.by === alice.clientId,
      deleted: changes[3].folded.deleted !== null,
      same:
        JSON.stringify([late[4].folded.raw, late[5].folded.raw]) ===
        JSON.stringify([changes[2].folded.raw, changes[3].folded.raw]),
      page,
      live: [changes[2].folded.raw, changes[3].folded.raw],
      forbidden,
      missing,
      wrong,
      screen: screen[0].seq,
    });
    process.exit(0);
  },
});
