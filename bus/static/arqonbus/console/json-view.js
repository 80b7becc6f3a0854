/** JSON as people read it: indented and coloured, built from text nodes. */
import { copyButton, h } from "./dom.js";

/** The most characters that are coloured. Longer texts are shown plain. */
const COLOURED = 60_000;
const TOKENS = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/**
 * A `pre` element with a value, or with JSON as a text.
 * @param {unknown} value
 */
export function jsonView(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const element = h("pre.json", { tabindex: "0" });
  if (text.length > COLOURED) {
    element.textContent = text;
    return element;
  }
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    if (match.index > end) element.append(text.slice(end, match.index));
    const [token, string, colon, word] = match;
    const kind = string ? (colon ? "key" : "string") : word ? "word" : "number";
    element.append(h(`span.${kind}`, string ?? token), colon ?? "");
    end = match.index + token.length;
  }
  element.append(text.slice(end));
  return element;
}

/**
 * A value with a button that copies it.
 * @param {unknown} value
 */
export function jsonBlock(value) {
  const text = JSON.stringify(value, null, 2);
  return h("div.json-block", jsonView(text), copyButton(text, "Copy JSON"));
}

/**
 * What is wrong with a text as JSON, in words with line and column, or null.
 * @param {string} text
 */
export function jsonFault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch {
    // Browsers do not agree on how to report the place, so it is searched here.
    const [at, what] = firstFault(text);
    const before = text.slice(0, at);
    return `Line ${before.split("\n").length}, column ${at - before.lastIndexOf("\n")}: ${what}`;
  }
}

/**
 * Where a text stops being JSON, and what is missing there.
 * @param {string} text
 * @returns {[at: number, what: string]}
 */
function firstFault(text) {
  let at = 0;
  /** @type {(what: string) => never} */
  const fail = (what) => {
    throw Object.assign(new Error(what), { at });
  };
  const blank = () => {
    while (" \t\r\n".includes(text[at] ?? "x")) at += 1;
  };
  const match = (/** @type {RegExp} */ pattern, /** @type {string} */ what) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) return fail(what);
    at += found[0].length;
    return undefined;
  };
  // eslint-disable-next-line no-control-regex -- JSON does not allow them in a text
  const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
  const string = () =>
    match(
      STRING,
      text[at] === '"'
        ? "this text has no end, or a character in it needs a backslash"
        : 'a name in "quotes" is missing',
    );
  const items = (/** @type {string} */ end, /** @type {() => void} */ item) => {
    at += 1;
    blank();
    if (text[at] === end) {
      at += 1;
      return;
    }
    for (;;) {
      item();
      blank();
      if (text[at] === end) break;
      if (text[at] !== ",") fail(`a comma or ${end} is missing`);
      at += 1;
      blank();
      if (text[at] === end) fail("there is nothing behind the last comma");
    }
    at += 1;
  };
  /** @returns {void} */
  const value = () => {
    blank();
    const first = text[at];
    if (first === "{") {
      items("}", () => {
        string();
        blank();
        if (text[at] !== ":") fail("a colon is missing");
        at += 1;
        value();
      });
    } else if (first === "[") items("]", value);
    else if (first === '"') string();
    else if (first === undefined) fail("something is missing here");
    else
      match(
        /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y,
        'a value is missing: a number, "text", true, false, null, { or [',
      );
  };
  try {
    value();
    blank();
    return [at, "there is more than one value"];
  } catch (problem) {
    const fault = /** @type {any} */ (problem);
    return [fault.at ?? at, fault.message];
  }
}
