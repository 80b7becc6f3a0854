/** What the page knows about the jobs of a work channel: from the overview, and from the server's notices. */
import { count, counted } from "../../format.js";

/** @typedef {import("../../../arqonbus.js").WorkOverview} WorkOverview */
/** @typedef {"claimed" | "done" | "returned" | "dead" | "discarded" | "retried"} What */
/** @typedef {{ what: What, seq: number, attempt?: number, by?: string | null, at?: string }} Change */
/** @typedef {{ what: What, attempt: number, by: string }} JobState */

/** So many jobs are remembered. The list of messages holds as many. */
const REMEMBERED = 12_000;
/** So many numbers stand in a line of the timeline. */
const NAMED = 4;

/**
 * What people read for each change, behind the name of a worker or a number.
 * @type {Record<What, [verb: string, word: string]>}
 */
export const CHANGES = {
  claimed: ["took", "at work"],
  done: ["finished", "done"],
  returned: ["returned", "returned"],
  dead: ["gave up", "dead"],
  discarded: ["discarded", "discarded"],
  retried: ["retried", "ready"],
};

/** @param {unknown} what @returns {what is What} */
const isWhat = (what) => typeof what === "string" && Object.hasOwn(CHANGES, what);

/**
 * The changes of a notice. Other values than those of the protocol are left out.
 * @param {Record<string, any>} payload
 * @returns {Change[]}
 */
export const changesOf = ({ changes }) =>
  Array.isArray(changes) ? changes.filter((each) => isWhat(each?.what) && Number.isInteger(each.seq)) : [];

/**
 * How many changes of each kind a notice counts, the listed ones included.
 * @param {Record<string, any>} payload
 * @returns {Map<What, number>}
 */
export function countsOf({ counts, changes }) {
  /** @type {Map<What, number>} */
  const sums = new Map();
  for (const { what } of changesOf({ changes })) sums.set(what, (sums.get(what) ?? 0) + 1);
  for (const [what, value] of Object.entries(counts ?? {})) {
    if (isWhat(what) && Number.isInteger(value)) sums.set(what, Math.max(value, sums.get(what) ?? 0));
  }
  return sums;
}

/** The states of single jobs, as far as they are known. */
export class JobStates {
  constructor() {
    /** @type {Map<number, JobState>} */
    this.bySeq = new Map();
    /** Counts the changes, so that a row is drawn once for each. */
    this.version = 0;
  }

  /** @param {number | undefined} seq */
  get(seq) {
    return seq === undefined ? undefined : this.bySeq.get(seq);
  }

  /**
   * A notice arrived.
   * @param {Record<string, any>} payload
   */
  heard(payload) {
    const changes = changesOf(payload);
    const all = [...countsOf(payload).values()].reduce((sum, each) => sum + each, 0);
    // Some changes are only counted, so a job that was at work may be anywhere by now.
    if (all > changes.length) this.#forget("claimed");
    for (const { what, seq, attempt, by } of changes) this.#set(seq, { what, attempt: attempt ?? 0, by: by ?? "" });
  }

  /**
   * The server told what is at work and what is dead.
   * @param {WorkOverview} overview
   */
  learn({ claimed, dead, claimed_count: working, dead_count: gone }) {
    if (claimed.length === working) this.#forget("claimed");
    if (dead.length === gone) this.#forget("dead");
    for (const { seq, attempt, by } of claimed) this.#set(seq, { what: "claimed", attempt, by: by ?? "" });
    for (const { seq, attempts } of dead) this.#set(seq, { what: "dead", attempt: attempts, by: "" });
  }

  /** @param {What} what */
  #forget(what) {
    for (const [seq, state] of this.bySeq) if (state.what === what) this.bySeq.delete(seq);
    this.version += 1;
  }

  /**
   * @param {number} seq
   * @param {JobState} state
   */
  #set(seq, state) {
    this.bySeq.delete(seq);
    this.bySeq.set(seq, state);
    this.version += 1;
    if (this.bySeq.size > REMEMBERED) this.bySeq.delete(/** @type {number} */ (this.bySeq.keys().next().value));
  }
}

/**
 * One notice of two that followed one another without a message in between.
 * @param {Record<string, any>} before
 * @param {Record<string, any>} after
 */
export function merged(before, after) {
  const counts = countsOf(before);
  for (const [what, value] of countsOf(after)) counts.set(what, (counts.get(what) ?? 0) + value);
  const changes = [...changesOf(before), ...changesOf(after)].slice(-200);
  return { event: "work", changes, counts: Object.fromEntries(counts) };
}

/**
 * A notice as one line: `worker-1 took 41, 42 · worker-2 finished 12 jobs · 7 dead`.
 * @param {Record<string, any>} payload
 */
export function sentence(payload) {
  const changes = changesOf(payload);
  const counts = countsOf(payload);
  /** @type {Map<string, { by: string, what: What, seqs: number[] }>} */
  const groups = new Map();
  for (const { what, by, seq } of changes) {
    const key = JSON.stringify([by ?? "", what]);
    const group = groups.get(key) ?? { by: by ?? "", what, seqs: [] };
    groups.set(key, group);
    group.seqs.push(seq);
  }
  const named = changes.length === [...counts.values()].reduce((sum, each) => sum + each, 0) && groups.size <= NAMED;
  if (!named) return [...counts].map(([what, value]) => `${count(value)} ${CHANGES[what][1]}`).join(" · ");
  return [...groups.values()]
    .map(({ by, what, seqs }) => {
      const which =
        seqs.length > NAMED ? counted(seqs.length, "job") : `job${seqs.length > 1 ? "s" : ""} ${seqs.join(", ")}`;
      return by ? `${by} ${CHANGES[what][0]} ${which}` : `${which} ${CHANGES[what][1]}`;
    })
    .join(" · ");
}
