/** The connected clients: a table that stays usable with ten thousand rows, and the detail of one client. */
import { confirm, empty, fill, h, icon, select, toast } from "../dom.js";
import { ago, count, explain, rate, time } from "../format.js";
import { jsonBlock } from "../json-view.js";
import { badge, detailPane, face, facts, setBadge, setFace } from "../parts.js";
import { setStatus, statusFacts, statusLine } from "../status-word.js";
import { repeat } from "../store.js";
import { VirtualList } from "../virtual-list.js";

/** @typedef {import("../session.js").App} App */
/** @typedef {import("../feed.js").Activity} Activity */
/**
 * @typedef {import("../../arqonbus.js").ClientRow & { rate?: number, messages_per_second?: number }} Client
 */

const COLUMNS = [
  ["name", "Client", ""],
  ["type", "Type", ""],
  ["status", "Status", "state"],
  ["channels", "Channels", ""],
  ["since", "Since", "since"],
  ["activity", "Last activity", ""],
  ["rate", "Rate", "rate"],
];
/** @type {Record<string, (a: Client, b: Client) => number>} */
const SORT = {
  name: (a, b) => a.client_id.localeCompare(b.client_id),
  type: (a, b) => a.client_type.localeCompare(b.client_type),
  // Those who say nothing come last.
  status: (a, b) => (statusLine(a.status) || "\uffff").localeCompare(statusLine(b.status) || "\uffff"),
  channels: (a, b) => b.channels.length - a.channels.length,
  since: (a, b) => String(b.connected_at).localeCompare(String(a.connected_at)),
  activity: (a, b) => String(b.last_activity).localeCompare(String(a.last_activity)),
  rate: (a, b) => (b.rate ?? 0) - (a.rate ?? 0),
};

/**
 * @param {App} app
 * @param {string} chosen a client id, or ""
 */
