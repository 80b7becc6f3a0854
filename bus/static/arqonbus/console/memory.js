/** What the browser keeps for the console. A browser that blocks site data throws on each touch: then the page itself keeps it. */

/** `localStorage` or `sessionStorage` by its name, with the page's own memory behind it. */
export class Memory {
  #own = new Map();

  constructor(name) {
    this.name = name;
  }

  get(key) {
    try {
      return globalThis[this.name].getItem(key) ?? this.#own.get(key) ?? null;
    } catch {
      return this.#own.get(key) ?? null;
    }
  }

  set(key, value) {
    this.#own.set(key, value);
    try {
      globalThis[this.name].setItem(key, value);
    } catch {
      // Blocked, or full: it lasts as long as the page.
    }
  }

  forget(key) {
    this.#own.delete(key);
    try {
      globalThis[this.name].removeItem(key);
    } catch {
      // Blocked: nothing of it is kept there.
    }
  }
}
