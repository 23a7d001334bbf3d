// Which of the numbered colours of style.css an emotion has.

import { h } from "./dom.js";

const SLOTS = {
  anger: 0, disgust: 1, contempt: 1, fear: 2, happiness: 3, sadness: 4, surprise: 5, calm: 6, neutral: 7, boredom: 8,
};
const N_SLOTS = 10;

function slot(label) {
  if (label in SLOTS) return SLOTS[label];
  let sum = 0;
  for (const letter of label) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return sum % N_SLOTS;
}

/** Give an element the colour of an emotion, for the rules of style.css that use --hue. */
export function paint(element, label) {
  element.style.setProperty("--hue", `var(--emotion-${slot(label)})`);
  return element;
}

/** A small square in the colour of an emotion, to stand before its name. */
export const swatch = (label) => paint(h("span", { class: "swatch", "aria-hidden": "true" }), label);

/** The colours of the theme that holds now, for a canvas: a function from emotion to colour, and named ones. */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    emotion: (label) => value(`emotion-${slot(label)}`),
    ink: value("ink"), muted: value("muted"), line: value("line"), panel: value("panel"), wave: value("wave"),
    accent: value("accent"),
  };
}

/** Call back when the theme changes. */
export function onThemeChange(callback) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);
}
