// Follow a run with the stock client of AG-UI: node follow.mjs STREAM [URL]. It knows nothing of the bus but a URL.

import { HttpAgent } from "@ag-ui/client";

const [of, bus = process.env.BUS_HTTP ?? "http://localhost:8765"] = process.argv.slice(2);
if (!of) fail("usage: node follow.mjs STREAM [URL OF THE BUS], such as: node follow.mjs arq_5f0c…");

const token = process.env.ARQONBUS_TOKEN;
const agent = new HttpAgent({
  url: `${bus}/api/v1/streams/${encodeURIComponent(of)}/events?as=agui`,
  headers: token ? { Authorization: `Bearer ${token}` } : {},
});
// The client prints each error with its stack. The line below says it instead.
globalThis.console.error = () => {};

const say = (text) => process.stdout.write(text);
try {
  await agent.runAgent(
    {},
    {
      onToolCallEndEvent: ({ toolCallName, toolCallArgs }) =>
        say(`[${toolCallName} ${JSON.stringify(toolCallArgs)}]\n`),
      onToolCallResultEvent: ({ event: { content } }) => say(`[${content}]\n`),
      onTextMessageContentEvent: ({ event: { delta } }) => say(delta),
      onRunFinishedEvent: () => say("\n[finished]\n"),
      onRunErrorEvent: ({ event: { message } }) => say(`\n[${message}]\n`),
    },
  );
} catch (error) {
  if (error.status === 404) fail(`there is no stream ${of} at ${bus}`);
  if (error.status) fail(`${bus} refuses with HTTP ${error.status}: ${error.payload?.error?.message ?? error.message}`);
  fail(`the bus at ${bus} does not answer (${error.cause?.code ?? error.message})`);
}

function fail(reason) {
  process.stderr.write(`follow: ${reason}\n`);
  process.exit(1);
}
