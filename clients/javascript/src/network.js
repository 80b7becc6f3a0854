/** What a browser says about the network, and about a page that is shown again. */

/**
 * Call `listener` when the network may have changed. Node has no such events. Returns a function that stops it.
 * @param {() => void} listener
 * @returns {() => void}
 */
export function onNetworkChange(listener) {
  const { document: page } = globalThis;
  /** @type {[EventTarget, string, (event: any) => boolean][]} */
  const sources = [
    [globalThis, "online", () => true],
    [globalThis, "offline", () => true],
    [globalThis, "pageshow", (event) => event.persisted],
    [page, "visibilitychange", () => page.visibilityState === "visible"],
    [page, "resume", () => true],
  ];
  const removers = sources
    .filter(([target]) => target?.addEventListener)
    .map(([target, name, counts]) => {
      const handle = (/** @type {Event} */ event) => {
        if (counts(event)) listener();
      };
      target.addEventListener(name, handle);
      return () => target.removeEventListener(name, handle);
    });
  return () => removers.forEach((remove) => remove());
}
