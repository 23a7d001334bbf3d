// The drawing: waveform, who and what holds, and one row per emotion whose bars are as high as it is probable.
// Emotions have rows and names, so that nobody has to tell them apart by colour. Also the keys and the pointer.

import { onThemeChange, palette } from "./colours.js";
import { clock, percent, spoken } from "./dom.js";
import { PEAKS_HZ, together } from "./sound.js";

const WAVE = 84;
const NARROW_WAVE = 56; // of each channel, where they are drawn apart
const LANE = 24;
const ROW = 22;
const AXIS = 22;
const SHORTEST_VIEW_S = 1;
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

export class Timeline {
  /** root: the slider that holds the canvas. onSeek(seconds): the user went somewhere. onToggle(): play or pause. */
  constructor(root, { onSeek, onToggle }) {
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.onSeek = onSeek;
    this.onToggle = onToggle;
    this.prediction = null;
    root.addEventListener("keydown", (event) => this.onKey(event));
    root.addEventListener("pointerdown", (event) => this.onPointer(event));
    root.addEventListener("pointermove", (event) => event.buttons & 1 && this.seekTo(this.timeAt(event)));
    this.still = document.createElement("canvas"); // all but the line: drawn anew only when it changes
    new ResizeObserver(() => this.redraw()).observe(root);
    onThemeChange(() => this.redraw());
  }

  /** channels: the peaks of each channel of the recording, none where it cannot be drawn. */
  show(prediction, channels) {
    this.prediction = prediction;
    this.duration = Math.max(prediction.duration_s, 0.05);
    this.at = 0;
    this.labels = prediction.no_speech ? [] : Object.keys(prediction.probabilities);
    this.drawn = prediction.no_speech ? [] : shownSpans(prediction.segments);
    this.bands = bandsOf(prediction, channels);
    this.loudest = Math.max(...this.bands.map((band) => (band.peaks ? loudest(band.peaks) : 0.05)));
    this.lanes = this.bands.flatMap((band) => band.lanes);
    this.from = 0;
    this.to = this.duration;
    this.root.setAttribute("aria-valuemin", "0");
    this.root.setAttribute("aria-valuemax", this.duration.toFixed(1));
    this.redraw();
    this.moveTo(0);
  }

  /** Put the line at a time, and keep it in view. */
  moveTo(seconds) {
    this.at = Math.min(Math.max(seconds, 0), this.duration);
    const width = this.to - this.from;
    if (width < this.duration && (this.at < this.from || this.at > this.to)) {
      this.look(this.at - 0.1 * width, width);
      this.redraw();
    }
    this.root.setAttribute("aria-valuenow", this.at.toFixed(1));
    this.root.setAttribute("aria-valuetext", this.described());
    this.draw();
  }

  described() {
    const part = this.prediction.segments[partAt(this.prediction.segments, this.at)];
    const here = `${spoken(this.at)} of ${spoken(this.duration)}`;
    if (!part || this.prediction.no_speech) return `${here}, no speech`;
    const who = part.speaker ? `${part.speaker}, ` : "";
    return `${here}, ${who}${part.label}, ${percent(part.confidence)}${part.abstain ? ", unsure" : ""}`;
  }

  zoom(factor) {
    const width = Math.min(Math.max((this.to - this.from) * factor, SHORTEST_VIEW_S), this.duration);
    const inView = this.at >= this.from && this.at <= this.to;
    const share = inView ? (this.at - this.from) / (this.to - this.from) : 0.5;
    this.look((inView ? this.at : (this.from + this.to) / 2) - share * width, width);
    this.redraw();
  }

  zoomAll() {
    this.look(0, this.duration);
    this.redraw();
  }

  look(from, width) {
    this.from = Math.min(Math.max(from, 0), Math.max(this.duration - width, 0));
    this.to = Math.min(this.from + width, this.duration);
  }

  seekTo(seconds) {
    this.moveTo(seconds);
    this.onSeek(this.at);
  }

  /** Go to the beginning of the next part, or of this one or the one before. */
  step(direction) {
    const starts = [...new Set(this.prediction.segments.map((s) => s.start_s))].sort((a, b) => a - b);
    const next = direction > 0
      ? starts.find((s) => s > this.at + 0.01)
      : starts.findLast((s) => s < this.at - 0.3);
    this.seekTo(next ?? (direction > 0 ? this.duration : 0));
  }

