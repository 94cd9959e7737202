/** What stands beside the item: last answers, people, differences, the learning curve. */

import { $, duration, inWords, make, plural, write } from "./dom.js";

const LAST = 10;

/** The last ten answers, the latest first; pressing one shows its item again. */
export class Strip {
  #made = new Map();

  constructor(list, samples, onShow) {
    this.list = list;
    this.samples = samples;
    this.onShow = onShow;
  }

  /**
   * @param entries `{id, place, answer}`, the latest last
   * @param current the id on the screen
   */
  show(entries, current, classes) {
    const made = new Map();
    for (const { id, place, answer } of entries.slice(-LAST).reverse()) {
      const words = inWords(answer, classes);
      const key = `${id} ${words}`;
      const row = this.#made.get(key) ?? this.#row(id, place, words);
      row.firstChild.toggleAttribute("aria-current", id === current);
      made.set(key, row);
    }
    this.#made = made;
    const rows = [...made.values()];
    const changed = rows.some((row, at) => row !== this.list.children[at]);
    if (changed || rows.length !== this.list.childElementCount) this.list.replaceChildren(...rows);
  }

  #row(id, place, words) {
    const thumb = make("span", { class: "thumb", "aria-hidden": "true" });
    const sample = this.samples.ready(id);
    const fill = ({ image, words: shown }) =>
      thumb.replaceChildren(image ? make("img", { src: image, alt: "" }) : shown.slice(0, 40));
    if (sample) fill(sample);
    else {
      thumb.append(String(place));
      this.samples.get(id).then(fill, () => {}); // after a reload; a number is good enough
    }
    const label = make("span", { class: "name", dir: "auto" }, words);
    const name = `Item ${place}: ${words}. Look at it again`;
    const show = () => this.onShow(id);
    const button = make("button", { type: "button", "aria-label": name, onclick: show }, thumb, label);
    return make("li", {}, button);
  }
}

/** The headline metric over the labels, as a small drawing. */
export function curve(rows, metric) {
  const headline = metricWords(metric);
  const points = rows.filter((row) => Number.isFinite(row.value));
  const [width, height, edge] = [260, 120, 8];
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [x0, x1] = range(points.map((row) => row.labels));
  const [y0, y1] = range(points.map((row) => row.value));
  const x = (row) => edge + ((row.labels - x0) / (x1 - x0 || 1)) * (width - 2 * edge);
  const y = (row) => height - edge - ((row.value - y0) / (y1 - y0 || 1)) * (height - 2 * edge);
  const draw = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const last = points.at(-1);
  const words = `${headline} ${last.value.toFixed(3)} with ${plural(last.labels, "label")}`;
  const box = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
  if (points.length === 1) return make("p", { class: "curve" }, words);
  box.append(draw("polyline", { points: points.map((row) => `${x(row)},${y(row)}`).join(" ") }));
  for (const row of points) box.append(draw("circle", { cx: x(row), cy: y(row), r: 3 }));
  const from = `${headline} ${points[0].value.toFixed(3)} at ${points[0].labels}`;
  const to = `${last.value.toFixed(3)} at ${plural(last.labels, "label")}`;
  return make("div", { class: "curve" }, box, make("p", { class: "muted" }, `${from}, ${to}`));
}

/** The name of a metric as people say it: "test micro F1". */
export const metricWords = (name) => name.replaceAll(/[_/]/g, " ").replace(/\bf1\b/, "F1");

export const short = (value) => Number(value.toPrecision(3)).toString();

export const hasCurve = (rows) => rows.some((row) => Number.isFinite(row.value));

/** One line a person: "Ada: 12 of 20, 34 a minute". */
export function showPeople(people) {
  $("people").hidden = people.length < 2;
  const line = ({ name, answered, of, per_minute: pace }) =>
    make("li", { dir: "auto" }, `${name}: ${answered} of ${of}${pace ? `, ${Math.round(pace)} a minute` : ""}`);
  $("persons").replaceChildren(...people.map(line));
}

/** What people see differently; an item of one's own can be looked at again. */
export function showDifferences(differences, classes, own, onShow) {
  $("differ").hidden = !differences.length;
  const line = ({ id, answers }) => {
    const words = answers.map((answer) => `${answer.name}: ${inWords(answer, classes)}`).join(" · ");
    if (!own.has(id)) return make("li", { dir: "auto" }, words);
    return make("li", {}, make("button", { type: "button", dir: "auto", onclick: () => onShow(id) }, words));
  };
  const key = JSON.stringify([differences, [...own].length]);
  if ($("differences").dataset.key === key) return; // a button in use stays
  $("differences").dataset.key = key;
  $("differences").replaceChildren(...differences.map(line));
}

/** "34 a minute · about 40 s left", once it is known: what is left takes as long at this pace. */
export function showPace(person, left) {
  const parts = [];
  const pace = person?.per_minute;
  if (pace) parts.push(`${Math.max(1, Math.round(pace))} a minute`);
  if (pace && left) parts.push(`about ${duration((60 * left) / pace)} left`);
  write($("pace"), parts.join(" · "));
}
