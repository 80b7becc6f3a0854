/** One channel: what comes, what was, and the box to publish. */
import { ServerError } from "../../arqonbus.js";
import { copyButton, empty, fill, h, icon, select, toast } from "../dom.js";
import { ago, count, counted, plain, rate, summary, time } from "../format.js";
import { jsonBlock } from "../json-view.js";
import { badge, detailPane, face, facts, setBadge, setFace, snippets } from "../parts.js";
import { Composer } from "../composer.js";
import { Meter } from "../store.js";
import { VirtualList } from "../virtual-list.js";

/** Messages of one channel that the page holds; older ones are asked for again when scrolled to. */
const HELD = 10_000;
const PAGE = 200;
/** From so many messages a second on, the view is brought up to date four times a second and says so. */
const FAST = 50;
const TIMES = [
  ["", "Any time"],
  ["60", "Last minute"],
  ["600", "Last 10 min"],
  ["3600", "Last hour"],
  ["86400", "Last day"],
  ["at", "Until …"],
];

export function messages(app, address, parameters) {
  if (!address) return picker(app);
  return new Explorer(app, address, parameters);
}

/** No channel is chosen: the busiest one is a good start. */
function picker(app) {
  const known = [...app.rooms.channels.values()].filter((each) => each.room !== app.config.system_room);
  const busiest = known.sort((a, b) => b.rate - a.rate || Date.parse(b.last_activity) - Date.parse(a.last_activity))[0];
  const rows = known.slice(0, 8).map((each) => h("a", { href: `#/messages/${each.address}` }, each.address));
  const element = h(
    "div.scroll",
    empty(
      "messages",
      "Choose a channel",
      "Pick one in the list of rooms, or go to one of these:",
      h("div.actions", rows),
    ),
  );
  if (busiest?.messages) queueMicrotask(() => app.go(`messages/${busiest.address}`));
  return { element };
}

