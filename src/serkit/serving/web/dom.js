// Elements and numbers as text. Nothing here takes markup: what a server or a file says is always text.

/** Make an element: h("td", {class: "number"}, "1.0"). Attributes that are null or false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** 75.24 → "1:15.2"; with hours where there are some. */
export function clock(seconds, digits = 1) {
  const scale = 10 ** digits;
  const whole = Math.round(Math.max(0, seconds) * scale) / scale;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** 5.85 → "5.9": rounded as clock() does. */
export const tenths = (seconds) => (Math.round(seconds * 10) / 10).toFixed(1);

/** 75.24 for a screen reader: "1 minute 15.2 seconds". */
export function spoken(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = `${(seconds % 60).toFixed(1)} seconds`;
  return minutes ? `${minutes} minute${minutes === 1 ? "" : "s"} ${rest}` : rest;
}

/** 0.354 → "35 %", with a space at which no line breaks. */
export const percent = (share) => `${Math.round(share * 100)}\u00a0%`;

export const titled = (word) => word.charAt(0).toUpperCase() + word.slice(1);
