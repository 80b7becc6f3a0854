/** The fields of a new channel that make it hand each message to one worker. */
import { h } from "./dom.js";

export class WorkFields {
  constructor() {
    this.on = h("input", { type: "checkbox", name: "work", onchange: () => (this.more.hidden = !this.on.checked) });
    this.lease = number("lease", "30", 86_400);
    this.attempts = number("attempts", "5", 1_000);
    this.dead = h("input", { name: "dead", placeholder: "none", pattern: "[^:]+:[^:]+" });
    this.more = h("div.fields", { hidden: true }, [
      h("label", "Lease in seconds", this.lease),
      h("label", "Attempts", this.attempts),
      h("label.broad", "Dead jobs go to", this.dead),
    ]);
    this.element = h("div.stack", [h("label.check", this.on, "Work: hand each message to one worker"), this.more]);
  }

  /** What the server is asked for, or undefined for an ordinary channel. */
  get rule() {
    if (!this.on.checked) return undefined;
    const dead = this.dead.value.trim();
    return { lease: Number(this.lease.value), attempts: Number(this.attempts.value), ...(dead ? { dead } : {}) };
  }
}

/**
 * @param {string} name
 * @param {string} value
 * @param {number} max
 */
const number = (name, value, max) =>
  h("input", { type: "number", name, value, min: "1", max: String(max), required: true });
