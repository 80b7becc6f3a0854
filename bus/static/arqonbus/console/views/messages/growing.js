/** An answer that grows, as its row shows it: its state, and its last words. */
import { StreamReset } from "../../../arqonbus.js";
import { counted } from "../../format.js";

/** @typedef {import("../../../arqonbus.js").Message} Message */

/** So many characters of an answer are enough for a row. */
const ROW = 240;

/** What people read for each state. */
export const STATES = /** @type {const} */ ({
  open: "writing",
  complete: "complete",
  aborted: "aborted",
  stopped: "stopped",
});

/**
 * Pass on everything that an answer has and gets, until it ends. Resolves with its state.
 * @param {Message} message
 * @param {{ add: (delta: any) => void, clear: () => void, isOver: () => boolean }} reader `clear`: a new owner threw
 *   the text away; `isOver`: nobody looks any more
 */
export async function follow(message, { add, clear, isOver }) {
  for (;;) {
    try {
      for await (const delta of message.deltas()) {
        if (isOver()) return message.state;
        add(delta);
      }
      return message.state;
    } catch (problem) {
      if (!(problem instanceof StreamReset)) throw problem;
      clear();
    }
  }
}

/**
 * A text whose beginning was cut off, from its next word on.
 * @param {string} tail
 */
export function lastWords(tail) {
  const border = tail.indexOf(" ");
  // A text without spaces, such as Chinese, begins at a whole character.
  return `… ${border < 0 ? tail.replace(/^[\udc00-\udfff]/, "") : tail.slice(border + 1)}`;
}

/** Keeps what one row shows of an answer. */
export class Growing {
  /**
   * @param {Message} message
   * @param {() => void} onchange
   */
  constructor(message, onchange) {
    this.message = message;
    /** Counts the changes, so that a row is drawn once for each. */
    this.version = 0;
    this.tail = "";
    /** Whether there are words before the last ones. */
    this.cut = false;
    const changed = () => {
      this.version += 1;
      onchange();
    };
    this.over = follow(message, {
      add: (delta) => {
        const words = typeof delta === "string" ? delta : JSON.stringify(delta);
        const whole = typeof delta === "string" ? this.tail + words : words;
        this.cut ||= typeof delta === "string" && whole.length > ROW;
        this.tail = whole.slice(-ROW);
        changed();
      },
      clear: () => {
        this.tail = "";
        this.cut = false;
        changed();
      },
      isOver: () => false,
    }).then(changed);
  }

  /** The last words while it grows, and the first ones afterwards. */
  get text() {
    const { message } = this;
    // A row is one line.
    const tail = this.tail.replace(/\s+/g, " ");
    if (message.state === "open") return this.cut ? lastWords(tail) : tail;
    return message.mode === "parts"
      ? `${counted(message.parts.length, "part")}, the last one: ${tail}`
      : message.text.slice(0, ROW);
  }
}
