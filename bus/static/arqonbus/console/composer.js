/** The publish box: a text or a JSON payload, which is checked while it is written, and the answer of the server. */
import { fill, h, icon, select } from "./dom.js";
import { count, duration, explain, plain } from "./format.js";
import { jsonFault } from "./json-view.js";

/** @typedef {import("./session.js").App} App */

export class Composer {
  /**
   * @param {App} app
   * @param {string} address
   */
  constructor(app, address) {
    this.app = app;
    this.address = address;
    const admin = app.session.admin;
    this.type = select(
      { "aria-label": "Type of message", name: "publish-type", onchange: () => this.#shape() },
      [
        ["event", "event"],
        ["private", "private"],
        ["system", admin ? "system" : "system (admins)"],
      ],
      "event",
    );
    this.type.options[2].disabled = !admin;
    this.target = h("input.target", {
      value: address,
      "aria-label": "Address",
      name: "publish-address",
      list: "addresses",
      spellcheck: "false",
    });
    this.to = h("input.target", {
      placeholder: "client ids, by comma",
      "aria-label": "To",
      name: "publish-to",
      hidden: true,
      spellcheck: "false",
    });
    this.options = h("datalist", { id: "addresses" });
    this.text = h("input.text.grow", {
      placeholder: `Message to ${address}`,
      "aria-label": "Message",
      name: "publish-text",
      maxlength: 100000,
    });
    this.json = h("textarea", {
      "aria-label": "Payload as JSON",
      name: "publish-json",
      spellcheck: "false",
      hidden: true,
      oninput: () => this.#check(),
    });
    this.json.value = '{\n  "temperature": 21.5\n}';
    this.toggle = h(
      "button.ghost.small",
      { type: "button", "aria-pressed": "false", title: "Write the payload as JSON", onclick: () => this.#switch() },
      "{ } JSON",
    );
    this.button = h("button.primary", { type: "submit", title: "Ctrl Enter" }, icon("send"), "Publish");
    this.says = h(
      "div.says",
      { role: "status" },
      h("span.wide", "Enter publishes. The server answers when the message is durable."),
    );
    this.element = h(
      "form.composer",
      { "aria-label": "Publish", onsubmit: (/** @type {Event} */ event) => this.#send(event) },
      [
        this.json,
        h("div.composer-row", [this.type, this.target, this.to, this.options, this.text, this.toggle, this.button]),
        this.says,
      ],
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.element.requestSubmit();
    });
    this.target.addEventListener("focus", () => {
      fill(
        this.options,
        [...app.rooms.channels.keys()].slice(0, 500).map((value) => h("option", { value })),
      );
    });
  }

  focus() {
    (this.json.hidden ? this.text : this.json).focus();
  }

  /**
   * Start a private message to one client.
   * @param {string} clientId
   */
  answer(clientId) {
    this.type.value = "private";
    this.#shape();
    this.to.value = clientId;
    this.focus();
  }

  #shape() {
    const secret = this.type.value === "private";
    this.to.hidden = !secret;
    this.target.hidden = secret;
  }

  #switch() {
    this.json.hidden = !this.json.hidden;
    this.toggle.setAttribute("aria-pressed", String(!this.json.hidden));
    this.toggle.classList.toggle("on", !this.json.hidden);
    this.text.placeholder = this.json.hidden
      ? `Message to ${this.address}`
      : "Text beside the payload (may stay empty)";
    this.#check();
    this.focus();
  }

  /** Show what is wrong with the payload. Returns whether it is good. */
  #check() {
    if (this.json.hidden) {
      fill(this.says);
      return true;
    }
    let fault = jsonFault(this.json.value);
    if (!fault) {
      const value = JSON.parse(this.json.value);
      if (value === null || typeof value !== "object" || Array.isArray(value))
        fault = "A payload is a JSON object: { … }";
    }
    fill(this.says, fault ? h("span.fault", fault) : h("span.ack", "The payload is valid JSON."));
    return !fault;
  }

  /** @param {Event} event */
  async #send(event) {
    event.preventDefault();
    const { bus } = this.app.session;
    if (!this.#check()) return;
    const payload = this.json.hidden ? undefined : JSON.parse(this.json.value);
    const text = this.text.value;
    if (!text && payload === undefined) {
      fill(this.says, h("span.fault", "Write something first."));
      return;
    }
    this.button.disabled = true;
    const began = performance.now();
    try {
      const message = text || undefined;
      const secret = this.type.value === "private";
      const to = this.to.value
        .split(",")
        .map((each) => each.trim())
        .filter(Boolean);
      const receipt = secret
        ? await bus.private(to, message, { payload })
        : await bus.publish(this.target.value.trim(), message, { payload, type: this.type.value, echo: true });
      const where = `${receipt.room}:${receipt.channel}`;
      fill(this.says, [
        h("span.ack", `✓ durable in ${duration(performance.now() - began)}`),
        h("span", receipt.seq === null ? "not kept: the channel is ephemeral" : `seq ${count(receipt.seq)}`),
        h("span.mono.cut", receipt.id),
        where !== this.address && !secret && h("a", { href: `#/messages/${where}` }, `see it in ${where}`),
      ]);
      this.text.value = "";
    } catch (problem) {
      this.#refused(problem);
    } finally {
      this.button.disabled = false;
      this.text.focus();
    }
  }

  /**
   * Show an error with all its details.
   * @param {any} problem
   */
  #refused(problem) {
    const details = /** @type {any[]} */ (problem.details ?? [])
      .map((each) => each.message ?? "")
      .filter((each) => each && !problem.reason?.includes(each));
    fill(this.says, [
      h("span.fault", [explain(problem), ...details.map(plain)].join(" ")),
      problem.code && h("a", { href: `#/contracts?code=${problem.code}` }, problem.code),
    ]);
  }
}
