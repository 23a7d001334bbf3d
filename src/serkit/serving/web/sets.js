// Sets of emotions: the choice of how often they hold the right one, and how the set of an answer is shown.

import { swatch } from "./colours.js";
import { byId, h, percent } from "./dom.js";

const MEANS = "Measured on held-out clips of the training corpora. On other recordings the right emotion is in the set less often.";
const UNMEASURED = "This model cannot give sets: it was not measured on enough clips.";
const BY_CHANNEL = "There are no sets by channel: each channel is answered alone, and a set is for one answer.";

/** Offer the coverages that the model has sets for. */
export function offerCoverages(coverages) {
  byId("coverage").append(...coverages.map((share) => h("option", { value: share }, `in ${percent(share)} of cases`)));
  byId("coverage-field").hidden = false;
  fitCoverage();
}

/** Let a coverage be chosen where it goes with the other options, and say why where it does not. */
export function fitCoverage() {
  const choice = byId("coverage");
  const refused = choice.options.length < 2 ? UNMEASURED : byId("by").value === "channel" ? BY_CHANNEL : null;
  choice.disabled = refused !== null;
  byId("coverage-note").textContent = refused ?? MEANS;
}

/** The coverage that is asked for, or null. */
export function chosenCoverage() {
  const choice = byId("coverage");
  return choice.disabled || !choice.value ? null : Number(choice.value);
}

const isShown = (p) => Boolean(p.set) && !p.no_speech;

/** Show the set of an answer, in the order of its probabilities, and what it means; without speech there is none. */
export function showSet(p) {
  for (const id of ["set", "set-saved"]) byId(id).hidden = !isShown(p);
  if (!isShown(p)) return;
  const all = p.set.length === Object.keys(p.probabilities).length;
  byId("set").replaceChildren(
    h("div", { class: "row" },
      h("h3", { id: "set-title" }, titleOf(p)),
      h("ul", { role: "list", "aria-labelledby": "set-title" }, ...p.set.map((label) => h("li", {}, swatch(label), label))),
    ),
    h("p", { class: "muted" },
      all ? "All emotions are in it, so it rules none out. " : null,
      `Of the held-out clips of the training corpora, at least ${percent(p.coverage)} have the right emotion in their set. ` +
        "On other recordings it is in the set less often. The set is for the whole recording: parts and speakers have none.",
    ),
  );
}

/** The set in words, to follow the label; empty where none is shown. */
export const setText = (p) => (isShown(p) ? `; ${titleOf(p)}: ${p.set.join(", ")}` : "");

const titleOf = (p) => `${percent(p.coverage)} set`;
