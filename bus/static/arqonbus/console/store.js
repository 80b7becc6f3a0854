/** A value that tells its listeners when it changes. */
export class Observable {
  #listeners = new Set();

  constructor(value) {
    this.value = value;
  }

  set(value) {
    if (Object.is(value, this.value)) return;
    this.value = value;
    this.changed();
  }

  /** Tell the listeners that the value changed inside. */
  changed() {
    for (const listener of this.#listeners) listener(this.value);
  }

  /** Hear of changes, and of the value as it is now; returns what ends that. */
  watch(listener) {
    this.#listeners.add(listener);
    listener(this.value);
    return () => this.#listeners.delete(listener);
  }
}

/** The newest `size` items, oldest first; what was ever added is counted exactly. */
export class Ring {
  constructor(size) {
    this.size = size;
    this.items = [];
    this.total = 0;
  }

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

/** Call `work` again and again while the page is looked at, each time `pause()` milliseconds after the end of the last. */
export function repeat(work, pause) {
  let stopped = false;
  let timer = null;
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
      // A large answer must not keep the server and the page busy with nothing else.
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
