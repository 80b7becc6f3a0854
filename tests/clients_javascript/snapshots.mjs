// A page with a state of its own, which it takes again whenever messages are lost.
import { Backoff, connect } from "../../clients/javascript/arqonbus.js";
import { Line } from "./line.mjs";

export const snapshots = ({ url, given, say, until }) => ({
  async snapshot() {
    const line = await Line.to(url);
    const backoff = new Backoff({ first: 20, most: 100 });
    const [bus, other] = [
      await connect(line.url, { clientId: given.clientId, backoff }),
      await connect(url, { token: given.token }),
    ];
    const { address } = given;
    let [state, calls] = [[], 0];
    const write = async (text) => {
      await other.publish(address, text);
      state.push(text);
    };
    const snapshot = async () => {
      calls += 1;
      if (calls === 2) throw new Error("The view is away for a moment.");
      const { epoch, seq } = await other.channelInfo(address);
      // What is written meanwhile comes as a message.
      if (calls === 1) await other.publish(address, "meanwhile");
      return { state: [...state], position: { epoch, seq } };
    };
    const errors = [];
    bus.on("error", (problem) => errors.push(problem.message));
    await write("one");
    await write("two");
    const messages = bus.subscribe(address, { snapshot });
    const heard = [];
    const hear = async (count) => {
      for (let n = 0; n < count; n += 1) {
        const { value } = await messages.next();
        heard.push(value.snapshot ?? value.text);
      }
    };
    await hear(2);
    await write("three");
    await hear(1);
    await write("never read");
    await until(() => messages.waiting === 1);
    line.shut();
    await until(async () => !(await other.channelInfo(address)).participant_count);
    await other.deleteChannel(address);
    state = [];
    await write("anew");
    line.mend();
    bus.reconnectNow();
    await until(() => messages.gaps);
    // Nothing more is written, and the new state comes all the same.
    await hear(1);
    await write("on");
    await hear(1);
    say("snapshot", { heard, errors, calls, gaps: messages.gaps, seq: messages.position.seq });
    await messages.close();
    say("closed", { done: (await messages.next()).done });
    bus.close();
    other.close();
    line.end();
  },
});
