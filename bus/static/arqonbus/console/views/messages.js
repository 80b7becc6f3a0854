/** One channel: its live messages, its history, and the box to publish. */
import { Composer } from "../composer.js";
import { empty, fill, h, icon, toast } from "../dom.js";
import { detailPane } from "../parts.js";
import { Seen } from "../seen.js";
import { Meter } from "../store.js";
import { AnswerPane } from "./messages/answer.js";
import { absence, bareChannel, picker, refusal } from "./messages/blank.js";
import { ChannelWork } from "./messages/channel-work.js";
import { showMembers, showMessage } from "./messages/detail.js";
import { FAST, footParts } from "./messages/foot.js";
import { Growing } from "./messages/growing.js";
import { ChannelHead } from "./messages/head.js";
import { Jump } from "./messages/jump.js";
import { messageList } from "./messages/list.js";
import { HELD, MessageLog, PAGE, itemOf } from "./messages/log.js";
import { Toolbar } from "./messages/toolbar.js";

/** @typedef {import("../session.js").App} App */
/** @typedef {import("./messages/log.js").Item} Item */

/**
 * @param {App} app
 * @param {string} address
 * @param {URLSearchParams} parameters
 */
export function messages(app, address, parameters) {
  return address ? new Explorer(app, address, parameters) : picker(app);
}

class Explorer {
  /**
   * @param {App} app
   * @param {string} address
   * @param {URLSearchParams} parameters
   */
  constructor(app, address, parameters) {
    this.app = app;
    this.address = address;
    this.log = new MessageLog(app, address);
    /** @type {Item[]} what arrived while the view was paused */
    this.waiting = [];
    this.paused = false;
    /** Whether more waits than the view would hold. */
    this.skipped = false;
    /** @type {Item[]} what arrived since the view was drawn last */
    this.pending = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.drawing = undefined;
    /** @type {Promise<unknown> | null} */
    this.loading = null;
    this.joined = false;
    /** @type {HTMLElement | null} what to show because there is no channel */
    this.absent = null;
    /** @type {unknown} */
    this.problem = null;
    /** @type {import("../../arqonbus.js").Subscription | null} */
    this.subscription = null;
    this.meter = new Meter(2);
    /** Messages that arrived later than this are marked as fresh. */
    this.freshFrom = Infinity;
    this.wanted = Number(parameters.get("seq")) || null;

    this.toolbar = new Toolbar((filters) => {
      this.log.filters = filters;
      this.#reload();
    });
    this.pauseButton = h("button.small", { type: "button", name: "pause", onclick: () => this.#pause(!this.paused) });
    this.head = new ChannelHead(app, address, this.pauseButton, {
      onmembers: () => this.#showMembers(),
      leave: () => this.subscription?.close(),
    });
    this.foot = h("div.list-foot");
    this.blank = h("div", { hidden: true });
    /** @type {AnswerPane | null} the answer in the detail */
    this.answer = null;
    this.detail = detailPane(() => {
      this.answer?.close();
      this.list.clearSelection();
    });
    this.work = new ChannelWork(app, address, {
      pane: this.detail,
      select: (seq) => this.#select(seq),
      arrived: (item) => this.#received(item),
      redraw: () => this.paused || this.list.schedule(),
    });
    this.list = messageList(address, this.#listOptions(), () => this.freshFrom, this.work.states);
    this.jump = new Jump(this.list);
    this.seen = new Seen(app, address);
    this.composer = new Composer(app, address);
    const messagesPane = h("div.explorer-list", this.blank, this.list.element, this.jump.button, this.foot);
    this.element = h("div", [
      this.head.element,
      this.work.element,
      this.toolbar.element,
      h("div.explorer", messagesPane, this.detail.element),
      this.composer.element,
    ]);
    this.#pauseLabel();
    this.#open();
    this.timer = setInterval(() => this.#status(), 500);
  }

  /** What the list asks of the view. */
  #listOptions() {
    return {
      items: (/** @type {number} */ index) => this.log.shown[this.log.shown.length - 1 - index],
      onend: () => void this.#older(),
      onpick: (/** @type {Item} */ item) => this.#showMessage(item),
      onscroll: (/** @type {number} */ top) => top < 4 && this.jump.reset(),
    };
  }

  // --- live messages ---

  /**
   * Join and show the channel.
   * @param {boolean} [create] whether to create it if it is missing
   * @returns {Promise<void>}
   */
  async #open(create = false) {
    const { bus } = this.app.session;
    try {
      if (!this.address.endsWith(":*")) {
        // Joining a channel creates it. After a typing error, or with an old link, the visitor is asked first.
        if (!create && (await this.#missing())) return this.#blank();
        this.subscription = bus.subscribe(this.address, { echo: true, buffer: 5000 });
        await this.subscription.open();
        this.#listen(this.subscription);
      }
      this.joined = true;
      await this.#older();
      this.head.load().then(() => this.work.learn(this.head.info));
    } catch (problem) {
      this.#refused(problem);
    }
    this.freshFrom = Date.now();
    if (this.wanted) this.#select(this.wanted);
  }

  /** Whether there is nothing to join at the address. `absent` is then what to show. */
  async #missing() {
    this.absent = await absence(this.app, this.address, {
      write: (owner) => this.composer.answer(owner),
      create: () => this.#create(),
    });
    if (this.absent) this.log.exhausted = true;
    return this.absent !== null;
  }

  async #create() {
    this.absent = null;
    this.log.exhausted = false;
    await this.#open(true);
    this.app.rooms.refresh();
  }

  /** @param {import("../../arqonbus.js").Subscription} subscription */
  async #listen(subscription) {
    try {
      for await (const message of subscription) this.#arrived(message);
    } catch (problem) {
      this.#refused(problem);
    }
  }

  /** @param {import("../../arqonbus.js").Message} message */
  #arrived(message) {
    this.meter.add();
    if (message.address === this.address) this.app.rooms.saw(this.address, message.seq);
    this.#received(itemOf(message, Date.now()));
  }

