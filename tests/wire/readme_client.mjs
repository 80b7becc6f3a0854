// The JavaScript client of the first README, unchanged but for its end: it tells what it received.
// Run by tests/wire/test_readme_client.py in node (--experimental-websocket) and, from the same text, in a browser page.

export function start(url, room, report) {
  const ws = new WebSocket(url);

  ws.onopen = () => {
    // Register client
    ws.send(JSON.stringify({
      client_id: `readme-${room}`,
      client_type: "human",
      room: `${room}:explore`,
      screen_name: "Ada",
      avatar: "🔬",
      personality: { curiosity: 0.9, style: "precise" },
    }));
    // Send a message
    ws.send(JSON.stringify({ type: "message", room: room, channel: "explore", message: "Hello, science!" }));
  };

  ws.onmessage = (event) => {
    const data = JSON.parse(event.data);
    report(data);
  };
  return ws;
}
