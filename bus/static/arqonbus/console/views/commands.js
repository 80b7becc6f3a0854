/** A prompt for the bus's commands, with completion from `help`, and every frame of this page beside it. */
import { empty, fill, h, icon } from "../dom.js";
import { plain, rate, time } from "../format.js";
import { jsonBlock, jsonFault } from "../json-view.js";
import { VirtualList } from "../virtual-list.js";

/** What was typed in this visit, kept while the page goes from view to view. */
const typed = [];

export function commands(app) {
  const { session } = app;
  const { bus } = session;
  let known = [];
  let offers = [];
  let chosen = 0;
  let back = typed.length;
  let paused = false;
  let seen = -1;
  let frames = [];

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
  const completion = h("div.completion", { id: "completion", role: "listbox", hidden: true });
  const prompt = h("form.prompt", { onsubmit: run }, completion, input);
  const speed = h("span.faint");
  const pause = h("button.ghost.small", { type: "button", onclick: () => setPaused(!paused) });
  const own = h("input", {
    type: "checkbox",
    onchange: () => {
      seen = -1;
      draw();
    },
  });
  const whole = h("div", { hidden: true });
  const list = new VirtualList({
    height: 30,
    label: "Frames, newest first",
    make: () => h("div.frame-row", h("span"), h("span.faint"), h("span.cut")),
    show(row, item) {
      const [direction, at, text] = row.children;
      direction.className = item.direction;
      direction.textContent = item.direction === "in" ? "↓" : "↑";
      direction.title = item.direction === "in" ? "from the server" : "to the server";
      at.textContent = time(item.at);
      fill(text, h("b", item.label), " ", item.text);
    },
    items: (index) => frames[frames.length - 1 - index],
    onpick(item) {
      setPaused(true);
      const fault = jsonFault(item.text);
      whole.hidden = false;
      fill(whole, fault ? h("pre.json", item.text) : jsonBlock(JSON.parse(item.text)));
    },
  });
  whole.classList.add("detail-body");
  const element = h("div", [
    h(
      "div.view-head",
      h("h1", icon("commands"), "Commands"),
      h("span.dim", "One command a line: ", h("code", "name parameter=value"), ", or a frame of your own as JSON"),
    ),
    h("div.console-view", [
      h("div.pane", log, prompt),
      h(
        "div.pane",
        h(
          "div.pane-head",
          h("strong", "Frames"),
          speed,
          h("div.grow"),
          h("label.check", own, "show this page's own requests"),
          pause,
        ),
        list.element,
        whole,
      ),
    ]),
  ]);

  fill(
    log,
    empty(
      "commands",
      "Ask the bus something",
      "Tab completes. Try one of these:",
      h(
        "div.actions",
        [
          "help",
          "status limit=5",
          "list_channels all=true",
          "history channel=science:explore limit=3",
          "ping echo=hi",
        ].map((line) => h("button.small", { type: "button", onclick: () => submit(line) }, line)),
      ),
    ),
  );

  // --- the prompt ---

  bus.help().then(
    (found) => {
      known = found;
      offer();
    },
    () => {},
  );

  function offer() {
    const line = input.value;
    const words = line.split(/\s+/);
    const command = known.find((each) => each.command === words[0]);
    const last = words.at(-1);
    offers = [];
    if (line && document.activeElement === input && !line.startsWith("{")) {
      if (words.length === 1) {
        offers = known
          .filter((each) => each.command.startsWith(last) && each.command !== last)
          .map((each) => ({
            text: `${each.command} `,
            name: each.command,
            about: `${each.summary}${each.who === "admin" ? " (admins)" : ""}`,
          }));
      } else if (command) {
        const [name, value] = last.split("=");
        const head = line.slice(0, line.length - last.length);
        if (value === undefined) {
          const used = new Set(words.slice(1, -1).map((each) => each.split("=")[0]));
          offers = Object.entries(command.parameters)
            .filter(([each]) => each.startsWith(name) && !used.has(each))
            .map(([each, schema]) => ({ text: `${head}${each}=`, name: each, about: describe(schema) }));
        } else if (name === "channel" || name === "room") {
          const all =
            name === "channel" ? [...app.rooms.channels.keys()] : app.rooms.rooms.value.map((each) => each.room);
          offers = all
            .filter((each) => each.includes(value) && each !== value)
            .slice(0, 30)
            .map((each) => ({ text: `${head}${name}=${each} `, name: each, about: "" }));
        } else if (name === "command") {
          offers = known
            .filter((each) => each.command.startsWith(value) && each.command !== value)
            .map((each) => ({ text: `${head}command=${each.command} `, name: each.command, about: each.summary }));
        }
      }
    }
    chosen = 0;
    paint();
  }

  function paint() {
    completion.hidden = offers.length === 0;
    input.setAttribute("aria-expanded", String(offers.length > 0));
    fill(
      completion,
      offers.map((each, index) =>
        h(
          "div",
          {
            role: "option",
            class: index === chosen ? "chosen" : null,
            "aria-selected": String(index === chosen),
            onmousedown: (event) => {
              event.preventDefault();
              take(index);
            },
          },
          h("code", each.name),
          h("span", each.about),
        ),
      ),
    );
    completion.children[chosen]?.scrollIntoView({ block: "nearest" });
  }

  function take(index) {
    input.value = offers[index].text;
    offer();
  }

  input.addEventListener("input", offer);
  input.addEventListener("blur", () => {
    offers = [];
    paint();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Tab" && offers.length) {
      event.preventDefault();
      take(chosen);
    } else if (event.key === "ArrowDown" && offers.length) {
      event.preventDefault();
      chosen = (chosen + 1) % offers.length;
      paint();
    } else if (event.key === "ArrowUp" && offers.length) {
      event.preventDefault();
      chosen = (chosen + offers.length - 1) % offers.length;
      paint();
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      event.preventDefault();
      back = Math.max(0, Math.min(typed.length, back + (event.key === "ArrowUp" ? -1 : 1)));
      input.value = typed[back] ?? "";
    } else if (event.key === "Escape" && offers.length) {
      event.stopPropagation();
      offers = [];
      paint();
    }
  });

  function submit(line) {
    input.value = line;
    prompt.requestSubmit();
  }

  async function run(event) {
    event.preventDefault();
    const line = input.value.trim();
    if (!line) return;
    input.value = "";
    offers = [];
    paint();
    typed.push(line);
    back = typed.length;
    if (typed.length === 1 || log.querySelector(".empty")) fill(log);
    const outcome = h("div.outcome.dim", "…");
    const entry = h("div.entry", h("div.typed", line), outcome);
    log.append(entry);
    log.scrollTop = log.scrollHeight;
    const began = performance.now();
    try {
      if (line.startsWith("{")) {
        const fault = jsonFault(line);
        if (fault) throw new Error(fault);
        const { id } = JSON.parse(line);
        if (id) session.asked.add(id);
        await bus.send(line);
        outcome.textContent = "Sent as it is; what the server says is among the frames.";
      } else {
        const word = line.split(/\s/)[0];
        if (known.length && !known.some((each) => each.command === word))
          throw new Error(`There is no command ${word}; help lists them.`);
        const [name, parameters] = parse(line);
        const id = `arq_console_${Math.random().toString(36).slice(2)}`;
        session.asked.add(id);
        const result = await bus.command(name, parameters, { id });
        outcome.className = "outcome good";
        outcome.textContent = `success, ${(performance.now() - began).toFixed(1)} ms`;
        entry.append(name === "help" && result.commands ? manual(result.commands) : jsonBlock(result));
      }
    } catch (problem) {
      outcome.className = "outcome bad";
      fill(
        outcome,
        plain(problem.reason ?? problem.message),
        problem.code && [" ", h("a", { href: `#/contracts?code=${problem.code}` }, problem.code)],
      );
      if (problem.details?.length) entry.append(jsonBlock(problem.details));
    }
    while (log.children.length > 50) log.firstChild.remove();
    log.scrollTop = log.scrollHeight;
  }

  // --- the frames ---

  function setPaused(value) {
    paused = value;
    fill(pause, icon(paused ? "play" : "pause"), paused ? "Resume" : "Pause");
    if (!paused) {
      whole.hidden = true;
      list.clearSelection();
      seen = -1;
    }
  }

  function draw() {
    speed.textContent = `${rate(session.framesIn.rate())}/s in, ${rate(session.framesOut.rate())}/s out`;
    if (paused || seen === session.frames.total) return;
    const fresh = seen < 0 ? 0 : session.frames.total - seen;
    seen = session.frames.total;
    const before = frames.length;
    frames = session.frames.items.filter((each) => own.checked || !each.own);
    list.update(frames.length, list.element.scrollTop > 0 && fresh ? Math.max(0, frames.length - before) : 0);
  }

  const timer = setInterval(draw, 250);
  setPaused(false);
  queueMicrotask(() => {
    draw();
    if (matchMedia("(min-width: 761px)").matches) input.focus();
  });
  return {
    element,
    key(event) {
      if (event.key === "/" || event.key === "c") {
        event.preventDefault();
        input.focus();
      } else if (event.key === "p") setPaused(!paused);
    },
    close: () => clearInterval(timer),
  };
}

/** The answer of `help` for people: what there is, and what each command takes. */
function manual(commands) {
  return h(
    "dl.manual",
    commands.map((each) => {
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

function describe(schema) {
  const types = (schema.anyOf ?? [schema]).map((each) => each.type).filter((each) => each && each !== "null");
  const fallback =
    schema.default === undefined || schema.default === null || schema.default === ""
      ? ""
      : `, default ${JSON.stringify(schema.default)}`;
  return `${schema.description ?? ""} (${types.join(" or ") || "any"}${fallback})`;
}

/** `history channel=science:explore limit=3` as a name and parameters. Throws Error with what is wrong. */
export function parse(line) {
  const words = line.match(/(?:[^\s"{]|"(?:\\.|[^"])*"|\{.*\})+/g) ?? [];
  const [name, ...rest] = words;
  const parameters = {};
  for (const word of rest) {
    const at = word.indexOf("=");
    if (at < 1) throw new Error(`${word} is not a parameter. Write name=value.`);
    const text = word.slice(at + 1);
    let value = text;
    try {
      value = JSON.parse(text);
    } catch {
      // Not JSON, so it is a text as it stands.
    }
    parameters[word.slice(0, at)] = value;
  }
  return [name, parameters];
}
