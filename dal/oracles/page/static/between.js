/** What stands in the place of the item: the end of a question, training, the end of the run. */

import { $, inWords, make, plural } from "./dom.js";
import { curve, hasCurve, metricWords, short } from "./side.js";

const REASONS = {
  budget: "The budget is spent.",
  max_rounds: "All rounds are done.",
  pool_exhausted: "No sample is left to ask about.",
  stream_ended: "The stream has ended.",
  answers: "Answers are missing. Start the run again to go on.",
};

function title(words) {
  return make("h2", { id: "between-title", tabindex: "-1" }, words);
}

const button = (id, words, main, press) =>
  make("button", { type: "button", id, class: main ? "main" : null, onclick: press }, words);

/** How often each answer was given, the most frequent first. */
function tally(answers, classes) {
  const counts = new Map();
  for (const answer of answers) {
    const words = inWords(answer, classes);
    counts.set(words, (counts.get(words) ?? 0) + 1);
  }
  const rows = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 12);
  const line = ([words, count]) =>
    make("tr", {}, make("th", { scope: "row", dir: "auto" }, words), make("td", {}, String(count)));
  const heads = ["Your answer", "Items"].map((words) => make("th", { scope: "col" }, words));
  const head = make("thead", {}, make("tr", {}, ...heads));
  return make("table", { class: "tally" }, head, make("tbody", {}, ...rows.map(line)));
}

/** Everything of one's own is answered, or the person wants to hand in before. */
function ending({ state, answers, missing, unheard, refused, name, acts }) {
  const parts = [];
  if (missing) {
    const have = missing === 1 ? "has" : "have";
    parts.push(title(`${plural(missing, "item")} of yours ${have} no answer yet`));
  } else if (answers.length) {
    parts.push(title(`All ${plural(answers.length, "item")} of yours are answered`));
  } else parts.push(title("Nothing is left for you"));
  const others = state.people.filter((one) => one.name !== name && one.answered < one.of);
  if (others.length) {
    const words = others.map((one) => `${one.name} has answered ${one.answered} of ${one.of}`);
    parts.push(make("p", { dir: "auto" }, `${words.join(", ")}.`));
  }
  if (answers.length) parts.push(tally(answers, state.classes));
  if (refused) parts.push(make("p", { class: "refused", role: "alert" }, refused));
  const lacks = state.missing > 0 && !unheard;
  if (lacks && !missing && !refused) {
    const wait = state.missing === 1 ? "waits" : "wait";
    const words = `${plural(state.missing, "item")} of the question ${wait} for more answers.`;
    parts.push(make("p", {}, words));
  }
  const buttons = [];
  if (missing) buttons.push(button("go-on", "Go on labeling ⏎", true, acts.goOn));
  else if (!lacks) buttons.push(button("give", "Hand in ⏎", true, () => acts.handIn(false)));
  if (lacks && state.missing <= state.may_be_open) {
    buttons.push(button("anyway", "Hand in anyway", false, () => acts.handIn(true)));
  }
  const look = () => acts.show(state.items[0].id, true);
  if (answers.length) buttons.push(button("look", "Look at the answers again", false, look));
  parts.push(make("p", { class: "row" }, ...buttons));
  parts.push(make("p", { class: "muted" }, "Answers can be changed until the question is handed in."));
  return parts;
}

function training({ state, helped }) {
  const news = state.training;
  const parts = [title(`${helped ? "Thank you. " : ""}The model is training`)];
  if (news) {
    const values = Object.entries(news.values ?? {}).filter(([, value]) => Number.isFinite(value));
    const words = values.map(([name, value]) => `${metricWords(name)} ${short(value)}`);
    parts.push(make("p", { id: "epoch" }, [`epoch ${news.epoch}`, ...words].join(" · ")));
  }
  parts.push(make("progress", { "aria-label": "Training" }));
  const words = "The next question appears here by itself; the page may stay open.";
  parts.push(make("p", { class: "muted" }, words));
  return parts;
}

function finished({ state }) {
  const failed = state.phase === "failed";
  const parts = [title(failed ? "The run has stopped" : "The run is complete. Thank you")];
  if (state.reason) parts.push(make("p", {}, REASONS[state.reason] ?? state.reason));
  if (failed) parts.push(make("p", { class: "muted" }, "All answers are kept. The terminal says more."));
  return parts;
}

/**
 * Draws what is between items.
 * @param mode "end", "train", "done" or "failed"
 * @param view `{state, answers, missing, unheard, refused, name, helped, acts}`; unheard: the state is
 *   older than an answer
 */
export function showBetween(mode, view) {
  const parts = { end: ending, train: training, done: finished, failed: finished }[mode](view);
  if (mode !== "end" && hasCurve(view.state.rows)) {
    parts.push(curve(view.state.rows, view.state.headline));
  }
  draw($("between"), parts);
  const focused = document.activeElement;
  if (focused === document.body || focused.closest("#ask, #answers")) $("between-title").focus();
}

/** Replaces what differs: what has the focus stays where it can. */
function draw(box, parts) {
  for (const [at, part] of parts.entries()) {
    const old = box.children[at];
    if (!old) box.append(part);
    else if (!old.isEqualNode(part)) old.replaceWith(part);
  }
  while (box.children.length > parts.length) box.lastElementChild.remove();
}
