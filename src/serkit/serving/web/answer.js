// The answer in words, bars and a table.

import { paint, swatch } from "./colours.js";
import { byId, clock, h, percent, tenths, titled } from "./dom.js";
import { showSet } from "./sets.js";

const ROWS = 200; // of the table, until all are asked for
const narrow = matchMedia("(max-width: 42rem)");

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
    no_speech: "The recording contains no speech: it is silence, steady noise, or too short to contain a word. " +
      "So no emotion is given.",
    unsure: "On speakers held out from training, answers of this confidence were wrong too often " +
      "to rely on.",
  }[p.abstain] ?? "";
  showSet(p);
  byId("notes").replaceChildren(...p.notes.map((note) => h("li", {}, titled(note))));
  showSummary(p);
}

function showSummary(p) {
  byId("summary").replaceChildren(...(p.no_speech ? [] : held(p.summary, "Duration of each emotion, pauses within parts included:")));
  const speakers = p.no_speech ? [] : p.speakers ?? [];
  byId("speakers").replaceChildren(...(speakers.length < 2 ? [] : [
    h("h3", {}, "Who"),
    ...speakers.flatMap((s) => [
      h("p", {}, h("strong", {}, s.speaker), ": ", s.abstain === "no_speech" ? "no speech" : [
        `${s.abstain ? "unsure, perhaps " : ""}${s.label}, ${percent(s.confidence)}`,
        `${clock(s.speech_s)} of speech`,
      ].join(" · ")),
      ...held(s.summary, ""),
    ]),
  ]));
}

/** A bar and its legend: how long each emotion held. */
function held(summary, title) {
  const seconds = ranked(summary);
  const total = seconds.reduce((sum, [, s]) => sum + s, 0);
  const bar = h("div", { class: "stack", "aria-hidden": "true" });
  const legend = h("ul", { class: "legend", "aria-label": "Duration of each emotion" }, title ? h("li", { class: "muted" }, title) : null);
  for (const [label, s] of seconds) {
    const piece = paint(h("span"), label);
    piece.style.flexGrow = s;
    bar.append(piece);
    legend.append(h("li", {}, swatch(label), `${label} ${s < 60 ? `${tenths(s)} s` : clock(s, 0)} (${percent(s / total)})`));
  }
  return seconds.length ? [bar, legend] : [];
}

/** All probabilities of one part, or of the whole where no part is given. */
export function showHere(p, part) {
  const shown = part ?? p;
  const title = part ? `${clock(part.start_s)} to ${clock(part.end_s)}` : "The whole recording";
  const told = h("p", { class: "muted number" }, [title, part?.speaker].filter(Boolean).join(" · "));
  const words = part?.text ? h("blockquote", {}, part.text) : null;
  if (p.no_speech) {
    const head = part ? [h("div", {}, h("h3", {}, "No speech"), told, words)] : [];
    byId("here").replaceChildren(...head, unheeded(shown.probabilities));
    return;
  }
  const best = shown.label;
  const left = h("div", {},
    h("h3", {}, swatch(best), titled(best), shown.abstain ? h("span", { class: "tag" }, wordOf(shown.abstain)) : null),
    told,
    part && part.state !== part.label
      ? h("p", { class: "muted" }, `Over time ${part.state} prevails: ${part.label} leads by too little, or too briefly.`)
      : null,
    attributes(shown.attributes),
    words,
  );
  byId("here").replaceChildren(left, bars(shown.probabilities, best));
}

/** Arousal, valence and dominance in a line, where the model learned them. */
function attributes(known) {
  const said = Object.entries(known).map(([name, value]) => `${name} ${value.toFixed(2)}`);
  return said.length ? h("p", { class: "number" }, said.join(" · ")) : null;
}

/** The scores of what is no speech: there for those who ask, and nothing that looks like an answer. */
function unheeded(shares) {
  return h("details", { class: "muted" },
    h("summary", {}, "Show the model's scores anyway"),
    h("p", {}, "A model gives scores for any sound. Without speech they say nothing about emotion."),
    bars(shares, null),
  );
}

