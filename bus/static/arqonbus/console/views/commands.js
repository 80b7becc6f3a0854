/** A prompt for the bus's commands, with completion from `help`, and every frame of this page beside it. */
import { empty, fill, h, icon } from "../dom.js";
import { explain } from "../format.js";
import { jsonBlock, jsonFault } from "../json-view.js";
import { Completion } from "./commands/completion.js";
import { FramesPane } from "./commands/frames.js";
import { complete, parse } from "./commands/language.js";

/** @typedef {import("../session.js").App} App */
/** @typedef {import("./commands/language.js").CommandDescription} CommandDescription */

/** @type {string[]} what was typed in this visit, which the page remembers while it goes from view to view */
const typed = [];
const EXAMPLES = [
  "help",
  "status limit=5",
  "list_channels all=true",
  "history channel=science:explore limit=3",
  "ping echo=hi",
];
/** How many answers stay on the page. */
const ANSWERS = 50;

/** @param {App} app */
export function commands(app) {
  const { session } = app;
  const { bus } = session;
  /** @type {CommandDescription[]} */
  let known = [];
  let back = typed.length;

  const log = h("div.log", { role: "log", "aria-label": "Answers" });
  const input = h("input", {
    name: "command",
    placeholder: "Type a command, such as help",
    "aria-label": "Command",
    autocomplete: "off",
    spellcheck: "false",
    role: "combobox",
    "aria-expanded": "false",
    "aria-controls": "completion",
  });
  const completion = new Completion(input, (line) =>
    complete(line, known, {
      room: app.rooms.rooms.value.map((each) => each.room),
      channel: [...app.rooms.channels.keys()],
    }),
  );
  const prompt = h("form.prompt", { onsubmit: run }, completion.element, input);
  const frames = new FramesPane(session);
  const element = h("div", [
    h(
      "div.view-head",
      h("h1", icon("commands"), "Commands"),
      h("span.dim", "One command a line: ", h("code", "name parameter=value"), ", or a frame of your own as JSON"),
    ),
    h("div.console-view", [h("div.pane", log, prompt), frames.element]),
  ]);
  const examples = EXAMPLES.map((line) => h("button.small", { type: "button", onclick: () => submit(line) }, line));
  fill(log, empty("commands", "Ask the bus something", "Tab completes. Try one of these:", h("div.actions", examples)));

  bus.help().then(
    (found) => {
      known = found;
      completion.update();
    },
    () => {},
  );

  input.addEventListener("keydown", (event) => {
    if (completion.key(event) || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    back = Math.max(0, Math.min(typed.length, back + (event.key === "ArrowUp" ? -1 : 1)));
    input.value = typed[back] ?? "";
  });

  /** @param {string} line */
  function submit(line) {
    input.value = line;
    prompt.requestSubmit();
  }

  /** @param {Event} event */
  async function run(event) {
    event.preventDefault();
    const line = input.value.trim();
    if (!line) return;
    input.value = "";
    completion.close();
    typed.push(line);
    back = typed.length;
    if (typed.length === 1 || log.querySelector(".empty")) fill(log);
    const outcome = h("div.outcome.dim", "…");
    const entry = h("div.entry", h("div.typed", line), outcome);
    log.append(entry);
    log.scrollTop = log.scrollHeight;
    try {
      if (line.startsWith("{")) await sendFrame(line, outcome);
      else entry.append(await runCommand(line, outcome));
    } catch (problem) {
      const { code, details } = /** @type {any} */ (problem);
      outcome.className = "outcome bad";
      fill(outcome, explain(problem), code && [" ", h("a", { href: `#/contracts?code=${code}` }, code)]);
      if (details?.length) entry.append(jsonBlock(details));
    }
    while (log.children.length > ANSWERS) log.children[0].remove();
    log.scrollTop = log.scrollHeight;
  }

  /**
   * Send a frame as the visitor wrote it.
   * @param {string} line
   * @param {HTMLElement} outcome
   */
  async function sendFrame(line, outcome) {
    const fault = jsonFault(line);
    if (fault) throw new Error(fault);
    const { id } = JSON.parse(line);
    if (id) session.asked.add(id);
    await bus.send(line);
    outcome.textContent = "Sent as it is. The frames beside this show the answer.";
  }

  /**
   * Run a command; its result as an element.
   * @param {string} line
   * @param {HTMLElement} outcome
   */
  async function runCommand(line, outcome) {
    const word = line.split(/\s/)[0];
    if (known.length && !known.some((each) => each.command === word)) {
      throw new Error(`There is no command ${word}. \`help\` lists the commands.`);
    }
    const [name, parameters] = parse(line);
    const id = `arq_console_${Math.random().toString(36).slice(2)}`;
    session.asked.add(id);
    const began = performance.now();
    const result = await bus.command(name, parameters, { id });
    outcome.className = "outcome good";
    outcome.textContent = `success, ${(performance.now() - began).toFixed(1)} ms`;
    return name === "help" && result.commands ? manual(result.commands) : jsonBlock(result);
  }

  const timer = setInterval(() => frames.draw(), 250);
  queueMicrotask(() => {
    frames.draw();
    if (matchMedia("(min-width: 761px)").matches) input.focus();
  });
  return {
    element,
    /** @param {KeyboardEvent} event */
    key(event) {
      if (event.key === "/" || event.key === "c") {
        event.preventDefault();
        input.focus();
      } else if (event.key === "p") frames.toggle();
    },
    close: () => clearInterval(timer),
  };
}

/**
 * The answer of `help` for people: the commands, and the parameters of each.
 * @param {CommandDescription[]} rows
 */
function manual(rows) {
  return h(
    "dl.manual",
    rows.map((each) => {
      const names = Object.keys(each.parameters);
      return [
        h("dt", h("code", each.command), each.who === "admin" && h("span.badge.system", "admins")),
        h(
          "dd",
          each.summary,
          h("div.faint", names.length ? names.map((name) => [h("code", name), " "]) : "takes no parameters"),
        ),
      ];
    }),
  );
}
