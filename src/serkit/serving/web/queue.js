// Recordings that were given together: how far each one is, and a list of them to choose from.

import { byId, h, percent, titled } from "./dom.js";
import { setText } from "./sets.js";

/** What the list says of a recording. */
function stateOf({ status, stage, prediction: p }) {
  if (status === "asked") return stage;
  if (status !== "done") return { waiting: "waits", failed: "no answer", left: "left out" }[status];
  if (p.no_speech) return "no speech";
  return `${p.abstain ? `unsure, perhaps ${p.label}` : titled(p.label)}, ${percent(p.confidence)}${setText(p)}`;
}

export class Queue {
  /** onPick(entry): the user wants to see this one. An entry is {file, status, stage, prediction, problem}. */
  constructor(onPick) {
    this.onPick = onPick;
    this.entries = [];
    this.shown = null;
  }

  /** Begin anew with these files. */
  take(files) {
    this.entries = [...files].map((file) => ({ file, status: "waiting", stage: "", prediction: null, problem: null }));
    this.shown = null;
    this.buttons = this.entries.map((entry) => {
      const state = h("span", { class: "muted" });
      const button = h("button", { type: "button", onclick: () => this.onPick(entry) }, h("span", {}, entry.file.name), state);
      return { button, state };
    });
    byId("files-list").replaceChildren(...this.buttons.map(({ button }) => h("li", {}, button)));
    byId("files").hidden = this.entries.length < 2;
    this.update();
  }

  get files() {
    return this.entries.map((entry) => entry.file);
  }

  mark(entry, status, found = {}) {
    Object.assign(entry, found, { status });
    this.update();
  }

  /**
   * Begin with each recording as soon as one of `workers` is free; work(entry) answers one. The first error of work is
   * thrown, and nothing is begun after it.
   */
  async run(workers, work) {
    const rest = this.entries.values();
    let failed = false;
    const one = async () => {
      for (const entry of rest) {
        await work(entry).catch((error) => {
          failed = true;
          throw error;
        });
        if (failed) return;
      }
    };
    await Promise.all(Array.from({ length: Math.min(workers, this.entries.length) }, one));
  }

  /** How many are over. */
  get over() {
    return this.entries.filter(({ status }) => !["waiting", "asked"].includes(status)).length;
  }

  /** What was not begun stays so. */
  leaveRest() {
    for (const entry of this.entries) if (["waiting", "asked"].includes(entry.status)) entry.status = "left";
    this.update();
  }

  show(entry) {
    this.shown = entry;
    this.update();
  }

  update() {
    this.entries.forEach((entry, k) => {
      const { button, state } = this.buttons[k];
      state.textContent = stateOf(entry);
      button.disabled = !["done", "failed"].includes(entry.status);
      if (entry === this.shown) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
    const answered = this.entries.filter((entry) => entry.status === "done").length;
    byId("files-title").textContent = `${answered} of ${this.entries.length} recordings answered`;
  }
}
