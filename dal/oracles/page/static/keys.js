/**
 * What a key means. Two modes: where every class has a key of its own, a key answers; where there are
 * more classes than keys, letters always go to the filter and digits take the first nine shown classes.
 */

const ZOOM = { "+": 1.25, "=": 1.25, "-": 0.8 };

/** How a key is written on a button. */
export const written = (key) =>
  ({ " ": "Space", Backspace: "⌫", Enter: "⏎" })[key] ?? key;

/** Whether classes are found by typing. */
export const isTyping = (question) => question.classes.some((item) => !item.key);

/** Whether digits take shown classes: not where digits are needed to write a class. */
export const digitsPick = (question) => !question.classes.some((item) => /\d/.test(item.name));

/** The keys for "none of these": letters only where letters answer, "-" only where nothing else is free. */
export function noneKeys(question) {
  if (isTyping(question)) return digitsPick(question) ? ["0", "-"] : ["-"];
  const { none } = question.keys;
  const others = none.filter((key) => key !== "-"); // which makes the picture smaller
  return others.length ? others : none;
}

/** The characters a key press may stand for, the likeliest first; none where it is not for the page. */
function candidates(event) {
  const other = event.ctrlKey || event.altKey || event.metaKey;
  if (other || event.isComposing || event.keyCode === 229 || event.key === "Dead") return [];
  const found = [event.key];
  if (event.key.length === 1) found.push(event.key.toLowerCase()); // caps lock
  const place = /^(?:Digit|Key)(.)$/.exec(event.code ?? ""); // French digits, Cyrillic letters
  if (place && !/^[a-z0-9]$/i.test(event.key)) found.push(place[1].toLowerCase());
  return found;
}

function common(key, keys) {
  for (const name of ["unsure", "undo", "next"]) if (keys[name].includes(key)) return { do: name };
  if (key === "ArrowLeft") return { do: "move", step: -1 };
  if (key === "ArrowRight") return { do: "move", step: 1 };
  if (key === "?") return { do: "help" };
  return null;
}

function ofTyping(key, question, filter, used) {
  if (filter && key === "Enter") return { do: "take" };
  if (used && key === "Escape") return { do: "clear" };
  if (key === "ArrowUp" || key === "ArrowDown") return { do: "mark", step: key === "ArrowUp" ? -1 : 1 };
  if (/^[1-9]$/.test(key) && digitsPick(question)) return { do: "shown", place: Number(key) - 1 };
  if (filter) return null;
  if (used && question.keys.undo.includes(key)) return { do: "emptied" }; // one too many, no undo
  if (noneKeys(question).includes(key)) return { do: "none" };
  return common(key, question.keys);
}

function ofKeys(key, question) {
  const label = question.classes.findIndex((item) => item.key === key);
  if (label >= 0) return { do: "class", label };
  if (noneKeys(question).includes(key)) return { do: "none" };
  if (key in ZOOM) return { do: "zoom", factor: ZOOM[key] };
  return common(key, question.keys);
}

/**
 * What a key press asks for, or null.
 * @param event a keydown event
 * @param question the server's classes and keys
 * @param filter the text typed so far, without meaning where every class has a key
 * @param used whether something was typed, and perhaps deleted again
 */
export function meaning(event, question, filter, used = filter !== "") {
  for (const key of candidates(event)) {
    const found = isTyping(question)
      ? ofTyping(key, question, filter, used)
      : ofKeys(key, question);
    if (found) return found;
  }
  return null;
}
