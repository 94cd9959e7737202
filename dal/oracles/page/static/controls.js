/** Keys, buttons and dialogs. */

import { $, make, store, write } from "./dom.js";
import { digitsPick, isTyping, meaning, noneKeys, written } from "./keys.js";
import { mode, page, several } from "./model.js";

const NATIVE = "button, a, summary, select, textarea, input:not(#filter)";

/** Whether a key belongs to the element that has the focus, as in any page. */
function isForElement(event) {
  const element = event.target.closest?.(NATIVE);
  if (!element) return false;
  const presses = element.matches("button, a, summary, input[type=checkbox]");
  return !presses || [" ", "Enter"].includes(event.key);
}

function listen(acts, classes) {
  document.addEventListener("keydown", (event) => {
    if (!page.state || document.querySelector("dialog[open]") || isForElement(event)) return;
    const found = meaning(event, page.state, classes.filter, classes.used);
    if (!found || !acts[found.do]) {
      const letter = event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey;
      if (letter && isTyping(page.state) && mode() === "ask") $("filter").focus();
      return;
    }
    event.preventDefault();
    if (event.repeat && !["zoom", "mark"].includes(found.do)) return; // a held key answers once
    acts[found.do](found);
  });
}

/** Keys in words, for the dialog. */
function keyTable() {
  const { keys, classes } = page.state;
  const typing = isTyping(page.state);
  const verb = several() ? "choose, or choose no longer" : "answer, and go on";
  const first = classes[0];
  const digits = digitsPick(page.state);
  const rows = typing
    ? [
        [digits ? "letters" : "letters, digits", "filter the classes"],
        ...(digits ? [["1 to 9", "take one of the first nine shown"]] : []),
        ["↑ ↓", "mark another one"],
        ["⏎", "take the marked one"],
        ["Escape", "empty the filter"],
      ]
    : [[`${first.key} to ${classes.at(-1).key}`, `${verb} (${first.name} to ${classes.at(-1).name})`]];
  const empty = typing ? ", while nothing is typed" : "";
  const unused = typing ? "; where something was typed, Escape comes first" : "";
  rows.push(
    [noneKeys(page.state).join(" or "), `none of these${empty}`],
    [written(keys.unsure[0]), `cannot tell${empty}`],
    [written(keys.undo[0]), `undo, as often as you like${unused}`],
    [written(keys.next[0]), several() ? "next; hand in at the end" : "hand in at the end"],
    ["← →, swipe", "look at the item before, at the next one"],
  );
  if (!typing) rows.push(["+ −", "larger, smaller"]);
  const row = ([key, words]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, words));
  return rows.map(row);
}

/** Guess and order: off unless the run was started with them; then a person may switch them off. */
function connectOptions(render) {
  for (const [id, setting] of [["show-guess", "guess"], ["sort-guess", "sort_labels"]]) {
    $(id).addEventListener("change", () => {
      store.set(`${setting}.${page.state.run.name}`, $(id).checked);
      render();
    });
  }
}

/** Sets the switches for a run: what the server has not been asked to tell cannot be shown. */
export function readOptions(state) {
  $("no-guess").hidden = Boolean(state.settings?.guess && state.settings?.sort_labels);
  for (const [id, setting] of [["show-guess", "guess"], ["sort-guess", "sort_labels"]]) {
    const offered = state.settings?.[setting] ?? false;
    $(id).disabled = !offered;
    $(id).checked = offered && (store.get(`${setting}.${state.run.name}`) ?? true);
  }
}

/** The name of the person: asked for once, or again where the server cannot use it and says why. */
export function askName(reason = null) {
  if (page.name && !reason) return Promise.resolve();
  write($("name-reason"), reason ?? "");
  $("name-dialog").showModal();
  return new Promise((resolve) => {
    const named = () => {
      const name = $("name").value.trim();
      if (!name) {
        $("name-dialog").showModal(); // it was closed by Escape
        return;
      }
      page.name = name;
      store.set("name", name);
      resolve();
    };
    $("name-dialog").onclose = named;
  });
}

/** Connects everything that can be pressed; acts by the names of `keys.meaning` and of the buttons. */
export function connect(acts, view) {
  listen(acts, view.classes);
  connectOptions(() => view.render());
  const press = {
    none: acts.none,
    unsure: acts.unsure,
    undo: acts.undo,
    next: acts.next,
    end: acts.end,
    again: acts.again,
    help: acts.help,
    larger: () => acts.zoom({ factor: 1.5 }),
    smaller: () => acts.zoom({ factor: 1 / 1.5 }),
    fit: () => acts.zoom({ factor: null }),
    options: () => $("options-dialog").showModal(),
    rename: () => {
      store.remove("name");
      location.reload();
    },
  };
  for (const [id, act] of Object.entries(press)) $(id).addEventListener("click", () => act());
  // A button pressed by the mouse or a finger does not keep the focus: Space would press it again.
  document.addEventListener("click", (event) => {
    if (event.detail > 0 && event.target.closest("main button, header button")) view.focus();
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => page.state && view.focus());
  }
}

/** Opens the table of keys. */
export function showKeys() {
  if (!page.state) return;
  $("keys").replaceChildren(...keyTable());
  $("keys-dialog").showModal();
}
