/** The head of a channel's page: its name, its members, what it is for, and its removal by admins. */
import { confirm, fill, h, icon, toast } from "../../dom.js";
import { counted, explain } from "../../format.js";

/** @typedef {import("../../session.js").App} App */

export class ChannelHead {
  /**
   * @param {App} app
   * @param {string} address
   * @param {HTMLElement} pauseButton
   * @param {{ onmembers: () => void, leave: () => Promise<void> | undefined }} actions `leave` ends the membership of
   *   the page
   */
  constructor(app, address, pauseButton, { onmembers, leave }) {
    this.app = app;
    this.address = address;
    this.leave = leave;
    /** @type {import("../../../arqonbus.js").ChannelInfo | null} */
    this.info = null;
    this.note = h("span.dim.cut");
    this.members = h("button.pill", { type: "button", title: "Who is here", onclick: onmembers });
    const label = "Delete this channel";
    this.remove = h(
      "button.ghost.icon-only",
      { type: "button", title: label, "aria-label": label, onclick: () => this.#remove() },
      icon("trash"),
    );
    const title = h("h1", icon("hash"), h("span.cut", address));
    const remove = app.session.admin && this.remove;
    this.element = h("div.view-head", [title, this.members, this.note, h("div.grow"), pauseButton, remove]);
  }

  /** Load what is known about the channel, and show it. */
  async load() {
    if (this.address.endsWith(":*")) {
      this.note.textContent = "The history of the whole room; open a channel to see it live.";
      this.members.hidden = true;
      return;
    }
    try {
      this.info = await this.app.session.bus.channelInfo(this.address);
      const { metadata, participant_count: members } = this.info;
      fill(this.members, members === null ? "" : counted(members, "member"));
      // Built-in channels cannot be deleted, so they have no button for it.
      this.remove.hidden = Boolean(metadata.hardcoded);
      const ephemeral = metadata.ephemeral ? "ephemeral: nothing is kept" : "";
      const work = metadata.work ? "hands each message to one worker" : "";
      this.note.textContent = [metadata.description, ephemeral, work].filter(Boolean).join(" · ");
    } catch (problem) {
      this.note.textContent = explain(problem);
    }
  }

  async #remove() {
    const consequence = "Its history is deleted, too. A channel with members stays; this page leaves it first.";
    if (!(await confirm(`Delete ${this.address}?`, consequence, "Delete"))) return;
    const { bus } = this.app.session;
    try {
      await this.leave();
      if (bus.address === this.address) await bus.leave(this.address).catch(() => {});
      await bus.deleteChannel(this.address);
      toast(`${this.address} is deleted.`, "good");
      this.app.rooms.refresh();
      this.app.go("overview");
    } catch (problem) {
      toast(explain(problem), "bad");
    }
  }
}
