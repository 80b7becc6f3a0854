/** What the browser stores for the console. A browser that blocks site data throws: then the page remembers it. */

/** `localStorage` or `sessionStorage` by its name, with a fallback in the page's own memory. */
export class Memory {
  /** @type {Map<string, string>} */
  #own = new Map();

  /** @param {"localStorage" | "sessionStorage"} name */
  constructor(name) {
    this.name = name;
  }

  /**
   * @param {string} key
   * @returns {string | null}
   */
  get(key) {
    try {
      return globalThis[this.name].getItem(key) ?? this.#own.get(key) ?? null;
    } catch {
      return this.#own.get(key) ?? null;
    }
  }

  /**
   * @param {string} key
   * @param {string} value
   */
  set(key, value) {
    this.#own.set(key, value);
    try {
      globalThis[this.name].setItem(key, value);
    } catch {
      // The storage is blocked, or full. The value lasts as long as the page.
    }
  }

  /** @param {string} key */
  forget(key) {
    this.#own.delete(key);
    try {
      globalThis[this.name].removeItem(key);
    } catch {
      // The storage is blocked, so nothing is stored there.
    }
  }
}
