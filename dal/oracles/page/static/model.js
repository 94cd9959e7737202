/** What the page knows: the server's last news, and what happened here since. */

import { store } from "./dom.js";

export const page = {
  name: store.get("name"),
  state: null, // what the server said last
  current: null, // id of the item on the screen; null where none is
  shown: null, // id of the item that can be seen: until then no key answers
  again: false, // the item is looked at once more
  ending: false, // the person wants to hand in before all is answered
  saving: null, // {id, answer} under way
  undoNext: false, // Backspace came while an answer was under way
  done: [], // {id, before}: what Undo takes back, the latest last
  mine: new Map(), // id → {version, answer}: written, but newer than the state
  drafts: new Map(), // id → labels chosen, where several are allowed
  helped: false, // something was answered here
  handing: false, // the hand-in is under way
  refused: null, // why the server did not take the hand-in
};

let places = new Map(); // id → where it stands, since a question may have thousands

export const items = () => page.state?.items ?? [];
export const indexOf = (id) => places.get(id) ?? -1;
export const itemOf = (id) => items()[indexOf(id)];
export const answerOf = (id) =>
  (page.mine.has(id) ? page.mine.get(id).answer : itemOf(id)?.mine) ?? null;
export const open = () => items().filter((item) => !answerOf(item.id));
export const several = () => page.state.multilabel;

/** Where the page stands: start, ask, end (all is answered), train, done or failed. */
export function mode() {
  if (!page.state) return "start";
  if (page.state.phase !== "ask") return page.state.phase;
  return page.current && !page.ending ? "ask" : "end";
}

/** Whether the run is over: its server is gone, or will be soon. */
export const hasEnded = () => ["done", "failed"].includes(page.state?.phase);

/** Whether an answer can be given now. */
export const ready = () => mode() === "ask" && page.shown === page.current && !page.saving;

/** The first item without an answer behind the current one, then from the start; null: none. */
export function nextOpen() {
  const from = indexOf(page.current) + 1;
  const order = [...items().slice(from), ...items().slice(0, from)];
  return order.find((item) => !answerOf(item.id))?.id ?? null;
}

/** The answer of the current item, the one under way included. */
export const given = () =>
  page.saving?.id === page.current ? page.saving.answer : answerOf(page.current);

/** Labels that stand as chosen: of the answer under way, of the draft, of the answer given. */
export function picked() {
  const draft = page.saving ? null : page.drafts.get(page.current);
  return new Set(draft ?? given()?.labels ?? []);
}

/** Takes over the server's news; says whether they are about another question than before. */
export function update(next) {
  const before = page.state;
  page.state = next;
  places = new Map(next.items.map((item, at) => [item.id, at]));
  const restarted = before && next.version < before.version;
  for (const [id, { version }] of page.mine) {
    if (restarted || version <= next.version) page.mine.delete(id);
  }
  return !before || before.question !== next.question || before.run.name !== next.run.name;
}

/** What was answered, in the order of answering, each item once: `{id, place, answer}`. */
export function answered() {
  const latest = [...new Set(page.done.map(({ id }) => id).reverse())].reverse();
  const kept = latest.filter((id) => places.has(id) && answerOf(id));
  return kept.map((id) => ({ id, place: indexOf(id) + 1, answer: answerOf(id) }));
}
