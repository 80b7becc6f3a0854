// A chat page. Its URL takes ?bus=ws://HOST:PORT/ &address=room:channel &name=NAME. It loads the client from the bus itself.

const options = new URLSearchParams(location.search);
const bus_url = new URL(options.get("bus") ?? "ws://localhost:8765/");
const address = options.get("address") ?? "lobby:chat";
const name = options.get("name") ?? (prompt("Your name?") || "guest");

const web = new URL(bus_url);
web.protocol = bus_url.protocol === "wss:" ? "https:" : "http:";

const $ = (id) => document.getElementById(id);
const people = new Map();

/** The bus, once the page has connected to it. */
let bus = null;

// The form is taken over before anything else: a browser would send it itself, and thereby leave the page.
$("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value;
  $("text").value = "";
  try {
    // With `echo`, our own message arrives like all others, even if the subscription below has not started yet.
    await bus.publish(address, text, { payload: { name }, echo: true });
  } catch (problem) {
    show("", `Not sent: ${problem.message}`, "notice");
    $("text").value = text;
  }
});

$("address").textContent = address;

const { connect } = await import(new URL("/static/arqonbus/arqonbus.js", web)).catch((problem) => {
  $("state").textContent =
    `There is no bus at ${bus_url}. Start it (make run) or choose another one with ?bus=ws://HOST:PORT/. Then reload this page.`;
  throw problem;
});

/** Add a line to the page. It is set as text, so that markup in a message has no effect. */
function show(who, text, kind = "message") {
  const line = document.createElement("li");
  line.className = kind;
  if (who) {
    const speaker = document.createElement("b");
    speaker.textContent = who;
    line.append(speaker);
  }
  line.append(text);
  const list = $("messages");
  const at_end = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(line);
  if (at_end) line.scrollIntoView();
}

function show_people() {
  $("who").textContent = `${people.size} here: ${[...people.values()].join(", ")}`;
}

async function look_around() {
  people.clear();
  for (const member of (await bus.channelInfo(address)).participants) {
    people.set(member.client_id, member.screen_name ?? member.client_id);
  }
  show_people();
}

bus = await connect(bus_url.href, { clientType: "human", screenName: name, room: address });
bus.on("state", (state) => {
  $("state").textContent = state;
  if (state === "connected") look_around();
});
await look_around();
$("entry").disabled = false;
$("state").textContent = bus.state;

// Show the last hour, then new messages: each one once, even if the server restarts.
const an_hour_ago = new Date(Date.now() - 3_600_000);
for await (const message of bus.subscribe(address, { since: an_hour_ago, echo: true, presence: true })) {
  if (message.event === "client_joined") {
    people.set(message.payload.client_id, message.payload.screen_name ?? message.payload.client_id);
    show_people();
  } else if (message.event === "client_left") {
    people.delete(message.payload.client_id);
    show_people();
  } else if (message.text) {
    if (message.afterGap) show("", "Some messages are gone.", "notice");
    show(message.payload.name ?? message.sender, message.text);
  }
}
