// A line between a client and the server that takes its time, breaks, or goes dead. Its sockets are real, and it does
// not look into the bytes.
import net from "node:net";

// Those of node, whatever a test makes of the page's.
const { setTimeout } = globalThis;
const now = performance.now.bind(performance);

export class Line {
  /** A line to the bus at `url`; `delay` gives the milliseconds that the next bytes take. */
  static async to(url, delay = () => 0) {
    const line = new Line(new URL(url), delay);
    await new Promise((resolve) => line.door.listen(0, "127.0.0.1", resolve));
    line.url = `ws://127.0.0.1:${line.door.address().port}/`;
    return line;
  }

  constructor(target, delay) {
    Object.assign(this, { target, delay, dead: false, closed: false, pairs: new Set() });
    this.door = net.createServer((near) => this.#connect(near));
  }

  /** Break every connection. */
  cut() {
    for (const pair of this.pairs) pair.forEach((each) => each.destroy());
  }

  /** Nothing passes any more, and nobody is told; connections that come are taken and hear nothing. */
  hush() {
    this.dead = true;
  }

  /** Connections are refused from now on. */
  shut() {
    this.closed = true;
    this.cut();
  }

  /** As new: what was swallowed stays so. */
  mend() {
    Object.assign(this, { dead: false, closed: false });
  }

  /** The end. */
  end() {
    this.cut();
    this.door.close();
  }

  #connect(near) {
    if (this.closed) {
      near.destroy();
      return;
    }
    const far = net.connect(Number(this.target.port), this.target.hostname);
    const pair = [near, far];
    this.pairs.add(pair);
    for (const [from, to] of [pair, [far, near]]) {
      let free = 0;
      from.setNoDelay(true);
      from.on("data", (bytes) => {
        if (this.dead) return;
        // In the order in which they came, however long each of them takes.
        free = Math.max(free, now() + this.delay());
        setTimeout(() => to.writable && to.write(bytes), free - now());
      });
      from.on("error", () => {});
      from.on("close", () => {
        this.pairs.delete(pair);
        if (!this.dead) to.destroy();
      });
    }
  }
}
