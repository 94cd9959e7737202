/** Samples as people see them: fetched and decoded ahead, so that the next one is there at once. */

import * as api from "./api.js";
import { make } from "./dom.js";

const KEPT = 40; // samples in the memory of the page
const SMALL = 128; // pixels; below, pixels are drawn as squares
const TINY = 16; // but not so few, whose squares hide what lines show
const ENLARGED = 16; // at most so many times at first sight
const EMPTY = "(an empty text)";

/** Decodes before it is shown; the alternative text says nothing that could give the class away. */
async function picture(url) {
  const image = make("img", { src: url, alt: "The picture to label", draggable: "false" });
  await image.decode().catch(() => {
    throw new Error("Its picture could not be loaded.");
  });
  const side = Math.max(image.naturalWidth, image.naturalHeight);
  if (side >= TINY && side < SMALL) image.classList.add("pixels");
  image.style.maxWidth = image.style.maxHeight = `min(100%, ${Math.max(256, ENLARGED * side)}px)`;
  return image;
}

function table(columns) {
  const row = ([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, String(name)), make("td", {}, String(value ?? "")));
  return make("table", {}, make("tbody", {}, ...columns.map(row)));
}

async function build(id) {
  const found = await api.sample(id);
  const parts = [];
  if (found.image) parts.push(await picture(found.image));
  if (found.text?.trim()) parts.push(make("p", { class: "text", dir: "auto" }, found.text));
  else if (found.text !== null) parts.push(make("p", { class: "text empty" }, EMPTY));
  if (found.columns) parts.push(table(found.columns));
  if (found.title) parts.push(make("figcaption", { dir: "auto" }, found.title));
  return { parts, image: found.image, words: inShort(found), guess: found.guess, probs: found.probs };
}

function inShort({ text, columns, title }) {
  if (text !== null) return text.trim() || EMPTY;
  if (columns) return columns.map(([name, value]) => `${name}: ${value}`).join(", ");
  return title ?? "";
}

export class Samples {
  #kept = new Map(); // id → promise; the least recently wanted first
  #ready = new Map(); // id → sample, once it is there

  /** The sample if it is decoded already, else undefined. */
  ready(id) {
    return this.#ready.get(id);
  }

  /** Resolves to `{parts, image, words}`; a failed one is fetched anew when it is asked for again. */
  get(id) {
    const coming = this.#kept.get(id) ?? this.#fetch(id);
    this.#kept.delete(id);
    this.#kept.set(id, coming); // the latest wanted is the last to go
    for (const old of this.#kept.keys()) {
      if (this.#kept.size <= KEPT) break;
      this.#forget(old);
    }
    return coming;
  }

  /** Fetches what comes next; its errors are met when it is shown. */
  ahead(ids) {
    for (const id of ids) this.get(id).catch(() => {});
  }

  /** Forgets all, for a new question. */
  clear() {
    this.#kept.clear();
    this.#ready.clear();
  }

  #forget(id) {
    this.#kept.delete(id);
    this.#ready.delete(id);
  }

  #fetch(id) {
    const coming = build(id);
    const current = () => this.#kept.get(id) === coming;
    coming.then(
      (sample) => current() && this.#ready.set(id, sample),
      () => current() && this.#forget(id),
    );
    return coming;
  }
}
