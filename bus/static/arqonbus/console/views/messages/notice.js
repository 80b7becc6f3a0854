/** A notice of what became of jobs, in the pane at the side. */
import { h } from "../../dom.js";
import { count, time } from "../../format.js";
import { face } from "../../parts.js";
import { CHANGES, changesOf, countsOf } from "./jobs.js";

/**
 * Show every change that the server listed.
 * @param {import("../../parts.js").DetailPane} pane
 * @param {import("./log.js").Item} item
 * @param {(seq: number) => void} select shows the message of a job
 */
export function showNotice(pane, { frame }, select) {
  const { payload } = frame;
  const changes = changesOf(payload).reverse();
  const counts = [...countsOf(payload)];
  const all = counts.reduce((sum, [, value]) => sum + value, 0);
  const rows = changes.map(({ what, seq, by, at }) =>
    h("li.job-item", [
      h("div.job-head", [
        h("span.faint.mono", at ? time(at) : ""),
        h(
          "button.ghost.small.job-link",
          { type: "button", "aria-label": `Show job ${seq}`, onclick: () => select(seq) },
          `#${seq}`,
        ),
        h("span.badge.job", { class: what }, CHANGES[what][1]),
        by && h("a.who", { href: `#/clients/${by}` }, face(by), h("span.cut", by)),
      ]),
    ]),
  );
  pane.show(
    h("strong", "What became of jobs"),
    h(
      "div.actions",
      counts.map(([what, value]) => h("span.badge.job", { class: what }, `${count(value)} ${CHANGES[what][1]}`)),
    ),
    h(
      "div",
      h("ul.jobs", rows),
      all > changes.length && h("p.faint", `${count(all - changes.length)} more were only counted.`),
    ),
  );
}
