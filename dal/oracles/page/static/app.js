/**
 * The labeling page. What the server has on its disk is the truth: an answer is marked at once, and the
 * next item comes when the server says that it is written. At most one answer is under way.
 */

import * as api from "./api.js";
import { Clock } from "./clock.js";
import { askName, connect, readOptions, showKeys } from "./controls.js";
import { $, inWords, make, pause, plural, same } from "./dom.js";
import { isTyping, noneKeys, written } from "./keys.js";
import { answerOf, indexOf, itemOf, items, mode, nextOpen } from "./model.js";
import { hasEnded, open, page, picked, ready, several, update } from "./model.js";
import { Samples } from "./samples.js";
import { View } from "./view.js";
import { Zoom } from "./zoom.js";

const AHEAD = 6; // items fetched and decoded before they are needed
const OFTEN = 250; // ms between two questions for news, at least: a run says for 500 that it ends
const ANCHORS = "The model's guess is shown, which anchors people: Options can hide it.";
let warned = false; // of that

const clock = new Clock();
const samples = new Samples();
const zoom = new Zoom($("stage"), move);
const view = new View(samples, { show, handIn, choose, goOn: next });
const outbox = new api.Outbox((problem) => view.trouble(problem));

// ---------------------------------------------------------------- news of the server

async function follow() {
  for (let fails = 0, since = null; ; ) {
    const started = performance.now();
    const news = await api.news(page.name, since).catch((problem) => ({ problem }));
    if (news.problem?.status === 400) {
      await askName(news.problem.message); // the server cannot use it
      continue;
    }
    if (news.problem) {
      since = null; // another process may count from the start
      if (fails++ && !hasEnded()) view.trouble(news.problem);
      await pause(Math.min(300 * 2 ** fails, 3000));
      continue;
    }
    [fails, since] = [0, news.version];
    if (!page.saving) view.trouble(null);
    await take(news);
    await pause(Math.max(0, OFTEN - (performance.now() - started)));
  }
}

async function take(next) {
  const before = page.state;
  if (before?.run.name !== next.run.name) {
    readOptions(next);
    await deliverLeft(next);
  }
  if (next.missing !== before?.missing) page.refused = null;
  if (update(next)) begin(before);
  else if (next.phase === "ask") catchUp();
  view.render();
}

/** Another window, or other people, may have changed what is to do here. */
function catchUp() {
  if (page.saving) return;
  if (page.current === null) {
    if (open().length) show(nextOpen());
  } else if (!itemOf(page.current)) {
    view.say("Somebody else has taken the item that was here.");
    show(nextOpen());
  } else if (!page.again && answerOf(page.current)) {
    view.say("The item that was here was answered in another window.");
    show(nextOpen());
  }
}

/** Answers that an earlier page could not deliver come first. */
async function deliverLeft(next) {
  for (const answer of outbox.left(next.run.name)) {
    const { saved, refused } = await outbox.resend(answer);
    if (refused) view.say(`An answer from before was not taken: ${refused.message}`, true);
    else if (answer.name === page.name) {
      page.mine.set(answer.id, { version: saved.version, answer: saved.mine });
    }
  }
}

/** A new question, or none any more. */
function begin(before) {
  const { question, phase, round } = page.state;
  const left = before?.question && page.current ? "The question before was closed. " : "";
  samples.clear();
  page.drafts.clear();
  if (before) page.mine.clear();
  page.done = items().filter(({ id }) => answerOf(id)).map(({ id }) => ({ id, before: null }));
  Object.assign(page, { current: null, ending: false, refused: null });
  show(phase === "ask" ? nextOpen() : null);
  const guesses = phase === "ask" && round >= 0 && $("show-guess").checked; // none of first labels
  const warning = guesses && !warned ? ANCHORS : "";
  warned ||= guesses;
  if (!before) {
    if (warning) view.note(warning);
    return;
  }
  const name = round < 0 ? question : `round ${round}`;
  const news = {
    ask: `${left}A new question, ${name}: ${plural(open().length, "item")}.`,
    train: "The model is training.",
    done: "The run is complete.",
    failed: "The run has stopped.",
  };
  view.say(`${news[phase]} ${warning}`.trim());
}

// ---------------------------------------------------------------- one item

/** Puts an item on the screen; null: the end of the question, or nothing to label. */
async function show(id, again = false) {
  Object.assign(page, { current: id, shown: null, again, refused: null, ending: false });
  clock.show(null);
  view.classes.clear();
  if (id === null) {
    view.render();
    return;
  }
  if (!samples.ready(id)) {
    $("stage").replaceChildren(make("p", { class: "muted" }, "Loading …"));
    view.render();
  }
  const coming = samples.get(id);
  const at = indexOf(id) + 1;
  samples.ahead(items().slice(at, at + AHEAD).map((item) => item.id));
  const { parts, words } = await coming.catch(broken);
  if (page.current !== id) return;
  $("stage").replaceChildren(...parts);
  $("stage").scrollTop = 0;
  page.shown = id;
  zoom.fit();
  clock.show(id);
  view.render();
  view.focus();
  view.announce(words);
}

function broken(problem) {
  const words = `This item cannot be shown. ${api.remedy(problem)}`;
  const retry = () => show(page.current, page.again);
  const said = make("p", { class: "refused" }, words);
  return { parts: [said, make("button", { type: "button", onclick: retry }, "Try again")], words };
}

