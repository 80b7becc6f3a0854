// A server for the tests of owners, without sockets.

import { Answers } from "../../../clients/javascript/src/answers.js";
import { Line } from "../../../clients/javascript/src/line.js";
import { Requests } from "../../../clients/javascript/src/requests.js";
import { Streams } from "../../../clients/javascript/src/streams.js";

/** A server that keeps what comes in order, on one connection after another. */
export class Server {
  constructor({ have = 0 } = {}) {
    Object.assign(this, { have, text: "", state: "open", refusals: [], openings: 0, took: [], stopping: false });
    this.most = Infinity;
    this.line = new Line();
    this.requests = new Requests(this.line, 10_000, () => {});
    this.answers = new Answers(async () => null);
    this.streams = new Streams({ line: this.line, requests: this.requests, answers: this.answers });
  }

  /** Connected: what comes is answered at the next turn, until it is `deaf`. */
  async connect({ deaf = false } = {}) {
    const ended = new Promise((resolve) => (this.end = resolve));
    const link = {
      ...{ socket: { bufferedAmount: 0 }, ended },
      send: (text) => {
        const frame = JSON.parse(text);
        const answer = this.#answer(frame);
        if (!deaf && answer) queueMicrotask(() => this.line.link === link && this.requests.answered(answer));
        return true;
      },
    };
    this.line.link = link;
    await this.requests.sendAgain(link);
    this.line.up = true;
    this.line.wakeAll();
    this.streams.goOn();
  }

  lose() {
    this.line.link = null;
    this.line.up = false;
    this.requests.connectionLost();
    this.end();
  }

  #answer(frame) {
    const told = () => ({
      ...{ of: "arq_r1", have: this.have, state: this.state, attempt: 1 },
      ...(this.stopping ? { stopping: true } : {}),
    });
    const ack = (seq) => ({
      ...{ type: "ack", request_id: frame.id, room: "chat", channel: "42", seq, stream: told() },
    });
    const refuse = (code, number, details = [told()]) => ({
      ...{ type: "error", request_id: frame.id, error: { code, number, message: code, details, retry_after: 0 } },
    });
    if (frame.stream) {
      this.openings += 1;
      return ack(1);
    }
    const refusal = this.refusals.shift();
    if (refusal === "silence") return null;
    if (refusal) return refuse(...refusal);
    const content = frame.delta !== undefined;
    if (content && frame.n === this.have + 1 && this.text.length + frame.delta.length > this.most) {
      return refuse("FRAME_TOO_LARGE", 413);
    }
    if (content ? frame.n > this.have + 1 : frame.n !== this.have) return refuse("STREAM_GAP", 409);
    if (frame.n > this.have) {
      this.have = frame.n;
      this.text += frame.delta;
      this.took.push(...(frame.took ?? []));
    }
    if (frame.end && this.state === "open") {
      this.state = this.stopping ? "stopped" : frame.end;
      this.endedByOwner = true;
    } else if (frame.end && !this.endedByOwner) return refuse("STREAM_ENDED", 409);
    return ack(frame.end ? 2 : null);
  }

  open(mode = "text") {
    return this.streams.open({ type: "event", id: "r1", room: "chat", channel: "42" }, mode, 10_000);
  }
}
