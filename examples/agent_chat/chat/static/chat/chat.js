// The messages of the chat. htmx sends the forms. This module shows what comes over the bus, and lets answers grow.

import { connect } from "/static/arqonbus/arqonbus.js";

const { channel, bus: path } = document.body.dataset;
const $ = (id) => document.getElementById(id);

/** Add a message to the page. Everything is set as text, so that markup in a message has no effect. */
function bubble(message) {
  const item = document.createElement("li");
  item.id = message.id;
  item.className = message.payload.role === "user" ? "question" : "answer";
  item.append(document.createElement("span"));
  $("messages").append(item);
  return item;
}

function show(item, text) {
  const list = $("messages");
  const at_end = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  item.firstChild.textContent = text;
  if (at_end) item.scrollIntoView({ block: "end" });
}

/** Show an answer until it has ended. Each one has its own stop button: a second press never stops another one. */
async function grow(message, item) {
  const stop = $("stop").content.firstElementChild.cloneNode(true);
  stop.elements.of.value = message.id;
  item.append(stop);
  window.htmx.process(stop);
  item.dataset.state = "open";
  await bus.streamText(message, (text) => show(item, text));
  item.dataset.state = message.state;
  stop.remove();
}

/** Show under the question why a form was not sent, or nothing. */
function complain(text) {
  $("problem").textContent = text;
}

/** A stop that is on its way shows it. One that did not arrive may be pressed again. */
function stopping(form, pressed) {
  const button = form.querySelector("button");
  button.disabled = pressed;
  button.textContent = pressed ? "Stopping …" : "Stop";
}

function failed(form, reason) {
  const what = form.id === "ask" ? "Your question was not sent" : "The answer was not stopped";
  complain(`${what}: ${reason}. Please try again.`);
  if (form.matches(".stop")) stopping(form, false);
}

document.body.addEventListener("htmx:before:request", ({ target }) => {
  complain("");
  if (target.matches(".stop")) stopping(target, true);
});
document.body.addEventListener("htmx:after:request", ({ target, detail }) => {
  const { status } = detail.ctx.response;
  if (status >= 400) failed(target, `the server says ${status}`);
  else if (target.id === "ask") target.reset();
});
document.body.addEventListener("htmx:error", ({ target }) => failed(target, "the server does not answer"));

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