class Explorer {
  constructor(app, address, parameters) {
    this.app = app;
    this.address = address;
    /** What is held, oldest first; `shown` are those that pass the filters. */
    this.held = [];
    this.shown = [];
    this.waiting = [];
    this.paused = false;
    this.skipped = false;
    this.exhausted = false;
    this.loading = null;
    this.generation = 0;
    this.meter = new Meter(2);
    this.received = 0;
    this.freshFrom = Infinity;
    this.wanted = Number(parameters.get("seq")) || null;
    this.filters = { type: "", sender: "", text: "", after: null, before: null };
    this.#build();
    this.#open();
    this.timer = setInterval(() => this.#status(), 500);
  }

  // --- the page's part ---

  #build() {
    const input = (name, placeholder) =>
      h("input", { type: "search", placeholder, "aria-label": placeholder, name, oninput: () => this.#filter() });
    this.type = select({ "aria-label": "Type", name: "type", onchange: () => this.#filter() }, [
      ["", "Any type"],
      ["event", "event"],
      ["private", "private"],
      ["system", "system"],
      ["telemetry", "telemetry"],
    ]);
    this.sender = input("sender", "Sender");
    this.text = input("text", "Text");
    this.when = select({ "aria-label": "Time", name: "when", onchange: () => this.#filter() }, TIMES);
    this.until = h("input", {
      type: "datetime-local",
      step: "1",
      "aria-label": "Until",
      hidden: true,
      onchange: () => this.#filter(),
    });
    this.clear = h(
      "button.ghost.small",
      { type: "button", hidden: true, onclick: () => this.#unfilter() },
      "Clear filters",
    );
    this.pauseButton = h("button.small", { type: "button", name: "pause", onclick: () => this.#pause(!this.paused) });
    this.note = h("span.dim.cut");
    this.members = h("button.pill", { type: "button", title: "Who is here", onclick: () => this.#people() });
    this.list = new VirtualList({
      height: () => (matchMedia("(max-width: 760px)").matches ? 58 : 36),
      label: `Messages of ${this.address}`,
      make: () =>
        h("div.message", [
          h("span.seq"),
          h("span.time"),
          h("span.type", h("span.badge")),
          h("span.who", h("span.face"), h("span.cut")),
          h("span.content.cut"),
        ]),
      show: (row, item) => this.#show(row, item),
      items: (index) => this.shown[this.shown.length - 1 - index],
      onend: () => this.#older(),
      onpick: (item) => this.#detail(item),
      onscroll: (top) => {
        if (top < 4 && !this.jump.hidden) this.#jumped();
      },
    });
    this.jump = h("button.jump.small", { type: "button", hidden: true, onclick: () => this.#toTop() });
    this.foot = h("div.list-foot");
    this.blank = h("div", { hidden: true });
    this.detail = detailPane(() => this.list.clearSelection());
    this.composer = new Composer(this.app, this.address);
    this.remove =
      this.app.session.admin &&
      h(
        "button.ghost.icon-only",
        {
          type: "button",
          title: "Delete this channel",
          "aria-label": "Delete this channel",
          onclick: () => this.#remove(),
        },
        icon("trash"),
      );
    this.element = h("div", [
      h("div.view-head", [
        h("h1", icon("hash"), h("span.cut", this.address)),
        this.members,
        this.note,
        h("div.grow"),
        this.pauseButton,
        this.remove,
      ]),
      h("div.toolbar", { role: "search", "aria-label": "Filters" }, [
        icon("search"),
        this.text,
        this.type,
        this.sender,
        this.when,
        this.until,
        this.clear,
      ]),
      h(
        "div.explorer",
        h("div.explorer-list", this.blank, this.list.element, this.jump, this.foot),
        this.detail.element,
      ),
      this.composer.element,
    ]);
    this.#pauseLabel();
  }

  #show(row, item) {
    const { frame, text } = item;
    const [seq, moment, type, who, content] = row.children;
    if (row.shows === item) return;
    row.shows = item;
    seq.textContent = frame.seq ?? "–";
    moment.textContent = time(frame.timestamp);
    setBadge(type.firstChild, frame.type);
    setFace(who.firstChild, frame.from);
    who.lastChild.textContent = frame.from;
    const [room, channel] = this.address.split(":");
    const elsewhere = frame.room !== room || (frame.channel !== channel && channel !== "*");
    content.textContent = elsewhere ? `[${frame.room}:${frame.channel}] ${text}` : text;
    content.classList.toggle("code", typeof frame.message !== "string" && text.startsWith("{"));
    row.classList.toggle("fresh", item.at > this.freshFrom);
  }

  // --- what comes ---

  /** Join and show the channel; `create` brings a missing one into being. */
  async #open(create = false) {
    const { bus } = this.app.session;
    try {
      if (!this.address.endsWith(":*")) {
        // Joining a channel creates it. Whoever mistyped an address, or followed an old link, is asked first.
        if (!create && (await this.#missing())) return this.#blank();
        this.subscription = bus.subscribe(this.address, { echo: true, buffer: 5000 });
        await this.subscription.open();
        this.#listen();
      }
      this.joined = true;
      await this.#older();
      this.#info();
    } catch (problem) {
      this.#refused(problem);
    }
    this.freshFrom = Date.now();
    if (this.wanted) this.#select(this.wanted);
  }

  /** Whether there is nothing to join at the address; `absent` is then what to say of it. */
  async #missing() {
    const { bus } = this.app.session;
    try {
      if (this.address.startsWith("pm:")) throw new ServerError({ code: "CHANNEL_NOT_FOUND" });
      await bus.channelInfo(this.address);
    } catch (problem) {
      // What else may be wrong is told by the join itself.
      if (!["CHANNEL_NOT_FOUND", "ROOM_NOT_FOUND"].includes(problem.code)) return false;
      this.absent = this.#offer();
      this.exhausted = true;
      return true;
    }
    return false;
  }

  /** What stands where a channel is not: what it may have been meant to be, and how to create it. */
  #offer() {
    const [room, channel] = this.address.split(":");
    if (room === "pm") {
      const write = h(
        "button.primary",
        { type: "button", onclick: () => this.composer.answer(channel) },
        icon("send"),
        `Write to ${channel}`,
      );
      return empty(
        "lock",
        `This is the inbox of ${channel}`,
        "Only its owner reads it. You can send a private message.",
        h("div.actions", write),
      );
    }
    const near = [...this.app.rooms.channels.values()]
      .filter((each) => each.room === room || each.channel === channel)
      .slice(0, 8);
    const create = h(
      "button.primary",
      {
        type: "button",
        onclick: () => {
          this.absent = null;
          this.exhausted = false;
          this.#open(true).then(() => this.app.rooms.refresh());
        },
      },
      icon("plus"),
      "Create it",
    );
    return empty(
      "search",
      `There is no channel ${this.address}`,
      near.length
        ? h(
            "div.actions",
            near.map((each) => h("a.badge", { href: `#/messages/${each.address}` }, each.address)),
          )
        : "",
      h("div.actions", create),
    );
  }

  async #listen() {
    try {
      for await (const message of this.subscription) this.#arrived(message);
    } catch (problem) {
      this.#refused(problem);
    }
  }

  #arrived(message) {
    this.received += 1;
    this.meter.add();
    if (message.address === this.address) this.app.rooms.saw(this.address, message.seq);
    const item = { frame: message.raw, text: summary(message.raw), at: Date.now() };
    if (this.paused) {
      this.waiting.push(item);
      // More waits than is held anyway: going on begins with the newest page of the history.
      if (this.waiting.length > HELD) {
        this.waiting.splice(0, this.waiting.length - PAGE);
        this.skipped = true;
      }
      return;
    }
    this.pending ??= [];
    this.pending.push(item);
    const pause = this.meter.rate() > FAST ? 250 : 0;
    this.frame ??= setTimeout(() => requestAnimationFrame(() => this.#flush()), pause);
  }

  #flush() {
    this.frame = undefined;
    const fresh = this.pending ?? [];
    this.pending = null;
    this.#add(fresh);
  }

  #add(fresh) {
    // What came while the newest page of the history was on its way may be in that page too.
    const last = this.held.slice(-PAGE).map((item) => item.frame.id);
    const known = new Set(last);
    fresh = fresh.filter((item) => !known.has(item.frame.id));
    if (!fresh.length) return;
    this.held.push(...fresh);
    const passed = fresh.filter((item) => this.#passes(item));
    this.shown.push(...passed);
    if (this.held.length > HELD * 1.2) {
      const cut = this.held.splice(0, this.held.length - HELD);
      // They can be scrolled to again: the history has them.
      const last = cut.at(-1);
      if (!this.filters.text) {
        this.exhausted = false;
        this.edge =
          this.held.find((item) => `${item.frame.room}:${item.frame.channel}` === this.address)?.frame.seq ?? this.edge;
      }
      const at = this.shown.findIndex((item) => item.at > last.at || (item.frame.seq ?? 0) > (last.frame.seq ?? 0));
      if (at > 0) this.shown.splice(0, at);
    }
    const away = this.list.element.scrollTop > 3;
    this.list.update(this.shown.length, passed.length);
    if (away && passed.length) {
      this.missed = (this.missed ?? 0) + passed.length;
      fill(this.jump, `${count(this.missed)} new ↑`);
      this.jump.hidden = false;
    }
    this.#blank();
  }

  #jumped() {
    this.missed = 0;
    this.jump.hidden = true;
  }

  #toTop() {
    this.list.element.scrollTop = 0;
    this.#jumped();
  }

  #pause(paused) {
    this.paused = paused;
    if (paused) this.#flushNow();
    else if (this.skipped) this.#reload();
    else {
      const fresh = this.waiting.splice(0);
      this.#add(fresh);
    }
    this.waiting = this.paused ? this.waiting : [];
    this.skipped = false;
    this.#pauseLabel();
    this.#status();
  }

  #flushNow() {
    clearTimeout(this.frame);
    this.#flush();
  }

  #pauseLabel() {
    fill(this.pauseButton, icon(this.paused ? "play" : "pause"), this.paused ? "Resume" : "Pause");
    this.pauseButton.classList.toggle("on", this.paused);
    this.pauseButton.setAttribute("aria-pressed", String(this.paused));
    this.pauseButton.title = this.paused ? "Show new messages again (p)" : "Hold the list still (p)";
  }

  // --- what was ---

  /** Ask for older messages than are held, once at a time; the list calls it when its end comes into sight. */
  #older() {
    // Membership first, then history: what is published in between would be in neither.
    if (!this.joined || this.exhausted || this.loading || this.refusal) return this.loading;
    const generation = this.generation;
    this.loading = this.#load(generation)
      .catch((problem) => {
        if (generation === this.generation) this.#refused(problem);
      })
      .finally(() => {
        if (generation !== this.generation) return;
        this.loading = null;
        this.#blank();
        this.#status();
        // A wide filter may have left the list shorter than the window.
        if (!this.refusal) this.list.schedule();
      });
    this.#status();
    return this.loading;
  }

  async #load(generation) {
    const page = await (this.filters.text ? this.#search() : this.#page());
    if (generation !== this.generation) return;
    const have = new Set(this.held.map((item) => item.frame.id));
    const { after } = this.filters;
    const frames = page.frames.filter(
      (frame) => !have.has(frame.id) && !(after && Date.parse(frame.timestamp) < after),
    );
    const items = frames.map((frame) => ({ frame, text: summary(frame), at: 0 }));
    const reached = after && page.frames.length && Date.parse(page.frames[0].timestamp) < after;
    this.exhausted = page.last || Boolean(reached);
    this.held.unshift(...items);
    // The server has looked for the text, wherever in the frame it is.
    this.shown.unshift(...items.filter((item) => this.filters.text || this.#passes(item)));
    this.list.update(this.shown.length);
  }

  /** The next older page over the socket, oldest first. */
  async #page() {
    const page = await this.app.session.bus.historyPage(this.address, {
      limit: PAGE,
      before: this.edge ?? this.filters.before,
      type: this.filters.type || undefined,
      sender: this.filters.sender || undefined,
    });
    this.edge = page.next;
    return { frames: page.messages.map((message) => message.raw), last: page.next === null };
  }

  /** The next older page with the text in it, which REST can look for, oldest first. */
  async #search() {
    const { text, type, sender, before } = this.filters;
    const question = new URLSearchParams({ text, limit: PAGE });
    for (const [name, value] of Object.entries({ type, sender, before })) if (value) question.set(name, value);
    const query = this.edge ?? `?${question}`;
    const page = await this.app.api("GET", `channels/${encodeURI(this.address)}/messages${query}`);
    this.edge = page.next ? new URL(page.next, location.href).search : null;
    return { frames: page.results.reverse(), last: !page.next };
  }

  #reload() {
    this.generation += 1;
    Object.assign(this, { held: [], shown: [], exhausted: false, loading: null, edge: null, refusal: null });
    this.list.selected = -1;
    this.detail.close();
    this.list.element.scrollTop = 0;
    this.list.update(0);
    this.#jumped();
    return this.#older();
  }

  async #select(seq) {
    for (let page = 0; page < 50 && !this.exhausted && (this.shown[0]?.frame.seq ?? Infinity) > seq; page += 1)
      await this.#older();
    const at = this.shown.findIndex((item) => item.frame.seq === seq);
    if (at < 0) return toast(`Message ${seq} is no longer in the history.`, "bad");
    const index = this.shown.length - 1 - at;
    this.list.element.scrollTop = Math.max(0, (index - 4) * this.list.rowHeight);
    this.list.pick(index);
  }