/** Shares as bars; best: the label that is the answer, or null where none is. */
function bars(shares, best) {
  const list = h("dl", { class: best === null ? "bars faint" : "bars" });
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

// The roles are those that table elements have; some browsers forget them where a narrow page lays rows out as a grid.
const column = (kind, name) => h("th", { scope: "col", role: "columnheader", class: kind }, name);
const cell = (kind, ...children) => h("td", { role: "cell", class: kind }, ...children);

/** How sure a part is: in numbers, as a bar where there is room, and marked where that is too little. */
function sureCell(s) {
  const fill = paint(h("span"), s.label);
  fill.style.width = `${(100 * s.confidence).toFixed(1)}%`;
  const doubt = s.abstain ? h("span", { class: "tag" }, wordOf(s.abstain)) : null;
  const track = h("span", { class: "track", "aria-hidden": "true" }, fill);
  return cell("sure", h("div", {}, h("span", { class: "share" }, percent(s.confidence)), track, doubt));
}

/** The table of parts. */
export class Parts {
  /** root: where it goes. onGo(segment): the user wants to hear a part. */
  constructor(root, onGo) {
    this.root = root;
    this.onGo = onGo;
    this.everyClass = false;
    this.rows = [];
    new ResizeObserver(() => this.rows.length && this.fit()).observe(root);
  }

  show(p, limit = ROWS) {
    this.prediction = p;
    this.limit = limit;
    this.current = null;
    this.rows = [];
    if (!p.segments.length) {
      byId("all-classes-field").hidden = true;
      this.root.replaceChildren(h("p", { class: "more muted" }, "No part of the recording is speech."));
      return;
    }
    byId("all-classes-field").hidden = false;
    this.fill(false);
    this.fit();
  }

  /** Side by side where there is room for all columns; else what is long goes below the rest of its row. */
  fit() {
    if (!this.stacked) this.needed = this.root.scrollWidth;
    const stacked = this.everyClass ? this.needed > this.root.clientWidth + 1 : narrow.matches;
    if (stacked !== this.stacked) this.fill(stacked);
  }

  fill(stacked) {
    const [p, current] = [this.prediction, this.current];
    const focused = this.rows.findIndex((row) => row.contains(document.activeElement));
    this.stacked = stacked;
    const has = {
      stacked,
      speakers: p.segments.some((s) => s.speaker),
      words: p.segments.some((s) => s.text),
      labels: this.everyClass ? Object.keys(p.probabilities) : [],
    };
    const head = [column("hear", "Hear"), column("time", "Time")];
    if (has.speakers) head.push(column("speaker", "Speaker"));
    head.push(column("emotion", "Emotion"), column("sure", "Sure"));
    if (stacked && has.labels.length) head.push(column("shares", "Every probability"));
    else has.labels.forEach((label) => head.push(column("number", label)));
    if (has.words) head.push(column("words", "Words"));
    this.rows = p.segments.slice(0, this.limit).map((s) => this.row(s, has));
    const kind = [has.labels.length ? "every" : "few", stacked && "stacked", has.speakers && "speakers", has.words && "words"];
    const table = h("table", { role: "table", class: kind.filter(Boolean).join(" ") },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...head)),
      h("tbody", { role: "rowgroup" }, ...this.rows),
    );
    const left = p.segments.length - this.rows.length;
    const more = left > 0
      ? h("button", { type: "button", class: "more", onclick: () => this.show(p, Infinity) }, `Show ${left} more`)
      : null;
    this.root.replaceChildren(table, ...(more ? [more] : []));
    this.current = null;
    if (current !== null) this.mark(current);
    this.rows[focused]?.querySelector("button").focus();
  }

  row(s, has) {
    const silent = this.prediction.no_speech;
    const named = silent ? "no speech" : s.label;
    const said = `Play ${clock(s.start_s)} to ${clock(s.end_s)}, ${named}`;
    const cells = [
      cell("hear", h("button", { type: "button", "aria-label": said, onclick: () => this.onGo(s) }, "▸")),
      cell("time", `${clock(s.start_s)} – ${clock(s.end_s)}`),
    ];
    if (has.speakers) cells.push(cell("speaker", s.speaker));
    if (silent) cells.push(cell("emotion muted", named), cell("sure"));
    else cells.push(cell("emotion", swatch(s.label), named), sureCell(s));
    const best = (label) => label === s.label && !silent;
    if (has.stacked && has.labels.length) {
      const pair = (label) => h("div", { class: best(label) ? "best" : null },
        h("dt", {}, label), h("dd", {}, percent(s.probabilities[label])));
      cells.push(cell("shares", h("dl", {}, ...has.labels.map(pair))));
    } else {
      has.labels.forEach((label) => cells.push(cell(best(label) ? "number best" : "number", percent(s.probabilities[label]))));
    }
    if (has.words) cells.push(cell("words", s.text));
    return h("tr", { role: "row" }, ...cells);
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
    if (current !== null) this.mark(current);
  }
}
