/** A client's id and resume token beyond the life of its page or process. */

import { askApplication } from "./application.js";
import { AttemptFailed, ConnectionFailed, IdentityInUse } from "./errors.js";
import { newId } from "./frames.js";
import { within } from "./timing.js";

/** @import { IdentityStore } from "../arqonbus.d.ts" */

/** How long another page may take to release an identity, such as the page that this one replaces. */
const HAND_OVER = 2_000;

/** A client id that no other client has. */
const newClientId = () => `me-${newId().slice(4, 20)}`;

/**
 * One key of the page's storage, or null where there is no storage or the browser blocks it.
 * @param {string} key
 * @returns {IdentityStore | null}
 */
function pageStore(key) {
  try {
    const storage = globalThis.localStorage;
    storage.getItem(key);
    return { get: () => storage.getItem(key), set: (text) => storage.setItem(key, text) };
  } catch {
    return null;
  }
}

/**
 * The client's id, and the token that proves it. A page that was reloaded, or a process that was killed, is the same
 * client with them.
 */
export class Identity {
  /** @type {(() => void) | null} */
  #unlock = null;
  #released = false;

  /**
   * @param {string | IdentityStore} given a name for the page's storage, or a store of the application
   * @param {number} openTimeout milliseconds that the store may take
   */
  constructor(given, openTimeout) {
    this.name = typeof given === "string" ? given : null;
    this.store = typeof given === "string" ? pageStore(`arqonbus.identity.${given}`) : given;
    this.openTimeout = openTimeout;
    this.loaded = false;
    this.chosen = false;
    /** @type {string | null} */
    this.clientId = null;
    /** @type {string | null} */
    this.token = null;
    /** Whether the identity outlives this page or process. */
    this.kept = this.store !== null;
    if (!this.kept) {
      console.warn(`ArqonBus: no storage is available, so the identity "${given}" ends with this page or process.`);
    }
  }

  /**
   * Load the stored identity, or make a new one. Throws AttemptFailed: another page uses it, or its store failed.
   * @param {string | undefined} clientId the id that the application asks for
   */
  async load(clientId) {
    if (this.loaded) return;
    if (this.name !== null && this.kept) await this.#lock();
    const { store } = this;
    const text = store && (await askApplication("Getting the identity", this.openTimeout, () => store.get()));
    const found = this.#parse(text, clientId);
    this.chosen = Boolean(clientId);
    this.clientId = clientId || found?.client_id || newClientId();
    this.token = found?.resume_token ?? null;
    this.loaded = true;
  }

  /**
   * The stored identity of `clientId`, or of any client without one. Throws AttemptFailed for a store of the
   * application that contains something else.
   * @param {string | null | undefined} text
   * @param {string | undefined} clientId
   * @returns {{ client_id: string, resume_token: string } | null}
   */
  #parse(text, clientId) {
    if (!text) return null;
    let problem = "The identity's store contains something that is not an identity. Empty it to start as a new client.";
    try {
      const found = JSON.parse(text);
      if (typeof found.client_id === "string" && typeof found.resume_token === "string") {
        if (!clientId || found.client_id === clientId) return found;
        const advice = `Give ${clientId} a store of its own.`;
        problem = `This is the identity of ${found.client_id}, not of ${clientId}. ${advice}`;
      }
    } catch {
      // The text is not JSON, or not of an object.
    }
    // In a browser another visitor may have logged in since.
    if (this.name !== null) return null;
    throw new AttemptFailed(new ConnectionFailed(problem), { final: true });
  }

  /**
   * Start as a new client, because the server does not accept the token. Only a name without a chosen client id allows
   * that: it stands for any visitor. Returns whether it did.
   */
  renew() {
    if (this.name === null || this.chosen || this.token === null) return false;
    console.warn(
      `ArqonBus: somebody else has logged in since, so ${this.clientId} cannot be resumed. A new client starts.`,
    );
    this.clientId = newClientId();
    this.token = null;
    return true;
  }

  /**
   * Store what the registration confirmed. When the store fails, this client goes on and the next one starts anew.
   * @param {string} clientId
   * @param {string | null} token
   */
  async keep(clientId, token) {
    if (clientId === this.clientId && token === this.token) return;
    this.clientId = clientId;
    this.token = token;
    const { store } = this;
    if (store === null) return;
    try {
      await within(this.openTimeout, () => store.set(JSON.stringify({ client_id: clientId, resume_token: token })));
      this.kept = true;
    } catch (problem) {
      this.kept = false;
      console.warn("ArqonBus: the identity could not be stored, so it ends with this page or process:", problem);
    }
  }

  /** Let another page use it. */
  release() {
    this.#released = true;
    this.#unlock?.();
  }

  /**
   * Wait until no other page uses it. Two pages would take it from one another for ever. Where the browser has no locks
   * the newest page has it.
   */
  async #lock() {
    const { locks } = globalThis.navigator ?? {};
    if (!locks?.request || this.#unlock) return;
    await /** @type {Promise<void>} */ (
      new Promise((resolve, reject) => {
        const waiting = new AbortController();
        const timer = setTimeout(() => {
          waiting.abort();
          const text = `Another page of this browser is connected with the identity "${this.name}".`;
          reject(new AttemptFailed(new IdentityInUse(text), { final: false }));
        }, HAND_OVER);
        const acquired = () => {
          clearTimeout(timer);
          resolve();
          if (this.#released) return undefined;
          return /** @type {Promise<void>} */ (new Promise((unlock) => (this.#unlock = unlock)));
        };
        // Where a page may not use locks the server decides: the newest token wins.
        locks.request(`arqonbus.identity.${this.name}`, { signal: waiting.signal }, acquired).catch((problem) => {
          if (problem?.name === "AbortError") return;
          clearTimeout(timer);
          resolve();
        });
      })
    );
  }
}
