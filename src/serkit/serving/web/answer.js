// The answer in words, bars and a table.

import { paint } from "./colours.js";
import { byId, clock, h, percent, titled } from "./dom.js";

const ROWS = 200; // of the table, until all are asked for

const swatch = (label) => paint(h("span", { class: "swatch", "aria-hidden": "true" }), label);
const ranked = (shares) => Object.entries(shares).sort((a, b) => b[1] - a[1]);

/** What is said first: the emotion, how sure, and what speaks against it. */
export function showHead(p) {
  byId("about").textContent = [
    p.path ?? "microphone",
    clock(p.duration_s),
    p.no_speech ? "no speech" : `${clock(p.speech_s)} of speech in ${counted(p.segments.length, "part")}`,
  ].join(" · ");
  const [, second] = ranked(p.probabilities);
  const named = { no_speech: "No speech found", unsure: `Unsure, perhaps ${p.label}` }[p.abstain] ?? titled(p.label);
  const shares = `${percent(p.confidence)}, then ${second[0]} ${percent(second[1])}`;
  byId("answer").replaceChildren(named, " ", p.no_speech ? "" : h("small", {}, shares));
  const doubt = byId("doubt");
  doubt.hidden = !p.abstain;
  doubt.textContent = {
    no_speech: "Nothing in this recording sounds like speech: silence, steady noise, or too short to hold a word. " +
      "The model has no answer to rely on.",
    unsure: "On speakers kept aside for testing, answers of this confidence were wrong too often to rely on.",
  }[p.abstain] ?? "";
  byId("notes").replaceChildren(...p.notes.map((note) => h("li", {}, titled(note))));
  showSummary(p);
}

function showSummary(p) {
  const seconds = ranked(p.summary);
  const total = seconds.reduce((sum, [, s]) => sum + s, 0);
  const bar = h("div", { class: "stack", "aria-hidden": "true" });
  const legend = h("ul", { class: "legend", "aria-label": "How long each emotion held" }, h("li", { class: "muted" }, "Held over time:"));
  for (const [label, s] of seconds) {
    const piece = paint(h("span"), label);
    piece.style.flexGrow = s;
    bar.append(piece);
    legend.append(h("li", {}, swatch(label), `${label} ${s < 60 ? `${s.toFixed(1)} s` : clock(s, 0)} (${percent(s / total)})`));
  }
  byId("summary").replaceChildren(...(seconds.length ? [bar, legend] : []));
}

/** All probabilities of one part, or of the whole where no part is given. */
export function showHere(p, part) {
  const shown = part ?? p;
  const title = part ? `${clock(part.start_s)} to ${clock(part.end_s)}` : "The whole recording";
  const best = shown.label;
  const left = h("div", {},
    h("h3", {}, swatch(best), titled(best), shown.abstain ? h("span", { class: "tag" }, wordOf(shown.abstain)) : null),
    h("p", { class: "muted number" }, [title, part?.speaker].filter(Boolean).join(" · ")),
    part && part.state !== part.label
      ? h("p", { class: "muted" }, `Over time ${part.state} holds: ${part.label} leads by too little, or for too short.`)
      : null,
    part?.text ? h("blockquote", {}, part.text) : null,
  );
  byId("here").replaceChildren(left, bars(shown.probabilities, best));
}

function bars(shares, best) {
  const list = h("dl", { class: "bars" });
  for (const [label, share] of ranked(shares)) {
    const mark = label === best ? "best" : null;
    const fill = paint(h("span"), label);
    fill.style.width = `${(100 * share).toFixed(1)}%`;
    list.append(
      h("dt", { class: mark }, label),
      h("dd", { "aria-hidden": "true" }, h("span", { class: "track" }, fill)),
      h("dd", { class: "share" }, percent(share)),
    );
  }
  return list;
}

const wordOf = (abstain) => ({ unsure: "unsure", no_speech: "no speech" })[abstain] ?? abstain;

const counted = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

/** The table of parts. */
export class Parts {
  /** root: where it goes. onGo(segment): the user wants to hear a part. */
  constructor(root, onGo) {
    this.root = root;
    this.onGo = onGo;
    this.everyClass = false;
  }

  show(p, limit = ROWS) {
    this.prediction = p;
    this.limit = limit;
    this.current = null;
    if (!p.segments.length) {
      this.rows = [];
      this.root.replaceChildren(h("p", { class: "more muted" }, "No part of it is speech."));
      return;
    }
    const labels = this.everyClass ? Object.keys(p.probabilities) : [];
    const [speakers, words] = [p.segments.some((s) => s.speaker), p.segments.some((s) => s.text)];
    const head = [h("th", { scope: "col" }, "Hear"), h("th", { scope: "col" }, "Time")];
    if (speakers) head.push(h("th", { scope: "col" }, "Speaker"));
    head.push(h("th", { scope: "col" }, "Emotion"), h("th", { scope: "col" }, "Sure"));
    if (words) head.push(h("th", { scope: "col", class: "words" }, "Words"));
    labels.forEach((label) => head.push(h("th", { scope: "col", class: "number" }, label)));
    if (!words && !labels.length) head.push(h("td", { class: "rest" }));
    this.rows = p.segments.slice(0, limit).map((s) => this.row(s, labels, speakers, words));
    const table = h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...this.rows));
    const left = p.segments.length - this.rows.length;
    const more = left > 0
      ? h("button", { type: "button", class: "more", onclick: () => this.show(p, Infinity) }, `Show ${left} more`)
      : null;
    this.root.replaceChildren(table, ...(more ? [more] : []));
  }

  row(s, labels, speakers, words) {
    const said = `Hear ${clock(s.start_s)} to ${clock(s.end_s)}, ${s.label}`;
    const cells = [
      h("td", {}, h("button", { type: "button", "aria-label": said, onclick: () => this.onGo(s) }, "▸")),
      h("td", {}, `${clock(s.start_s)} – ${clock(s.end_s)}`),
    ];
    if (speakers) cells.push(h("td", {}, s.speaker ?? ""));
    const doubt = s.abstain ? h("span", { class: "tag" }, wordOf(s.abstain)) : null;
    cells.push(h("td", {}, swatch(s.label), s.label), h("td", { class: "sure" }, percent(s.confidence), doubt));
    if (words) cells.push(h("td", { class: "words" }, s.text ?? ""));
    labels.forEach((label) => cells.push(h("td", { class: "number" }, percent(s.probabilities[label]))));
    return h("tr", {}, ...cells);
  }

  /** Mark the part that is heard now. */
  mark(index) {
    if (index === this.current) return;
    this.rows[this.current]?.classList.remove("current");
    this.rows[this.current]?.removeAttribute("aria-current");
    this.current = index;
    this.rows[index]?.classList.add("current");
    this.rows[index]?.setAttribute("aria-current", "true");
  }

  setEveryClass(wanted) {
    this.everyClass = wanted;
    const current = this.current;
    this.show(this.prediction, this.limit);
    this.mark(current);
  }
}
