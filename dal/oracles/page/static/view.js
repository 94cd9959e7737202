/** The screen, drawn from what the page knows. */

import { remedy } from "./api.js";
import { showBetween } from "./between.js";
import { Classes } from "./classes.js";
import { $, inWords, plural, write } from "./dom.js";
import { isTyping, noneKeys, written } from "./keys.js";
import { answerOf, answered, given, indexOf, itemOf, items, mode } from "./model.js";
import { open, page, picked, several } from "./model.js";
import { Strip, curve, hasCurve, showDifferences, showPace, showPeople } from "./side.js";

export class View {
  /** @param acts what buttons do: show, choose, goOn, handIn */
  constructor(samples, acts) {
    this.acts = acts;
    this.samples = samples;
    this.strip = new Strip($("strip"), samples, (id) => acts.show(id, true));
    this.classes = new Classes($("classes"), $("filter"), acts.choose);
    this.classes.onFilter = (typed, names, count) => this.#found(typed, names, count);
  }

  /** Draws everything anew; what has not changed stays. */
  render() {
    const state = page.state;
    const now = mode();
    document.body.dataset.mode = now;
    if (!state) return;
    document.body.classList.toggle("typing", isTyping(state));
    $("stage").classList.toggle("saving", page.saving?.id === page.current);
    this.#head(state, now);
    this.#answers(state);
    this.#side(state, now);
    if (!["start", "ask"].includes(now)) this.#between(state, now);
  }

  #head(state, now) {
    const total = items().length;
    const done = total - open().length;
    const asks = state.phase === "ask";
    const of = state.number_of_rounds ? ` of ${state.number_of_rounds}` : "";
    const round = state.round < 0 ? "first labels" : `round ${state.round}${of}`;
    write($("title"), asks ? `${state.run.data}, ${round}` : state.run.data);
    $("title").title = state.run.name;
    $("bar").hidden = !asks;
    $("bar").value = total ? done / total : 0;
    write($("count"), asks ? `${done} of ${total}` : "");
    const own = state.people.find((one) => one.name === page.name);
    showPace(asks ? own : null, total - done);
    $("end").hidden = now !== "ask";
    write($("who"), page.name ?? "");
    const waiting = total > done ? `(${total - done}) ` : "";
    document.title = `${asks ? waiting : ""}Labeling ${state.run.data}`;
    $("stage").setAttribute("aria-label", place());
  }

  #answers(state) {
    this.classes.set(state);
    const item = itemOf(page.current);
    const sample = this.samples.ready(page.current); // a large question tells them one by one
    const guess = $("show-guess").checked ? item?.guess ?? sample?.guess : null;
    const sorted = $("sort-guess").checked ? item?.probs ?? sample?.probs : null;
    this.classes.show(picked(), guess ?? null, sorted ?? null);
    $("none").setAttribute("aria-pressed", Boolean(given()?.none));
    $("unsure").setAttribute("aria-pressed", Boolean(given()?.unsure));
    $("next").hidden = !several() && !page.again;
    const keys = { ...state.keys, none: noneKeys(state) };
    for (const id of ["none", "unsure", "undo", "next"]) {
      write($(id).firstElementChild, written(keys[id][0]));
    }
  }

  #side(state, now) {
    const own = new Set(items().map((item) => item.id));
    this.strip.show(answered(), page.current, state.classes);
    $("last").hidden = state.phase !== "ask";
    showPeople(state.phase === "ask" ? state.people : []);
    showDifferences(state.disagreements, state.classes, own, (id) => this.acts.show(id, true));
    $("learning").hidden = !hasCurve(state.rows) || !["ask", "end"].includes(now);
    const rows = JSON.stringify(state.rows);
    if ($("learning").hidden || $("curve").dataset.rows === rows) return;
    $("curve").dataset.rows = rows;
    $("curve").replaceChildren(curve(state.rows, state.headline));
  }

  #between(state, now) {
    const answers = items().map((item) => answerOf(item.id)).filter(Boolean);
    const { refused, name, helped } = page;
    const unheard = page.mine.size > 0;
    const missing = open().length;
    const { acts } = this;
    showBetween(now, { state, answers, missing, unheard, refused, name, helped, acts });
  }

  /** A word for everybody: on the page, and to a screen reader. */
  say(words, bad = false) {
    this.note(words, bad);
    write($("live"), words);
  }

  /** A word on the page only. */
  note(words, bad = false) {
    write($("note"), words);
    $("note").classList.toggle("bad", bad);
  }

  /** The new item, to a screen reader. */
  announce(words) {
    const was = answerOf(page.current);
    const said = was ? `The answer is: ${inWords(was, page.state.classes)}.` : "";
    const parts = [$("note").textContent, `${place()}.`, said, words.slice(0, 400)];
    write($("live"), parts.filter(Boolean).join(" "));
  }

  #found(typed, names, count) {
    if (!typed) return;
    const enter = count ? `Enter: ${names[0]}.` : "";
    write($("live"), `${plural(count, "class", "classes")}. ${enter}`);
  }

  /** What hinders, as long as it does; null: nothing. */
  trouble(problem) {
    $("banner").hidden = !problem;
    if (!problem) return;
    const unsent = page.saving ? inWords(page.saving.answer, page.state.classes) : null;
    const kept = unsent ? ` Not saved yet: “${unsent}”. It is kept here and sent again by itself.` : "";
    write($("trouble"), `${remedy(problem)}${kept}`);
  }

  /** A fault of this page itself. */
  fault(words) {
    $("banner").hidden = false;
    write($("trouble"), `This page has a fault (${words}). Load it anew: what was saved is kept.`);
  }

  /** The place where keys are heard: the filter where classes are typed, else the item. */
  focus() {
    if (document.querySelector("dialog[open]")) return;
    const typing = isTyping(page.state) && !matchMedia("(pointer: coarse)").matches;
    (typing ? $("filter") : $("stage")).focus({ preventScroll: true });
  }
}

const place = () =>
  page.current ? `Item ${indexOf(page.current) + 1} of ${items().length}` : "No item";
