// The messages of the chat. htmx sends the forms. This module shows what comes over the bus, and lets answers grow.

import { connect } from "/static/arqonbus/arqonbus.js";

const { channel, bus: path } = document.body.dataset;
const $ = (id) => document.getElementById(id);

/** Add a message to the page. Everything is set as text, so that markup in a message has no effect. */
function bubble(message) {
  const item = document.createElement("li");
  item.id = message.id;
  item.className = message.payload.role === "user" ? "question" : "answer";
  $("messages").append(item);
  return item;
}

function show(item, text) {
  const list = $("messages");
  const at_end = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  item.textContent = text;
  if (at_end) item.scrollIntoView({ block: "end" });
}

/** Show an answer until it has ended. The stop button belongs to the last one. */
async function grow(message, item) {
  item.dataset.state = "open";
  $("stop").elements.of.value = message.id;
  $("stop").hidden = false;
  await bus.streamText(message, (text) => show(item, text));
  item.dataset.state = message.state;
  if ($("stop").elements.of.value === message.id) $("stop").hidden = true;
}

$("ask").addEventListener("htmx:after:request", () => $("ask").reset());

const address = new URL(path, location.href);
address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
const bus = await connect(address.href, { clientType: "human" });
bus.on("state", (state) => ($("state").textContent = state));
$("state").textContent = bus.state;

// From the beginning: each message once, whatever happens to the server. An answer that is not finished grows on.
for await (const message of bus.subscribe(channel, { since: 0 })) {
  const item = bubble(message);
  show(item, message.text);
  if (message.state) grow(message, item);
}
