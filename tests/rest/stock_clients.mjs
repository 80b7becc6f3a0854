// A page with both stock clients. Its address says which stream they follow: /stock/?of=…&client=agui|vercel.

import { HttpAgent } from "@ag-ui/client";
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { createElement, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const { of, client } = Object.fromEntries(new URLSearchParams(location.search));
const events = `/api/v1/streams/${of}/events?as=${client}`;

/** The answer's text as it grows, and what became of it. */
const shown = (text, state) =>
  createElement("main", null, createElement("p", { id: "text" }, text), createElement("p", { id: "state" }, state));

function AgUi() {
  const [text, setText] = useState("");
  const [state, setState] = useState("running");
  useEffect(() => {
    const question = { id: "question", role: "user", content: "Hello?" };
    const agent = new HttpAgent({ url: events, threadId: "chat", initialMessages: [question] });
    const show = ({ messages }) => setText(messages.map((each) => each.content).join("|"));
    agent.runAgent({}, { onMessagesChanged: show }).then(
      () => setState("finished"),
      (problem) => setState(String(problem)),
    );
  }, []);
  return shown(text, state);
}

function Vercel() {
  // The address is given by hand, since each answer has its own. `resume` asks for the answer when the page is loaded.
  const transport = new DefaultChatTransport({ prepareReconnectToStreamRequest: () => ({ api: events }) });
  const question = { id: "question", role: "user", parts: [{ type: "text", text: "Hello?" }] };
  const { messages, status, error } = useChat({ id: "chat", messages: [question], resume: true, transport });
  const texts = messages.map((each) => each.parts.map((part) => part.text ?? "").join(""));
  return shown(texts.join("|"), error ? String(error) : status);
}

createRoot(document.body.appendChild(document.createElement("div"))).render(
  createElement(client === "agui" ? AgUi : Vercel),
);
