/** Rooms and their channels in the side bar, with live counts of members and messages. */
import { fill, h, icon, toast } from "./dom.js";
import { count, counted, explain, rate, short } from "./format.js";
import { VirtualList } from "./virtual-list.js";
import { WorkFields } from "./work-fields.js";

/** @typedef {import("./session.js").App} App */
/** @typedef {import("./rooms.js").Channel} Channel */
/** @typedef {import("./rooms.js").Room & { open: boolean }} OpenRoom */

/**
 * @param {Channel | OpenRoom} row
 * @returns {row is Channel}
 */
const isChannel = (row) => "channel" in row;

export class Tree {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.current = "";
    /** @type {Set<string>} */
    this.closed = new Set();
    /** @type {(Channel | OpenRoom)[]} */
    this.rows = [];
    this.filter = h("input.tree-filter", {
      type: "search",
      placeholder: "Find a room or channel",
      "aria-label": "Find a room or channel",
      oninput: () => this.refresh(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Enter") {
          const first = this.rows.find(isChannel);
          if (first) app.go(`messages/${first.address}`);
        }
      },
    });
    this.list = new VirtualList({
      height: 30,
      label: "Rooms and channels",
      make: () =>
        h(
          "div.tree-row",
          icon("chevron"),
          h("span.grow.cut"),
          h("span.unread", { hidden: true }),
          h("span.members"),
          h("span.total"),
        ),
      show: (row, item) => this.#show(row, item),
      items: (index) => this.rows[index],
      onpick: (item) => this.#pick(item),
      follow: false,
      roles: ["tree", "treeitem"],
    });
    this.list.element.addEventListener("keydown", (event) => this.#key(event));
    this.note = h("p.faint");
    this.note.classList.add("tree-filter");
    this.element = h("div.pane.grow", [
      h("div.tree-head", [
        h("h2", "Rooms"),
        h(
          "button.ghost.icon-only.small",
          { type: "button", title: "New channel", "aria-label": "New channel", onclick: () => this.#create() },
          icon("plus"),
        ),
      ]),
      this.filter,
      this.note,
      h("div.tree", this.list.element),
    ]);
    app.rooms.rooms.watch(() => this.refresh());
  }

  /** @param {string} address */
  select(address) {
    this.current = address;
    this.closed.delete(address.split(":")[0]);
    this.refresh();
  }

  refresh() {
    const wanted = this.filter.value.trim().toLowerCase();
    this.rows = [];
    for (const room of this.app.rooms.rooms.value) {
      const channels = wanted
        ? room.channels.filter((each) => each.address.toLowerCase().includes(wanted))
        : room.channels;
      if (wanted && !channels.length) continue;
      const open = Boolean(wanted) || !this.closed.has(room.room);
      this.rows.push({ ...room, open });
      if (open) this.rows.push(...channels);
    }
    const { error, loaded } = this.app.rooms;
    this.note.hidden = this.rows.length > 0;
    this.note.textContent = error
      ? explain(error)
      : !loaded
        ? "Loading …"
        : wanted
          ? "No room or channel of that name."
          : "No rooms that you may see.";
    this.list.update(this.rows.length);
  }

  /**
   * @param {HTMLElement} row
   * @param {any} item a channel or a room
   */
  #show(row, item) {
    const isRoom = !isChannel(item);
    // What is new in a channel stands at its room while that is closed. The channel in sight counts it itself.
    const inSight = item.address !== undefined && item.address === this.current;
    const fresh = inSight || (isRoom && item.open) ? 0 : (item.unread ?? 0);
    row.className = `tree-row vrow ${isRoom ? "room" : "channel"}`;
    row.classList.toggle("open", Boolean(item.open));
    row.classList.toggle("news", fresh > 0);
    row.classList.toggle("current", item.address === this.current || (isRoom && `${item.room}:*` === this.current));
    row.setAttribute("aria-level", isRoom ? "1" : "2");
    if (isRoom) row.setAttribute("aria-expanded", String(Boolean(item.open)));
    else row.removeAttribute("aria-expanded");
    if (row.classList.contains("current")) row.setAttribute("aria-current", "page");
    else row.removeAttribute("aria-current");
    const label = isRoom ? `Room ${item.room}` : item.channel;
    const [people, published] = [counted(item.participants, "member"), counted(item.messages, "message")];
    const news = fresh ? `, ${count(fresh)} new` : "";
    row.setAttribute("aria-label", `${label}, ${people}, ${published}${news}`);
    row.title = item.address ? `${item.address}${item.description ? `, ${item.description}` : ""}` : item.room;
    const [arrow, name, unread, members, total] = /** @type {HTMLElement[]} */ ([...row.children]);
    arrow.style.display = isRoom ? "" : "none";
    name.textContent = isRoom ? item.room : item.channel;
    unread.hidden = !fresh;
    unread.textContent = short(fresh);
    unread.title = `${count(fresh)} new since you looked`;
    members.textContent = count(item.participants);
    members.title = people;
    members.classList.toggle("some", item.participants > 0);
    total.textContent = item.rate >= 1 ? `${rate(item.rate)}/s` : short(item.messages);
    total.title = published;
    total.classList.toggle("busy", item.rate >= 1);
  }

  /** @param {Channel | OpenRoom} item */
  #pick(item) {
    if (isChannel(item)) {
      this.app.go(`messages/${item.address}`);
      return;
    }
    if (this.closed.has(item.room)) this.closed.delete(item.room);
    else this.closed.add(item.room);
    this.refresh();
  }

  /**
   * Left closes a room and right opens it, as in every tree.
   * @param {KeyboardEvent} event
   */
  #key(event) {
    const item = this.rows[this.list.selected];
    if (!item || isChannel(item) || (event.key !== "ArrowLeft" && event.key !== "ArrowRight")) return;
    event.preventDefault();
    if (item.open === (event.key === "ArrowLeft")) this.#pick(item);
  }

  #create() {
    const address = h("input", {
      name: "address",
      placeholder: "science:notes",
      required: true,
      pattern: "[^:]+:[^:]+",
    });
    const description = h("input", { name: "description", placeholder: "What it is for" });
    const { admin } = this.app.session;
    const ephemeral = h("input", { type: "checkbox", name: "ephemeral" });
    const keep = h("input", {
      type: "number",
      name: "retention",
      min: "1",
      placeholder: "the server's setting",
    });
    const presence = h("select", { name: "presence" }, [
      h("option", { value: "" }, "as the room says"),
      h("option", { value: "names" }, "names"),
      h("option", { value: "counts" }, "only how many they are"),
      h("option", { value: "none" }, "nothing"),
    ]);
    const work = new WorkFields();
    const fault = h("p.fault", { role: "alert" });
    const form = h("form", [
      h("label", "room:channel", address),
      admin && h("label", "Description", description),
      admin && h("label", "Messages to keep", keep),
      admin && h("label", "How much members learn of one another", presence),
      admin && h("label.check", ephemeral, "Ephemeral: deliver messages, keep none"),
      admin && work.element,
      fault,
      h("div.actions", [
        h("button.ghost", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button.primary", { type: "submit" }, "Create"),
      ]),
    ]);
    const dialog = h("dialog", { "aria-label": "New channel" }, h("h2", "New channel"), form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const { bus } = this.app.session;
      try {
        // Admins create permanent channels. Others create one by joining it, where the server allows that.
        if (admin) {
          const retention = keep.value ? { count: Number(keep.value) } : undefined;
          await bus.createChannel(address.value.trim(), {
            description: description.value.trim(),
            ephemeral: ephemeral.checked,
            retention,
            presence: /** @type {"names" | "counts" | "none"} */ (presence.value) || undefined,
            work: work.rule,
          });
        } else await bus.command("join_channel", { channel: address.value.trim() });
      } catch (problem) {
        fill(fault, explain(problem));
        return;
      }
      dialog.close();
      toast(`${address.value.trim()} was created.`, "good");
      this.app.rooms.refresh();
      this.app.go(`messages/${address.value.trim()}`);
    });
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }
}