  /** @param {Item} item */
  #received(item) {
    if (this.paused) {
      this.waiting.push(item);
      // More waits than the view holds, so resuming begins with the newest page of the history.
      if (this.waiting.length > HELD) {
        this.waiting.splice(0, this.waiting.length - PAGE);
        this.skipped = true;
      }
      return;
    }
    this.pending.push(item);
    const pause = this.meter.rate() > FAST ? 250 : 0;
    this.drawing ??= setTimeout(() => requestAnimationFrame(() => this.#draw()), pause);
  }

  /**
   * Follow the answers among some messages: their rows grow with them.
   * @param {Item[]} items
   */
  #follow(items) {
    for (const item of items) {
      const { message } = item;
      if (message.state === null || item.growing) continue;
      const growing = new Growing(message, () => this.paused || this.list.schedule());
      item.growing = growing;
      growing.over.then(() => {
        if (message.address === this.address) this.app.rooms.saw(this.address, message.endSeq);
        if (this.log.ended(item)) this.list.update(this.log.shown.length);
      });
    }
  }

  /** Show what arrived since the last time. */
  #draw() {
    this.drawing = undefined;
    this.#add(this.pending.splice(0));
  }

  /** @param {Item[]} arrived */
  #add(arrived) {
    this.#follow(arrived);
    const passed = this.log.add(arrived);
    if (passed === null) return;
    const away = this.list.element.scrollTop > 3;
    this.list.update(this.log.shown.length, passed);
    if (away) this.jump.missed(passed);
    this.#blank();
  }

  /** @param {boolean} paused */
  #pause(paused) {
    this.paused = paused;
    if (paused) {
      clearTimeout(this.drawing);
      this.#draw();
    } else if (this.skipped) this.#reload();
    else this.#add(this.waiting.splice(0));
    if (!paused) this.waiting = [];
    this.skipped = false;
    this.#pauseLabel();
    this.#status();
  }

  #pauseLabel() {
    fill(this.pauseButton, icon(this.paused ? "play" : "pause"), this.paused ? "Resume" : "Pause");
    this.pauseButton.classList.toggle("on", this.paused);
    this.pauseButton.setAttribute("aria-pressed", String(this.paused));
    this.pauseButton.title = this.paused ? "Show new messages again (p)" : "Hold the list still (p)";
  }

  // --- the history ---

  /**
   * Load older messages, one page at a time. The list calls it when its end comes into sight.
   * @returns {Promise<unknown> | null}
   */
  #older() {
    // Membership first, then history: what is published in between would be in neither.
    if (!this.joined || this.log.exhausted || this.loading || this.problem) return this.loading;
    const { generation } = this.log;
    this.loading = this.log
      .loadOlder()
      .then((loaded) => {
        if (!loaded) return;
        this.#follow(this.log.held);
        this.list.update(this.log.shown.length);
      })
      .catch((problem) => {
        if (generation === this.log.generation) this.#refused(problem);
      })
      .finally(() => {
        if (generation !== this.log.generation) return;
        this.loading = null;
        this.#blank();
        this.#status();
        // A narrow filter may have left the list shorter than the window.
        if (!this.problem) this.list.schedule();
      });
    this.#status();
    return this.loading;
  }

  #reload() {
    this.log.reset();
    this.loading = null;
    this.problem = null;
    this.list.selected = -1;
    this.detail.close();
    this.list.element.scrollTop = 0;
    this.list.update(0);
    this.jump.reset();
    return this.#older();
  }

  /**
   * Show the message with this seq, and load older pages until it is there.
   * @param {number} seq
   */
  async #select(seq) {
    const { log } = this;
    for (let page = 0; page < 50 && !log.exhausted && log.oldest > seq; page += 1) await this.#older();
    const at = log.shown.findIndex((item) => item.frame.seq === seq && item.message.address === this.address);
    if (at < 0) return toast(`Message ${seq} is no longer in the history.`, "bad");
    const index = log.shown.length - 1 - at;
    this.list.element.scrollTop = Math.max(0, (index - 4) * this.list.rowHeight);
    this.list.pick(index);
  }

  // --- what the page says ---

  /** @param {unknown} problem */
  #refused(problem) {
    this.problem = problem;
    this.log.exhausted = true;
    this.#blank();
  }

  /** Show in place of the messages why there are none. */
  #blank() {
    const bare = this.log.shown.length === 0;
    this.blank.hidden = !bare;
    this.list.element.hidden = bare;
    if (!bare) return;
    this.blank.className = "scroll grow";
    fill(this.blank, this.#blankContent());
  }

  #blankContent() {
    if (this.absent) return this.absent;
    if (this.problem) return refusal(this.problem);
    if (!this.log.exhausted || this.loading) return h("div.empty", h("p", "Loading …"));
    if (this.log.filtering) {
      return empty("search", "No message matches the filters", "Change them, or clear them to see everything.");
    }
    return bareChannel(this.address);
  }

  /** Whether the visitor sees every message as it comes. */
  get #looking() {
    const loaded = this.joined && !this.loading && !this.problem;
    return loaded && !this.paused && !this.log.filtering && this.list.element.scrollTop <= 3;
  }

  #status() {
    if (this.#looking) this.seen.reached(this.log.newest ?? 0);
    const total = this.app.rooms.channels.get(this.address)?.messages;
    const { log, paused, waiting } = this;
    fill(
      this.foot,
      footParts({ log, total, loading: this.loading !== null, speed: this.meter.rate(), paused, waiting }),
    );
  }

  /** @param {Item} item */
  #showMessage(item) {
    this.answer?.close();
    this.answer = null;
    if (item.notice) return this.work.show(item);
    this.answer = item.growing && new AnswerPane(this.app, item.message);
    const write = (/** @type {string} */ clientId) => this.composer.answer(clientId);
    showMessage(this.app, this.detail, item, this.answer, this.head.info?.epoch, write);
  }

  async #showMembers() {
    await this.head.load();
    this.list.clearSelection();
    showMembers(this.detail, this.address, this.head.info?.participants, this.head.note.textContent ?? "");
  }

  // --- what the page calls ---

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "p") this.#pause(!this.paused);
    else if (event.key === "/") {
      event.preventDefault();
      this.toolbar.focus();
    } else if (event.key === "c") {
      event.preventDefault();
      this.composer.focus();
    } else if (event.key === "Escape") this.detail.close();
    else if (["j", "k", "ArrowDown", "ArrowUp"].includes(event.key)) {
      this.list.element.focus();
      this.list.element.dispatchEvent(new KeyboardEvent("keydown", { key: event.key }));
      event.preventDefault();
    }
  }

  close() {
    clearInterval(this.timer);
    clearTimeout(this.drawing);
    this.toolbar.stop();
    this.log.generation += 1;
    this.seen.close();
    this.work.close();
    this.answer?.close();
    this.subscription?.close();
  }
}
