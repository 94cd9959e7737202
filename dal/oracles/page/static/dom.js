/** Elements, words and the browser's own storage. All words reach the page as text, never as markup. */

export const $ = (id) => document.getElementById(id);

/** A new element; attributes by name (null and false: absent), children as nodes or as text. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node[name] = value;
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Changes the words only where they differ, so that a screen reader is not told twice. */
export function write(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** About how long, in words: "40 s", "3 min", "1 h 20 min". */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(5, Math.ceil(seconds / 5) * 5)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** An answer in words. */
export function inWords(answer, classes) {
  if (!answer) return "no answer";
  if (answer.unsure) return "cannot tell";
  if (answer.none || !answer.labels.length) return "none of these";
  return answer.labels.map((label) => classes[label]?.name ?? `class ${label}`).join(", ");
}

/** Whether two answers (or none at all) say the same. */
export function same(one, other) {
  const form = (answer) =>
    answer && [Boolean(answer.unsure), Boolean(answer.none), [...(answer.labels ?? [])].sort()];
  return JSON.stringify(form(one ?? null)) === JSON.stringify(form(other ?? null));
}

const PREFIX = "dal.";
const memory = new Map(); // where the browser keeps nothing (a private window)

/** Small values that outlive the page. */
export const store = {
  get(key) {
    try {
      return JSON.parse(localStorage.getItem(PREFIX + key));
    } catch {
      return memory.get(key) ?? null;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(PREFIX + key, JSON.stringify(value));
    } catch {
      memory.set(key, value);
    }
  },
  remove(key) {
    memory.delete(key);
    try {
      localStorage.removeItem(PREFIX + key);
    } catch {
      // it was in the memory only
    }
  },
  keys(start) {
    try {
      const kept = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX + start));
      return kept.map((key) => key.slice(PREFIX.length));
    } catch {
      return [...memory.keys()].filter((key) => key.startsWith(start));
    }
  },
};
