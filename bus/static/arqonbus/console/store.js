/**
 * A value that calls its listeners when it changes.
 * @template T
 */
export class Observable {
  /** @type {Set<(value: T) => void>} */
  #listeners = new Set();

  /** @param {T} value */
  constructor(value) {
    this.value = value;
  }

  /** @param {T} value */
  set(value) {
    if (Object.is(value, this.value)) return;
    this.value = value;
    this.changed();
  }

  /** Call the listeners, because the value changed inside. */
  changed() {
    for (const listener of this.#listeners) listener(this.value);
  }

  /**
   * Call a listener with the present value and after each change. Returns a function that removes it.
   * @param {(value: T) => void} listener
   */
  watch(listener) {
    this.#listeners.add(listener);
    listener(this.value);
    return () => this.#listeners.delete(listener);
  }
}

/**
 * The newest `size` items, oldest first. `total` counts all items that were ever added.
 * @template T
 */
export class Ring {
  /** @param {number} size */
  constructor(size) {
    this.size = size;
    /** @type {T[]} */
    this.items = [];
    this.total = 0;
  }

  /** @param {T} item */
  push(item) {
    this.total += 1;
    this.items.push(item);
    // Cut in steps: moving a whole array for each item would cost more than the item.
    if (this.items.length > this.size * 1.25) this.items.splice(0, this.items.length - this.size);
  }

  clear() {
    this.items.length = 0;
  }
}

/** Items a second, over the last few seconds. */
export class Meter {
  /** @type {Map<number, number>} items in each second */
  #slots = new Map();

  constructor(seconds = 3) {
    this.seconds = seconds;
  }

  add(count = 1, now = performance.now()) {
    const slot = Math.floor(now / 1000);
    this.#slots.set(slot, (this.#slots.get(slot) ?? 0) + count);
  }

  rate(now = performance.now()) {
    const slot = Math.floor(now / 1000);
    let sum = 0;
    for (const [at, count] of this.#slots) {
      if (at <= slot - this.seconds - 1) this.#slots.delete(at);
      else if (at < slot) sum += count;
    }
    return sum / this.seconds;
  }
}

/**
 * Call `work` repeatedly while the page is visible, each time `pause` milliseconds after the end of the last call.
 * @param {() => unknown} work
 * @param {number} pause
 */
export function repeat(work, pause) {
  let stopped = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let running = false;
  const run = async () => {
    clearTimeout(timer);
    if (stopped || running || document.hidden) return;
    running = true;
    const began = performance.now();
    try {
      await work();
    } finally {
      running = false;
      // A large answer must not keep the server and the page busy all the time.
      const took = performance.now() - began;
      if (!stopped) timer = setTimeout(run, Math.max(pause, took * 10));
    }
  };
  document.addEventListener("visibilitychange", run);
  run();
  return {
    now: run,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", run);
    },
  };
}
