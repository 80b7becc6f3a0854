/** The leased work of one channel, as its page shows it: the queue, the states of jobs, and notices in the timeline. */
import { JobStates } from "./jobs.js";
import { noticeOf } from "./log.js";
import { showNotice } from "./notice.js";
import { Queue } from "./queue.js";

/** @typedef {import("../../session.js").App} App */
/** @typedef {import("./log.js").Item} Item */

export class ChannelWork {
  /** @type {() => unknown} */
  #stopListening;

  /**
   * @param {App} app
   * @param {string} address
   * @param {{ pane: import("../../parts.js").DetailPane, select: (seq: number) => void,
   *   arrived: (item: Item) => void, redraw: () => void }} view `arrived` gets the rows of notices
   */
  constructor(app, address, { pane, select, arrived, redraw }) {
    this.pane = pane;
    this.select = select;
    this.states = new JobStates();
    this.queue = new Queue(app, address, { states: this.states, onchange: redraw, pane, select });
    this.#stopListening = app.session.bus.on("notice", (/** @type {Record<string, any>} */ frame) => {
      if (frame.payload?.event !== "work" || `${frame.room}:${frame.channel}` !== address) return;
      this.states.heard(frame.payload);
      this.queue.start();
      this.queue.changed();
      arrived(noticeOf(frame, Date.now()));
      redraw();
    });
  }

  get element() {
    return this.queue.element;
  }

  /**
   * The page knows what the server says about the channel.
   * @param {import("../../../arqonbus.js").ChannelInfo | null} info
   */
  learn(info) {
    if (info?.metadata.work) this.queue.start();
  }

  /** @param {Item} item a notice */
  show(item) {
    showNotice(this.pane, item, this.select);
  }

  close() {
    this.#stopListening();
    this.queue.close();
  }
}
