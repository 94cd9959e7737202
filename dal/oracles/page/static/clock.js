/** The seconds an item was before a person: hidden pages and long idle times do not count. */

const IDLE = 120_000; // ms without a sign of life after which the time stops

export class Clock {
  #id = null;
  #last = 0;
  #total = new Map();

  constructor() {
    for (const sign of ["keydown", "pointerdown", "pointermove", "wheel", "scroll"]) {
      addEventListener(sign, () => this.#flush(), { passive: true, capture: true });
    }
    document.addEventListener("visibilitychange", () => this.#flush(document.hidden));
  }

  /** Adds what has passed; after a hidden page it starts anew. */
  #flush(counts = true) {
    const now = performance.now();
    if (this.#id !== null && counts) {
      const passed = Math.min(now - this.#last, IDLE);
      this.#total.set(this.#id, (this.#total.get(this.#id) ?? 0) + passed);
    }
    this.#last = now;
  }

  /** An item came on the screen; null: nothing to be labeled is there. */
  show(id) {
    this.#flush();
    this.#id = id;
  }

  /** Takes the seconds the item was before the person since they were last taken. */
  take(id) {
    this.#flush();
    const ms = this.#total.get(id) ?? 0;
    this.#total.delete(id);
    return Math.round(ms) / 1000;
  }
}
