// Follow a run with the stock client of AG-UI: node follow.mjs STREAM. It knows nothing of the bus but a URL.

import { HttpAgent } from "@ag-ui/client";

const [of, bus = process.env.ARQONBUS_HTTP ?? "http://localhost:8765"] = process.argv.slice(2);
const token = process.env.ARQONBUS_TOKEN;
const agent = new HttpAgent({
  url: `${bus}/api/v1/streams/${of}/events?as=agui`,
  headers: token ? { Authorization: `Bearer ${token}` } : {},
});

const say = (text) => process.stdout.write(text);
await agent.runAgent(
  {},
  {
    onToolCallEndEvent: ({ toolCallName, toolCallArgs }) => say(`[${toolCallName} ${JSON.stringify(toolCallArgs)}]\n`),
    onToolCallResultEvent: ({ event: { content } }) => say(`[${content}]\n`),
    onTextMessageContentEvent: ({ event: { delta } }) => say(delta),
    onRunFinishedEvent: () => say("\n[finished]\n"),
    onRunErrorEvent: ({ event: { message } }) => say(`\n[${message}]\n`),
  },
);