  onKey(event) {
    if (!this.prediction || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = (this.to - this.from) / 10;
    const actions = {
      ArrowRight: () => (event.shiftKey ? this.step(1) : this.seekTo(this.at + 1)),
      ArrowLeft: () => (event.shiftKey ? this.step(-1) : this.seekTo(this.at - 1)),
      ArrowUp: () => this.seekTo(this.at + 1),
      ArrowDown: () => this.seekTo(this.at - 1),
      PageUp: () => this.seekTo(this.at + page),
      PageDown: () => this.seekTo(this.at - page),
      Home: () => this.seekTo(0),
      End: () => this.seekTo(this.duration),
      "+": () => this.zoom(0.5),
      "=": () => this.zoom(0.5),
      "-": () => this.zoom(2),
      0: () => this.zoomAll(),
      " ": () => this.onToggle(),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  onPointer(event) {
    if (!this.prediction || event.button !== 0) return;
    this.root.setPointerCapture(event.pointerId);
    this.seekTo(this.timeAt(event));
  }

  timeAt(event) {
    const x = event.clientX - this.canvas.getBoundingClientRect().left - this.gutter;
    return this.from + (x / this.plot) * (this.to - this.from);
  }

  // Drawing. x() takes seconds to pixels; everything left of the gutter is names.

  x(seconds) {
    return this.gutter + ((seconds - this.from) / (this.to - this.from)) * this.plot;
  }

  redraw() {
    const width = this.root.clientWidth;
    if (!this.prediction || !width) return;
    const wave = this.bands.length > 1 ? NARROW_WAVE : WAVE;
    const height = this.bands.length * wave + this.lanes.length * LANE + this.labels.length * ROW + AXIS + 8;
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.still]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.canvas.style.height = `${height}px`;
    const pen = this.still.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const small = width < 480;
    pen.font = `${small ? 11 : 12.5}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    const names = [...this.labels, ...this.lanes.filter(Boolean)].map((x) => pen.measureText(x).width);
    this.gutter = Math.min(Math.max(...names, 30), 0.34 * width) + (small ? 17 : 24);
    this.plot = Math.max(width - this.gutter - 10, 10);
    const colours = palette();
    let top = 4;
    for (const band of this.bands) {
      const parts = this.bands.length > 1 ? this.drawn.filter((d) => band.lanes.includes(d.segment.speaker)) : this.drawn;
      this.drawWave(pen, colours, band.peaks, parts, top, wave);
      top = this.drawLanes(pen, colours, band.lanes, top + wave);
    }
    this.bottom = this.drawRows(pen, colours, top + 4);
    this.drawAxis(pen, colours, this.bottom);
    this.ink = colours.ink;
    this.draw();
  }

  /** The still picture, and the line over it. */
  draw() {
    if (!this.still.width) return;
    const ratio = window.devicePixelRatio || 1;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.still, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawLine(pen);
  }

  drawWave(pen, colours, peaks, drawn, top, height) {
    const middle = top + height / 2 - 2;
    if (!peaks) {
      pen.fillStyle = colours.muted;
      pen.fillText("no waveform", this.gutter, middle, this.plot);
      return;
    }
    const scale = (height / 2 - 6) / this.loudest;
    const perPixel = ((this.to - this.from) * PEAKS_HZ) / this.plot;
    const parts = drawn.filter((d) => d.end > this.from && d.start < this.to);
    let k = 0;
    for (let pixel = 0; pixel < this.plot; pixel++) {
      const first = this.from * PEAKS_HZ + pixel * perPixel;
      const last = Math.max(first + 1, first + perPixel);
      let low = 0;
      let high = 0;
      for (let i = Math.floor(first); i < last && 2 * i + 1 < peaks.length; i++) {
        low = Math.min(low, peaks[2 * i]);
        high = Math.max(high, peaks[2 * i + 1]);
      }
      const time = first / PEAKS_HZ;
      while (k < parts.length && parts[k].end <= time) k++;
      const part = parts[k]?.start <= time ? parts[k].segment : null;
      pen.fillStyle = part ? colours.emotion(part.state || part.label) : colours.wave;
      const y = middle - high * scale;
      pen.fillRect(this.gutter + pixel, y, 1, Math.max(1, (high - low) * scale));
    }
  }

  /** Who speaks, and the emotion that holds, named where there is room before the next. */
  drawLanes(pen, colours, lanes, top) {
    lanes.forEach((speaker, k) => {
      const y = top + k * LANE;
      pen.fillStyle = colours.muted;
      if (speaker) pen.fillText(fitted(pen, speaker, this.gutter - 16), 10, y + LANE / 2);
      const held = runs(this.drawn.filter((d) => d.segment.speaker === speaker));
      for (const [i, run] of held.entries()) {
        const [left, right] = [Math.max(this.x(run.start), this.gutter), Math.min(this.x(run.end), this.gutter + this.plot)];
        if (right <= left) continue;
        pen.fillStyle = colours.emotion(run.state);
        pen.fillRect(left, y + LANE - 6, Math.max(right - left - 1, 1), 4);
        const next = Math.min(held[i + 1] ? this.x(held[i + 1].start) - 6 : Infinity, this.gutter + this.plot + 8);
        pen.fillStyle = colours.ink;
        if (pen.measureText(run.state).width < next - left - 2) pen.fillText(run.state, left + 1, y + LANE / 2 - 3);
      }
    });
    return top + lanes.length * LANE;
  }

  drawRows(pen, colours, top) {
    this.labels.forEach((label, k) => {
      const base = top + (k + 1) * ROW;
      pen.fillStyle = colours.ink;
      pen.fillText(fitted(pen, label, this.gutter - 16), 10, base - ROW / 2 + 1);
      pen.fillStyle = colours.line;
      pen.fillRect(this.gutter, base - 1, this.plot, 1);
      pen.fillStyle = colours.emotion(label);
      for (const { start, end, segment } of this.drawn) {
        if (end <= this.from || start >= this.to) continue;
        const left = Math.max(this.x(start), this.gutter);
        const right = Math.min(this.x(end), this.gutter + this.plot);
        const high = segment.probabilities[label] * (ROW - 4);
        pen.globalAlpha = segment.label !== label ? 0.45 : segment.abstain ? 0.7 : 1;
        pen.fillRect(left, base - 1 - high, Math.max(right - left - 1, 1), high);
      }
      pen.globalAlpha = 1;
    });
    return top + this.labels.length * ROW;
  }

  drawAxis(pen, colours, top) {
    const width = this.to - this.from;
    const step = STEPS_S.find((s) => (s / width) * this.plot >= 64) ?? STEPS_S.at(-1);
    pen.textAlign = "center";
    for (let k = Math.ceil(this.from / step); k * step <= this.to; k++) {
      const x = this.x(k * step);
      pen.fillStyle = colours.line;
      pen.fillRect(x, top, 1, 5);
      pen.fillStyle = colours.muted;
      const text = clock(k * step, step < 1 ? 1 : 0);
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(Math.max(x, half + 2), this.gutter + this.plot + 8 - half), top + AXIS / 2 + 3);
    }
    pen.textAlign = "start";
  }

  drawLine(pen) {
    if (this.at < this.from || this.at > this.to) return;
    const x = this.x(this.at);
    pen.fillStyle = this.ink;
    pen.fillRect(x - 0.75, 2, 1.5, this.bottom);
    pen.beginPath();
    pen.arc(x, 5, 4, 0, 2 * Math.PI);
    pen.fill();
  }
}

/** What is drawn above the emotions: a wave and the speakers below it; each channel a band where each was answered. */
function bandsOf({ granularity, segments }, channels) {
  const speakers = [...new Set(segments.map((s) => s.speaker))];
  if (granularity !== "channel") return [{ peaks: channels.length ? together(channels) : null, lanes: speakers }];
  if (!channels.length) return [{ peaks: null, lanes: speakers.sort() }];
  return channels.map((peaks, k) => ({ peaks, lanes: [`channel ${k + 1}`] }));
}

/** Index of the part at a time (the last that began), or −1. */
export function partAt(segments, seconds) {
  let found = -1;
  for (let k = 0; k < segments.length && segments[k].start_s <= seconds; k++) {
    if (seconds < segments[k].end_s) found = k;
  }
  return found;
}

/** Where each part is drawn: windows that overlap end where the next one of that speaker begins. */
function shownSpans(segments) {
  const next = new Map();
  const found = [];
  for (let k = segments.length - 1; k >= 0; k--) {
    const s = segments[k];
    found[k] = { start: s.start_s, end: Math.min(s.end_s, next.get(s.speaker) ?? Infinity), segment: s };
    next.set(s.speaker, s.start_s);
  }
  return found;
}

/** Parts in which the same emotion holds, as one, unless there is a pause between them. */
function runs(spans) {
  const found = [];
  for (const { start, end, segment } of spans) {
    const state = segment.state || segment.label;
    const last = found.at(-1);
    if (last && last.state === state && start - last.end < 0.05) last.end = end;
    else found.push({ start, end, state });
  }
  return found;
}

/** A name, or as much of its beginning as there is room for. */
function fitted(pen, name, room) {
  const letters = [...name];
  while (letters.length > 1 && pen.measureText(letters.join("")).width > room) letters.splice(-2, 2, "…");
  return letters.join("");
}

function loudest(peaks) {
  let most = 0.05;
  for (const value of peaks) most = Math.max(most, Math.abs(value));
  return most;
}
