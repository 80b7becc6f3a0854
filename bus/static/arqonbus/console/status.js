/** The state of the connection: a pill in the bar, a banner while something is wrong, and notices of errors. */
import { ClosedByServer, ServerError } from "../arqonbus.js";
import { fill, h, toast } from "./dom.js";
import { explain } from "./format.js";

/** @typedef {import("./session.js").State} State */

/** @type {Record<State, string>} */
const WORDS = {
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  closed: "Disconnected",
};
/** Errors for which there is a banner, which stays until they are over. */
const PASSING = new Set(["RESTARTING", "TOO_SLOW", "UNAVAILABLE"]);

export class ConnectionStatus {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.bus = session.bus;
    this.pill = h("button.pill", { type: "button", id: "connection", onclick: () => this.bus.reconnectNow() });
    this.banner = h("div.banner", { role: "status", hidden: true });
    session.state.watch((state) => this.#show(state));
    this.bus.on("error", (problem) => {
      if (!(problem instanceof ServerError && PASSING.has(problem.code))) toast(explain(problem), "bad");
    });
  }

  /** @param {State} state */
  #show(state) {
    const { bus } = this;
    this.pill.className = `pill ${state}`;
    fill(this.pill, h("span.dot"), h("span", WORDS[state]));
    this.pill.title = state === "reconnecting" ? "Click to try at once" : `${bus.clientId}, ${bus.role}`;
    this.banner.hidden = state === "connected" || state === "connecting";
    this.banner.classList.toggle("bad", state === "closed");
    if (state === "reconnecting") {
      const text = "The server does not answer. The page reconnects by itself and catches up on what it missed.";
      this.#fill(text, "Try now", () => bus.reconnectNow());
    } else if (state === "closed") {
      const { failure } = bus;
      const problem = (failure instanceof ClosedByServer && failure.error) || failure;
      const text = `The server ended this connection: ${problem ? explain(problem) : ""}`;
      this.#fill(text, "Connect again", () => location.reload());
    }
  }

  /**
   * @param {string} text
   * @param {string} label of the button
   * @param {() => void} onclick
   */
  #fill(text, label, onclick) {
    fill(this.banner, text, h("button.small", { type: "button", onclick }, label));
  }
}