/** One item further or back; that gives no answer. */
function move(step) {
  if (page.saving || page.state?.phase !== "ask") return;
  const from = page.current === null ? items().length : indexOf(page.current);
  const to = items()[from + step];
  if (to) show(to.id, Boolean(answerOf(to.id)));
  else if (step > 0) show(nextOpen());
}

// ---------------------------------------------------------------- answers

/** A class was chosen: the answer, or one of several. */
function choose(label) {
  if (!ready()) return;
  if (!several()) {
    answer({ labels: [label] });
    return;
  }
  const chosen = picked();
  if (!chosen.delete(label)) chosen.add(label);
  page.drafts.set(page.current, chosen);
  view.classes.clear();
  view.render();
  view.say(`${page.state.classes[label].name}: ${chosen.has(label) ? "chosen" : "not chosen"}`);
}

/** Enter: hands over what is chosen, leaves an answer as it is, or hands in at the end. */
function next() {
  if (page.saving) return;
  if (mode() === "end") {
    const back = page.current && !answerOf(page.current) ? page.current : nextOpen();
    if (back) show(back);
    else handIn(false);
    return;
  }
  if (!ready()) return;
  const labels = [...picked()].sort((a, b) => a - b);
  const drafted = page.drafts.has(page.current);
  if (!drafted && answerOf(page.current)) show(nextOpen());
  else if (drafted && labels.length) answer({ labels });
  else if (several()) view.say(`Nothing is chosen. None of these: ${written(noneKeys(page.state)[0])}.`);
  else if (isTyping(page.state)) view.say("Not answered yet: type a part of a class, then Enter.");
  else view.say("Not answered yet: press the key of a class.");
}

async function answer(given) {
  if (!ready()) return;
  const id = page.current;
  const before = answerOf(id);
  const done = await deliver(id, given);
  const undoes = done && page.undoNext;
  page.undoNext = false;
  if (!done) return;
  if (!same(before, given)) page.done.push({ id, before });
  if (undoes) undo();
  else if (page.current === id) show(nextOpen());
}

/** Takes back what was done last, and shows its item. */
async function undo() {
  if (page.saving) {
    page.undoNext = true; // it comes after the answer under way
    return;
  }
  if (page.state?.phase !== "ask") return;
  const last = page.done.findLast(({ id }) => itemOf(id));
  if (!last) {
    view.say("There is nothing to undo in this question.");
    return;
  }
  if (await deliver(last.id, last.before)) {
    page.done = page.done.filter((step) => step !== last);
    show(last.id, last.before !== null);
  }
}

/** Sends an answer (null: none any more) and waits until it is written. */
async function deliver(id, given) {
  const { question, run, classes } = page.state;
  const words = inWords(given, classes);
  page.saving = { id, answer: given };
  view.note(given ? `Saving: ${words} …` : "Taking back …");
  view.render();
  const letter = { name: page.name, question, id, answer: given, seconds: clock.take(id) };
  const { saved, refused } = await outbox.send(run.name, letter);
  page.saving = null;
  if (refused) {
    const reason = refused.status === 409 ? "The question was closed before." : refused.message;
    view.say(`Not taken: ${words}. ${reason}`, true);
  } else {
    page.helped = true;
    page.drafts.delete(id);
    const heard = page.state.version >= saved.version; // the news were faster
    if (page.state.question === question && !heard) {
      page.mine.set(id, { version: saved.version, answer: saved.mine });
    }
    view.say(given ? `Saved: ${words}.` : "Taken back.");
  }
  view.render();
  return !refused;
}

/** Ends the question; the server says what is missing. */
async function handIn(anyway) {
  if (page.handing) return;
  const { question } = page.state;
  Object.assign(page, { handing: true, refused: null });
  const letter = { name: page.name, question, ...(anyway ? { anyway } : {}) };
  try {
    await api.post("/api/hand_in", letter);
    view.say("Handed in.");
  } catch (problem) {
    page.refused = problem instanceof api.Refused ? problem.message : api.remedy(problem);
  }
  page.handing = false;
  view.render();
}

/** The end before the end: what is missing is said there. */
function end() {
  page.ending = true;
  view.render();
}

// ---------------------------------------------------------------- the beginning

const { classes } = view;
const acts = {
  class: ({ label }) => choose(label),
  none: () => answer({ none: true }),
  unsure: () => answer({ unsure: true }),
  undo,
  next,
  end,
  move: ({ step }) => move(step),
  zoom: ({ factor }) => (factor ? zoom.by(factor) : zoom.fit()),
  help: showKeys,
  again: () => outbox.wake(),
  clear: () => classes.clear(),
  emptied: () => view.say("The filter is empty. Escape, then ⌫, takes back the last answer."),
  mark: ({ step }) => classes.move(step),
  take: () => classes.marked !== undefined && choose(classes.marked),
  shown: ({ place }) => classes.at(place) !== undefined && choose(classes.at(place)),
};

for (const name of ["error", "unhandledrejection"]) {
  addEventListener(name, ({ reason, message }) => view.fault(reason?.message ?? message));
}
connect(acts, view);
await askName();
await follow();
