/** The lines of the prompt: `name parameter=value`, and how they are completed. */

/** @typedef {import("../../../arqonbus.js").CommandDescription} CommandDescription */
/** @typedef {{ text: string, name: string, about: string }} Offer `text` is the whole line with the completion */

/**
 * `history channel=science:explore limit=3` as a name and parameters. Throws Error with what is wrong.
 * @param {string} line
 * @returns {[name: string, parameters: Record<string, unknown>]}
 */
export function parse(line) {
  const words = line.match(/(?:[^\s"{]|"(?:\\.|[^"])*"|\{.*\})+/g) ?? [];
  const [name = "", ...rest] = words;
  /** @type {Record<string, unknown>} */
  const parameters = {};
  for (const word of rest) {
    const at = word.indexOf("=");
    if (at < 1) throw new Error(`${word} is not a parameter. Write name=value.`);
    parameters[word.slice(0, at)] = valueOf(word.slice(at + 1));
  }
  return [name, parameters];
}

/**
 * @param {string} text JSON, or anything else as a text
 * @returns {unknown}
 */
function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * The completions of a line.
 * @param {string} line
 * @param {CommandDescription[]} known
 * @param {{ room: string[], channel: string[] }} addresses
 * @returns {Offer[]}
 */
export function complete(line, known, addresses) {
  const words = line.split(/\s+/);
  const last = words[words.length - 1];
  if (words.length === 1) return commandOffers(known, last, "", true);
  const command = known.find((each) => each.command === words[0]);
  if (!command) return [];
  const [name, value] = last.split("=");
  const head = line.slice(0, line.length - last.length);
  if (value === undefined) return parameterOffers(command, name, words.slice(1, -1), head);
  if (name === "command") return commandOffers(known, value, `${head}command=`, false);
  if (name !== "channel" && name !== "room") return [];
  return addresses[name]
    .filter((each) => each.includes(value) && each !== value)
    .slice(0, 30)
    .map((each) => ({ text: `${head}${name}=${each} `, name: each, about: "" }));
}

/**
 * @param {CommandDescription[]} known
 * @param {string} start
 * @param {string} head what stands before the command
 * @param {boolean} who whether to say that a command is for admins
 * @returns {Offer[]}
 */
function commandOffers(known, start, head, who) {
  return known
    .filter((each) => each.command.startsWith(start) && each.command !== start)
    .map((each) => ({
      text: `${head}${each.command} `,
      name: each.command,
      about: `${each.summary}${who && each.who === "admin" ? " (admins)" : ""}`,
    }));
}

/**
 * @param {CommandDescription} command
 * @param {string} start
 * @param {string[]} written the parameters that the line has already
 * @param {string} head
 * @returns {Offer[]}
 */
function parameterOffers(command, start, written, head) {
  const used = new Set(written.map((each) => each.split("=")[0]));
  return Object.entries(command.parameters)
    .filter(([each]) => each.startsWith(start) && !used.has(each))
    .map(([each, schema]) => ({ text: `${head}${each}=`, name: each, about: describe(schema) }));
}

/** @param {Record<string, any>} schema a JSON schema */
function describe(schema) {
  /** @type {string[]} */
  const types = (schema.anyOf ?? [schema]).map((/** @type {any} */ each) => each.type);
  const named = types.filter((each) => each && each !== "null").join(" or ") || "any";
  const fallback = [undefined, null, ""].includes(schema.default) ? "" : `, default ${JSON.stringify(schema.default)}`;
  return `${schema.description ?? ""} (${named}${fallback})`;
}
