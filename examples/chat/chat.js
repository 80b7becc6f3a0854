// A chat page: ?bus=ws://HOST:PORT/ &address=room:channel &name=NAME. The client comes from the bus itself.

const options = new URLSearchParams(location.search);
const bus_url = new URL(options.get("bus") ?? "ws://localhost:8765/");
const address = options.get("address") ?? "lobby:chat";
const name = options.get("name") ?? (prompt("Your name?") || "guest");

const web = new URL(bus_url);
web.protocol = bus_url.protocol === "wss:" ? "https:" : "http:";

const $ = (id) => document.getElementById(id);
const people = new Map();

$("address").textContent = address;

const { connect } = await import(new URL("/static/arqonbus/arqonbus.js", web)).catch((problem) => {
  $("state").textContent = `there is no bus at ${bus_url}: start it (make run), or name another with ?bus=ws://HOST:PORT/, and load this page again`;
  throw problem;
});

/** Add a line; what others wrote is set as text, so that nobody's markup becomes ours. */
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

async function look_around(bus) {
  people.clear();
  for (const member of (await bus.channelInfo(address)).participants) {
    people.set(member.client_id, member.screen_name ?? member.client_id);
  }
  show_people();
}

const bus = await connect(bus_url.href, { clientType: "human", screenName: name, room: address });
$("state").textContent = bus.state;
bus.on("state", (state) => {
  $("state").textContent = state;
  if (state === "connected") look_around(bus);
});
await look_around(bus);

$("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value;
  $("text").value = "";
  try {
    // One's own messages come back like those of others, also one that is sent while the subscription below begins.
    await bus.publish(address, text, { payload: { name }, echo: true });
  } catch (problem) {
    show("", `not sent: ${problem.message}`, "notice");
    $("text").value = text;
  }
});

// The last hour, then what comes: each message once, also if the server restarts.
const an_hour_ago = new Date(Date.now() - 3_600_000);
for await (const message of bus.subscribe(address, { since: an_hour_ago, echo: true, presence: true })) {
  if (message.event === "client_joined") {
    people.set(message.payload.client_id, message.payload.screen_name ?? message.payload.client_id);
    show_people();
  } else if (message.event === "client_left") {
    people.delete(message.payload.client_id);
    show_people();
  } else if (message.text) {
    if (message.afterGap) show("", "some messages are no longer kept", "notice");
    show(message.payload.name ?? message.sender, message.text);
  }
}
