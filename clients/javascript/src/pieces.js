/** Reading a source of texts, bytes or objects until it ends or somebody stops it. */

/**
 * @param {any} source
 * @returns {AsyncIterator<any> | Iterator<any>}
 */
function iteratorOf(source) {
  const make = source?.[Symbol.asyncIterator] ?? source?.[Symbol.iterator];
  if (typeof make === "function" && typeof source !== "string") return make.call(source);
  if (typeof source?.getReader !== "function") {
    throw new TypeError("A pipe reads an async iterable, an iterable or a ReadableStream.");
  }
  // Some browsers do not iterate over streams.
  const reader = source.getReader();
  return { next: () => reader.read(), return: (value) => reader.cancel().then(() => ({ done: true, value })) };
}

/**
 * The pieces of a source, with bytes decoded as UTF-8. When `stop` aborts, it ends at once and closes the source.
 * @param {unknown} source
 * @param {AbortSignal} stop
 * @returns {AsyncGenerator<unknown, void, undefined>}
 */
export async function* readPieces(source, stop) {
  const iterator = iteratorOf(source);
  const decoder = new TextDecoder();
  /** @type {((result: null) => void) | null} */
  let wake = null;
  const onStop = () => wake?.(null);
  stop.addEventListener("abort", onStop);
  /** @type {() => Promise<IteratorResult<any> | null>} the next piece, or null when it is stopped before */
  const next = () =>
    new Promise((resolve, reject) => {
      wake = resolve;
      Promise.resolve(iterator.next()).then(resolve, reject);
    });
  let finished = false;
  try {
    while (!stop.aborted) {
      const result = await next();
      if (result === null) break;
      if (result.done) {
        finished = true;
        break;
      }
      const { value } = result;
      if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) yield decoder.decode(value, { stream: true });
      else yield value;
    }
    const rest = decoder.decode();
    if (rest && !stop.aborted) yield rest;
  } catch (problem) {
    finished = true;
    throw problem;
  } finally {
    stop.removeEventListener("abort", onStop);
    // A source that waits for something closes when it can. Nothing waits for that here.
    if (!finished) Promise.resolve(iterator.return?.()).catch(() => {});
  }
}