export function clients(app, chosen) {
  const { session } = app;
  /** @type {Client[]} */
  let all = [];
  /** @type {Client[]} */
  let rows = [];
  let order = "name";
  let wanted = chosen;
  /** @type {unknown} */
  let failure = null;
  /** The client in the detail. */
  let detailed = "";
  const text = h("input", {
    type: "search",
    placeholder: "Find by name, status, skill",
    "aria-label": "Find a client",
    oninput: () => draw(),
  });
  const kind = select({ "aria-label": "Type", onchange: () => draw() }, [["", "Every type"]]);
  const head = h("span.dim");
  const detail = detailPane(() => list.clearSelection());
  const blank = h("div.scroll.grow", { hidden: true });
  const header = h(
    "div.client-row.head",
    { role: "group", "aria-label": "Order by" },
    COLUMNS.map(([name, label, extra]) =>
      h("button", { type: "button", class: extra || null, onclick: () => sort(name), data: { sort: name } }, label),
    ),
    h("span"),
  );
  const list = new VirtualList({
    height: () => (matchMedia("(max-width: 760px)").matches ? 58 : 40),
    label: "Clients",
    make: () =>
      h("div.client-row", [
        h("span.who", h("span.face"), h("span.cut", h("span"), h("span.faint"))),
        h("span", h("span.badge")),
        h("span.state.doing"),
        h("span.channels.cut.dim"),
        h("span.since.dim"),
        h("span.activity.dim"),
        h("span.rate.num.dim"),
        h(
          "span.does",
          session.admin &&
            h(
              "button.ghost.icon-only.small",
              {
                type: "button",
                title: "Disconnect",
                onclick: disconnectRow,
              },
              icon("close"),
            ),
        ),
      ]),
    show(row, item) {
      const [who, type, state, channels, since, activity, speed] = row.children;
      setFace(who.firstChild, item.client_id, item.screen_name || item.client_id);
      const [name, id] = who.lastChild.children;
      name.textContent = item.screen_name || item.client_id;
      id.textContent = item.screen_name ? ` ${item.client_id}` : "";
      who.title = item.client_id;
      setBadge(type.firstChild, item.client_type);
      setStatus(state, item.status);
      row.classList.toggle("says", Boolean(state.dataset.line));
      channels.textContent = item.channels.join(", ");
      since.textContent = ago(item.connected_at).replace(" ago", "");
      activity.textContent = ago(item.last_activity);
      speed.textContent = item.rate ? `${rate(item.rate)}/s` : "";
    },
    items: (index) => rows[index],
    onpick: (item) => show(item),
  });
  const table = h("div.vtable", header, list.element);
  const element = h("div", [
    h("div.view-head", h("h1", icon("clients"), "Clients"), head),
    h("div.toolbar", { role: "search" }, icon("search"), text, kind),
    h("div.explorer", h("div.explorer-list", blank, table), detail.element),
  ]);

  /** @param {MouseEvent} event */
  function disconnectRow(event) {
    const button = /** @type {HTMLElement} */ (event.currentTarget);
    const row = /** @type {HTMLElement} */ (button.closest("[data-index]"));
    disconnect(rows[Number(row.dataset.index)]);
  }

  /** @param {string} name that of a column */
  function sort(name) {
    order = name;
    draw();
  }

  async function load() {
    const { bus } = session;
    if (!bus.connected) return;
    try {
      /** @type {Client[]} */
      const found = [];
      for await (const client of bus.clients()) found.push(client);
      all = freshen(found, app.feed.activities.items);
      failure = null;
    } catch (problem) {
      failure = problem;
    }
    draw();
  }

  function draw() {
    const words = text.value.trim().toLowerCase();
    const types = [...new Set(all.map((each) => each.client_type))].sort();
    if (kind.options.length !== types.length + 1) {
      const value = kind.value;
      fill(
        kind,
        h("option", { value: "" }, "Every type"),
        types.map((each) => h("option", { value: each }, each)),
      );
      kind.value = types.includes(value) ? value : "";
    }
    rows = all.filter(
      (each) => (!kind.value || each.client_type === kind.value) && (!words || wordsOf(each).includes(words)),
    );
    rows.sort(SORT[order]);
    for (const button of header.querySelectorAll("button"))
      button.setAttribute("aria-pressed", String(button.dataset.sort === order));
    const filtered = rows.length === all.length ? "" : `, ${count(rows.length)} shown`;
    head.textContent = `${count(all.length)} connected${filtered}`;
    list.selected = detail.element.hidden ? -1 : rows.findIndex((each) => each.client_id === detailed);
    list.update(rows.length);
    blank.hidden = rows.length > 0;
    table.hidden = rows.length === 0;
    if (!rows.length) {
      fill(
        blank,
        failure
          ? empty("lock", explain(failure))
          : all.length
            ? empty("search", "No client matches")
            : empty("clients", "Nobody is connected"),
      );
    }
    if (wanted) {
      const index = all.length ? rows.findIndex((each) => each.client_id === wanted) : -1;
      if (index >= 0) {
        list.element.scrollTop = Math.max(0, (index - 3) * list.rowHeight);
        list.pick(index);
      } else if (all.length) toast(`${wanted} is not connected.`);
      if (all.length) wanted = "";
    }
  }

  /** @param {Client} client */
  function show(client) {
    detailed = client.client_id;
    const message = h("button.small", { type: "button", onclick: () => write(client) }, icon("send"), "Message");
    const button =
      session.admin && h("button.small.danger", { type: "button", onclick: () => disconnect(client) }, "Disconnect");
    detail.show(
      [
        face(client.client_id, true, client.screen_name || client.client_id),
        h("div.grow.cut", h("strong", client.screen_name || client.client_id), h("div.dim.cut", client.client_id)),
      ],
      facts([
        ["Type", badge(client.client_type)],
        ...statusFacts(client.status, client.card),
        ["Name", client.screen_name],
        ["Avatar", client.avatar],
        ["Connected", client.connected_at && `${time(client.connected_at)}, ${ago(client.connected_at)}`],
        ["Last activity", ago(client.last_activity)],
        ["Activity", client.rate ? `${rate(client.rate)}/s` : null],
      ]),
      h(
        "div",
        h("div.section-title", `Channels (${client.channels.length})`),
        h(
          "div.actions",
          client.channels.map((each) => h("a.badge", { href: `#/messages/${each}` }, each)),
        ),
      ),
      client.personality &&
        Object.keys(client.personality).length > 0 &&
        h("div", h("div.section-title", "Personality"), jsonBlock(client.personality)),
      h("div.actions", message, button),
    );
  }

  /** @param {Client} client */
  function write(client) {
    const field = h("input", { name: "message", placeholder: "Text", required: true, autofocus: true });
    const fault = h("p.fault", { role: "alert" });
    const dialog = h(
      "dialog",
      { "aria-label": "Message" },
      h("h2", `To ${client.client_id}`),
      h("form", { onsubmit: send }, [
        h("label", "Message", field),
        fault,
        h(
          "div.actions",
          h("button.ghost", { type: "button", onclick: () => dialog.close() }, "Cancel"),
          h("button.primary", { type: "submit" }, "Send"),
        ),
      ]),
    );
    /** @param {Event} event */
    async function send(event) {
      event.preventDefault();
      try {
        const receipt = await session.bus.private(client.client_id, field.value);
        toast(`Sent. It is message ${receipt.seq} of their inbox.`, "good");
        dialog.close();
      } catch (problem) {
        fault.textContent = explain(problem);
      }
    }
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  /** @param {Client} client */
  async function disconnect(client) {
    const consequence =
      "Its connection is closed with code 4403. A client that follows the protocol does not come back. " +
      "The audit log records this.";
    if (!(await confirm(`Disconnect ${client.client_id}?`, consequence, "Disconnect"))) return;
    try {
      await app.api("POST", `clients/${encodeURIComponent(client.client_id)}/disconnect`, {});
      toast(`${client.client_id} was disconnected.`, "good");
      detail.close();
      loop.now();
    } catch (problem) {
      toast(explain(problem), "bad");
    }
  }

  const loop = repeat(load, 2500);
  return {
    element,
    /** @param {KeyboardEvent} event */
    key(event) {
      if (event.key === "Escape") detail.close();
      else if (event.key === "/") {
        event.preventDefault();
        text.focus();
      } else if (["j", "k"].includes(event.key)) {
        list.element.focus();
        list.element.dispatchEvent(new KeyboardEvent("keydown", { key: event.key }));
      }
    },
    close: () => loop.stop(),
  };
}

/**
 * What a search looks at, in lower case.
 * @param {Client} client
 */
function wordsOf({ client_id: id, screen_name: name, channels, status, card }) {
  const skills = Array.isArray(card?.skills) ? card.skills : [];
  return [id, name ?? "", ...channels, statusLine(status), card?.name ?? "", ...skills].join(" ").toLowerCase();
}

/**
 * Bring rows up to date. The server knows the last activity as of its last heartbeat. The activity events are newer,
 * and give the rate.
 * @param {Client[]} found
 * @param {Activity[]} activities oldest first
 */
export function freshen(found, activities) {
  const now = Date.now();
  /** @type {Map<string, { last: number, rate: number }>} */
  const seen = new Map();
  for (let index = activities.length - 1; index >= 0 && activities[index].at >= now - 60_000; index -= 1) {
    const { client_id: id, at } = activities[index];
    const one = seen.get(id) ?? { last: at, rate: 0 };
    if (at >= now - 10_000) one.rate += 0.1;
    seen.set(id, one);
  }
  for (const client of found) {
    const { last = 0, rate: speed = 0 } = seen.get(client.client_id) ?? {};
    client.rate = client.messages_per_second ?? speed;
    if (last > (Date.parse(client.last_activity ?? "") || 0)) client.last_activity = new Date(last).toISOString();
  }
  return found;
}
