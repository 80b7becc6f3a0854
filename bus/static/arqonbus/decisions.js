/**
 * The decisions on a page of a project (`bus/decisions.html`): answers without a new page, and new decisions as they
 * come. It needs no inline script and no inline style. Forms that somebody fills in stay as they are.
 */

const PAUSE = 2_500;
const HEADERS = { "X-ArqonBus-Part": "decisions" };

class Part {
  #busy = false;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.source = element.dataset.source ?? "";
    element.addEventListener("submit", (event) => this.#submit(event));
    document.addEventListener("visibilitychange", () => this.#look());
    setInterval(() => this.#look(), PAUSE);
  }

  /** Look for decisions that are new or over, while somebody sees the page. */
  async #look() {
    if (this.#busy || document.hidden) return;
    const answer = await fetch(this.source, { headers: HEADERS }).catch(() => null);
    if (answer?.ok && !this.#busy) this.#show(await answer.text(), false);
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    const form = event.target;
    if (!(form instanceof HTMLFormElement)) return;
    event.preventDefault();
    if (this.#busy) return;
    this.#busy = true;
    const body = new URLSearchParams();
    for (const [name, value] of new FormData(form)) body.append(name, String(value));
    const { submitter } = event;
    if (submitter instanceof HTMLButtonElement) body.append(submitter.name, submitter.value);
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers: HEADERS });
      if (answer.ok || answer.status === 400) this.#show(await answer.text(), true);
      else this.#say(answer.status === 403 ? "Your session has changed. Load the page again." : "That failed.");
    } catch {
      this.#say("The server does not answer. Try again.");
    } finally {
      this.#busy = false;
    }
  }

  /**
   * Show what the server sent. What stands here already stays the same elements.
   * @param {string} html of the project's own server, where the template escaped every text
   * @param {boolean} note whether the note is about what the visitor did
   */
  #show(html, note) {
    const there = new DOMParser().parseFromString(html, "text/html");
    const here = new Map([...this.element.querySelectorAll("article")].map((each) => [each.dataset.decision, each]));
    const shown = [...there.querySelectorAll("article")];
    const ids = new Set(shown.map((each) => each.dataset.decision));
    for (const [id, article] of here) if (!ids.has(id)) article.remove();
    let last = this.#note();
    for (const article of shown) {
      const known = here.get(article.dataset.decision) ?? document.importNode(article, true);
      // An element that is moved would lose the focus.
      if (last.nextElementSibling !== known) last.after(known);
      last = known;
    }
    const said = there.querySelector(".bus-decisions-note");
    if (note && said) this.#say(said.textContent ?? "", said.classList.contains("bus-decisions-problem"));
  }

  /** @returns {HTMLElement} */
  #note() {
    const found = /** @type {HTMLElement | null} */ (this.element.querySelector(".bus-decisions-note"));
    if (found) return found;
    const made = document.createElement("p");
    made.className = "bus-decisions-note";
    made.setAttribute("role", "status");
    this.element.prepend(made);
    return made;
  }

  /** @param {string} text */
  #say(text, problem = true) {
    const note = this.#note();
    note.textContent = text;
    note.classList.toggle("bus-decisions-problem", problem);
  }
}

for (const element of document.querySelectorAll(".bus-decisions")) new Part(/** @type {HTMLElement} */ (element));