  // --- filters ---

  #filter() {
    clearTimeout(this.filterTimer);
    this.filterTimer = setTimeout(() => {
      this.until.hidden = this.when.value !== "at";
      const seconds = Number(this.when.value);
      this.filters = {
        type: this.type.value,
        sender: this.sender.value.trim(),
        text: this.text.value.trim().toLowerCase(),
        after: seconds ? Date.now() - seconds * 1000 : null,
        before: this.when.value === "at" && this.until.value ? new Date(this.until.value).toISOString() : null,
      };
      this.clear.hidden = !this.#filtering;
      this.#reload();
    }, 180);
  }

  #unfilter() {
    this.type.value = this.sender.value = this.text.value = this.when.value = this.until.value = "";
    this.#filter();
  }

  get #filtering() {
    return Object.values(this.filters).some(Boolean);
  }

  #passes({ frame, text }) {
    const { type, sender, text: wanted, after, before } = this.filters;
    if (type && frame.type !== type) return false;
    if (sender && frame.from !== sender) return false;
    const at = after || before ? Date.parse(frame.timestamp) : 0;
    if ((after && at < after) || (before && at >= Date.parse(before))) return false;
    return !wanted || text.toLowerCase().includes(wanted) || JSON.stringify(frame).toLowerCase().includes(wanted);
  }

  // --- what is said of it ---

  #refused(problem) {
    this.refusal = problem;
    this.exhausted = true;
    this.#blank();
  }

  #blank() {
    const bare = this.shown.length === 0;
    this.blank.hidden = !bare;
    this.list.element.hidden = bare;
    if (!bare) return;
    let content;
    if (this.absent) content = this.absent;
    else if (this.refusal) {
      const known = this.refusal instanceof ServerError;
      content = empty(
        "lock",
        plain(known ? this.refusal.reason : this.refusal.message),
        known ? h("p", "Why: ", h("a", { href: `#/contracts?code=${this.refusal.code}` }, this.refusal.code)) : "",
      );
    } else if (!this.exhausted || this.loading) content = h("div.empty", h("p", "Loading …"));
    else if (this.#filtering)
      content = empty("search", "No message matches the filters", "Change them, or clear them to see everything.");
    else {
      content = empty(
        "start",
        "No message yet",
        "Copy a line, run it, and watch it arrive here. Or write one in the box below.",
      );
      content.append(snippets(this.address));
    }
    this.blank.className = "scroll grow";
    fill(this.blank, content);
  }

  #status() {
    const speed = this.meter.rate();
    const total = this.app.rooms.channels.get(this.address)?.messages;
    const parts = [];
    if (total !== undefined) parts.push(h("span", { data: { total } }, `${counted(total, "message")} so far`));
    parts.push(h("span", `${count(this.shown.length)} ${this.#filtering ? "match the filters" : "loaded"}`));
    if (this.loading) parts.push(h("span", "loading older messages …"));
    else if (this.exhausted && this.shown.length) parts.push(h("span", "start of the kept history"));
    if (speed >= 1) parts.push(h("span", `${rate(speed)}/s`));
    if (this.paused)
      parts.push(
        h(
          "span.badge.system",
          { data: { waiting: this.waiting.length } },
          `paused, ${count(this.waiting.length)} waiting`,
        ),
      );
    else if (speed > FAST)
      parts.push(
        h(
          "span.badge.telemetry",
          { title: "Every message is counted and can be scrolled to; only the drawing is sampled. Pause to read." },
          "sampled view, 4 times a second; counts are exact",
        ),
      );
    fill(this.foot, parts);
  }

  async #info() {
    if (this.address.endsWith(":*")) {
      this.note.textContent = "The history of the whole room; open a channel to see it live.";
      this.members.hidden = true;
      return;
    }
    try {
      const info = await this.app.session.bus.channelInfo(this.address);
      this.info = info;
      fill(this.members, counted(info.participant_count, "member"));
      // What is built in stays: a button that only leads to a refusal is none.
      if (this.remove) this.remove.hidden = info.metadata.hardcoded;
      this.note.textContent = [info.metadata.description, info.metadata.ephemeral ? "ephemeral: nothing is kept" : ""]
        .filter(Boolean)
        .join(" · ");
    } catch (problem) {
      this.note.textContent = plain(problem.reason ?? problem.message);
    }
  }

  /** Who is in the channel, each with the way to what is known of it. */
  async #people() {
    await this.#info();
    const people = this.info?.participants ?? [];
    const rows = people.map((each) =>
      h(
        "a.who",
        { href: `#/clients/${each.client_id}` },
        face(each.client_id, false, each.screen_name || each.client_id),
        h("span.cut", each.screen_name || each.client_id),
        h("span.faint.cut", each.screen_name ? each.client_id : ""),
      ),
    );
    this.list.clearSelection();
    this.detail.show(
      h("strong", `Members of ${this.address}`),
      rows.length ? rows : h("p.dim", this.info ? "Nobody is here." : this.note.textContent),
    );
  }

  #detail(item) {
    const { frame, text } = item;
    const link = `${location.origin}${location.pathname}#/messages/${frame.room}:${frame.channel}?seq=${frame.seq}`;
    const said = typeof frame.message === "string" ? frame.message : null;
    this.detail.show(
      [face(frame.from, true), h("div.grow.cut", h("strong", frame.from), h("div.dim.cut", time(frame.timestamp)))],
      said !== null && h("div", h("div.section-title", "Text"), h("div.said", said)),
      h("div", [
        h("div.section-title", "Message"),
        facts([
          ["Sequence", frame.seq === undefined ? "none: the channel is ephemeral" : h("span.mono", count(frame.seq))],
          ["Id", h("span.mono", frame.id)],
          ["Type", badge(frame.type)],
          ["Address", h("a", { href: `#/messages/${frame.room}:${frame.channel}` }, `${frame.room}:${frame.channel}`)],
          ["Sender", h("a", { href: `#/clients/${frame.from}` }, frame.from)],
          ["Server's time", h("span", h("span.mono", frame.timestamp), h("span.faint", ` ${ago(frame.timestamp)}`))],
          ["Sender's time", frame.client_timestamp && h("span.mono", frame.client_timestamp)],
          ["Epoch", this.info && h("span.mono", this.info.epoch)],
          ["Size", `${count(new TextEncoder().encode(JSON.stringify(frame)).length)} bytes`],
        ]),
      ]),
      h("div", h("div.section-title", "Frame"), jsonBlock(frame)),
      h("div.actions", [
        copyButton(link, "Copy link"),
        copyButton(text, "Copy text"),
        h(
          "button.small",
          { type: "button", onclick: () => this.composer.answer(frame.from) },
          icon("send"),
          "Answer in private",
        ),
      ]),
    );
  }

  async #remove() {
    const { confirm } = await import("../dom.js");
    if (
      !(await confirm(
        `Delete ${this.address}?`,
        "Its history goes with it. Only a channel without members can be deleted; this page leaves it first.",
        "Delete",
      ))
    )
      return;
    const { bus } = this.app.session;
    try {
      await this.subscription?.close();
      if (bus.address === this.address) await bus.leave(this.address).catch(() => {});
      await bus.deleteChannel(this.address);
      toast(`${this.address} is deleted.`, "good");
      this.app.rooms.refresh();
      this.app.go("overview");
    } catch (problem) {
      toast(plain(problem.reason ?? problem.message), "bad");
    }
  }

  key(event) {
    if (event.key === "p") this.#pause(!this.paused);
    else if (event.key === "/") {
      event.preventDefault();
      this.text.focus();
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
    clearTimeout(this.filterTimer);
    clearTimeout(this.frame);
    this.generation += 1;
    this.subscription?.close();
  }
}
