/** The buttons of the classes, and the filter where there are more classes than keys. */

import { make } from "./dom.js";
import { digitsPick, isTyping } from "./keys.js";

const plain = (words) => words.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** How well a name answers to what was typed: 0 best, null not at all. */
export function rank(name, typed) {
  const [whole, part] = [plain(name), plain(typed.trim())];
  if (whole === part) return 0;
  if (whole.startsWith(part)) return 1;
  const place = whole.indexOf(part);
  if (place < 0) return null;
  return /[\p{L}\p{N}]/u.test(whole[place - 1]) ? 3 : 2; // within a word, at the beginning of one
}

export class Classes {
  #buttons = [];
  #order = []; // labels as they stand
  #marked = 0; // place among those, what Enter takes
  #typing = false;
  #used = false;
  #digits = false;
  #key = "";
  #names = [];
  #probs = null;

  /** @param onTake called with the label whose button was pressed */
  constructor(box, field, onTake) {
    this.box = box;
    this.field = field;
    this.onTake = onTake;
    field.addEventListener("input", () => this.#filtered());
  }

  /** The text typed so far. */
  get filter() {
    return this.#typing ? this.field.value : "";
  }

  /** Whether something was typed since the filter was last cleared; it may have been deleted again. */
  get used() {
    return this.#used;
  }

  /** New buttons, if the classes are not those of before. */
  set(question) {
    const key = JSON.stringify([question.classes, question.multilabel]);
    if (key === this.#key) return;
    this.#key = key;
    this.#typing = isTyping(question);
    this.#digits = digitsPick(question);
    this.#names = question.classes.map((item) => item.name);
    this.#buttons = question.classes.map((item, label) => this.#button(item, label));
    const longest = Math.max(...this.#names.map((name) => name.length));
    this.box.className = longest <= 3 ? "short" : longest <= 12 ? "" : "long";
    this.field.closest("div").hidden = !this.#typing;
    this.clear();
  }

  #button(item, label) {
    const parts = [
      make("kbd", { "aria-hidden": "true" }, item.key ?? ""),
      make("span", { class: "name", dir: "auto" }, item.name),
      make("span", { class: "guess" }),
    ];
    const take = () => this.onTake(label);
    const keys = this.#typing ? null : item.key;
    return make("button", { type: "button", "aria-keyshortcuts": keys, onclick: take }, ...parts);
  }

  /** Empties the filter. */
  clear() {
    this.field.value = "";
    this.#used = false;
    this.#filtered();
  }

  /**
   * @param picked labels that are the answer, or part of it
   * @param guess the model's guess to be shown, or null
   * @param probs probabilities by which the classes stand in order, or null
   */
  show(picked, guess, probs) {
    this.box.classList.toggle("guessed", guess !== null);
    for (const [label, button] of this.#buttons.entries()) {
      button.setAttribute("aria-pressed", picked.has(label));
      const guessed = guess?.labels.includes(label);
      button.lastChild.textContent = guessed ? `guess ${Math.round(100 * guess.probability)} %` : "";
    }
    if (probs !== this.#probs) {
      this.#probs = probs;
      this.#filtered();
    }
  }

  #filtered() {
    const typed = this.filter.trim();
    this.#used ||= this.filter !== "";
    const ranks = this.#names.map((name) => (typed ? rank(name, typed) : 0));
    const labels = [...ranks.keys()].filter((label) => ranks[label] !== null);
    const chance = (label) => this.#probs?.[label] ?? 0;
    labels.sort((a, b) => ranks[a] - ranks[b] || chance(b) - chance(a) || a - b);
    if (labels.join() !== this.#order.join() || this.box.childElementCount !== labels.length) {
      this.box.replaceChildren(...labels.map((label) => this.#buttons[label]));
    }
    this.#order = labels;
    this.#mark(0);
    this.box.scrollTop = 0;
    this.onFilter?.(typed, labels.slice(0, 3).map((label) => this.#names[label]), labels.length);
  }

  /** Moves the mark among the shown classes. */
  move(step) {
    const last = this.#order.length - 1;
    this.#mark(Math.min(last, Math.max(0, this.#marked + step)));
    this.#buttons[this.#order[this.#marked]]?.scrollIntoView({ block: "nearest" });
  }

  #mark(place) {
    this.#marked = place;
    if (!this.#typing) return;
    for (const [at, label] of this.#order.entries()) {
      const button = this.#buttons[label];
      button.classList.toggle("marked", at === place && this.filter.trim() !== "");
      button.firstChild.textContent = this.#digits && at < 9 ? String(at + 1) : "";
    }
  }

  /** The label of the marked class, or undefined where nothing fits. */
  get marked() {
    return this.#order[this.#marked];
  }

  /** The label that stands at a place. */
  at(place) {
    return this.#order[place];
  }
}
