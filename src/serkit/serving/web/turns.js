// Who speaks when (RTTM) and what is said (SubRip, WebVTT, JSON), read here so that the service gets plain rows.

import { Problem } from "./api.js";

const VOICE = /<v(?:\.[^\s>]+)?\s+([^>]+)>/; // of WebVTT; what follows is said by that one, up to the next
const CLOCK = /(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})/g;

/** Turns of an RTTM file, by the name it gives to each recording: {name: [{start_s, end_s, speaker}]}. */
export function readRttm(text, name) {
  const turns = Object.create(null); // a recording may be called "constructor"
  for (const line of text.split(/\r?\n/)) {
    const words = line.trim().split(/\s+/);
    if (words[0] !== "SPEAKER") continue;
    const [start, length] = [Number(words[3]), Number(words[4])];
    if (!Number.isFinite(start) || !Number.isFinite(length) || start < 0 || words.length < 8) {
      throw new Problem(`${name}: not an RTTM line: ${line.slice(0, 80)}`);
    }
    if (length > 0) (turns[words[1]] ??= []).push({ start_s: start, end_s: start + length, speaker: words[7] });
  }
  if (!Object.keys(turns).length) throw new Problem(`${name} holds no SPEAKER line; expected RTTM.`);
  return turns;
}

/** The turns of one recording: by the name of its file, or all of an RTTM that names a single one. */
export function turnsOf(turns, file) {
  const stem = file.replace(/(.)\.[^.]*$/, "$1");
  if (Object.hasOwn(turns, stem)) return turns[stem];
  const names = Object.keys(turns);
  if (names.length === 1) return turns[names[0]];
  throw new Problem(`The RTTM has no turns of '${stem}'; it names ${names.sort().slice(0, 5).join(", ")}.`);
}

/** Sentences with times: [{start_s, end_s, text, speaker, words}]. */
export function readTranscript(text, name) {
  const turns = /\.jsonl?$/i.test(name) ? fromJson(text, name) : fromCues(text, /\.vtt$/i.test(name) ? characters : (words) => words);
  if (!turns.length) throw new Problem(`${name} holds no sentence with times; expected .srt, .vtt or .json.`);
  const wrong = turns.find((t) => !(t.start_s >= 0 && t.end_s > t.start_s && Number.isFinite(t.end_s)));
  if (wrong) throw new Problem(`${name}: ${wrong.start_s} to ${wrong.end_s} s is not a stretch of time.`);
  return turns;
}

/** Words of WebVTT with the characters that it writes as &amp; and the like; each once, so that &amp;lt; is &lt;. */
const characters = (words) => words.replace(/&(?:\w+|#\d{1,6}|#x[\da-f]{1,5});/gi, (one) =>
  new DOMParser().parseFromString(`<p>${one}`, "text/html").body.textContent);

function fromCues(text, read) {
  const turns = [];
  for (const block of text.replace(/^\ufeff/, "").split(/\r?\n\s*\r?\n/)) {
    const lines = block.trim().split(/\r?\n/);
    const k = lines.findIndex((line) => line.includes("-->"));
    const times = k < 0 ? [] : [...lines[k].matchAll(CLOCK)].map(seconds);
    if (times.length < 2) continue;
    const voices = lines.slice(k + 1).join(" ").split(VOICE); // words of nobody, then a name and words, a name and …
    for (let i = 0; i < voices.length; i += 2) {
      const speaker = i ? read(voices[i - 1]).trim() : null;
      const plain = read(voices[i].replace(/<[^>]*>/g, "")).trim();
      const said = plain && (speaker !== null || voices.length === 1 || /[\p{L}\p{N}]/u.test(plain));
      if (said && times[1] > times[0]) turns.push({ start_s: times[0], end_s: times[1], text: plain, speaker });
    }
  }
  return turns;
}

const seconds = ([, hours, minutes, rest, part]) =>
  3600 * Number(hours ?? 0) + 60 * Number(minutes) + Number(`${rest}.${part}`);

const number = (value) => (value == null ? NaN : Number(value)); // a null is no time, and not the beginning

function fromJson(text, name) {
  try {
    const lines = /\.jsonl$/i.test(name);
    let rows = lines ? text.split("\n").filter((l) => l.trim()).map((l) => JSON.parse(l)) : JSON.parse(text);
    rows = Array.isArray(rows) ? rows : rows.segments;
    return rows.map((r) => ({
      start_s: number(r.start_s ?? r.start),
      end_s: number(r.end_s ?? r.end),
      text: String(r.text ?? "").trim() || null,
      speaker: String(r.speaker ?? "").trim() || null,
      words: timed(r.words ?? []),
    }));
  } catch {
    throw new Problem(`${name}: not sentences with start_s, end_s and text.`);
  }
}

/** Words with times; where a single one lacks them (WhisperX leaves out numbers), none: no word is to be lost. */
function timed(words) {
  const rows = words.map((w) => ({
    start_s: number(w.start_s ?? w.start), end_s: number(w.end_s ?? w.end), text: String(w.text ?? w.word ?? "").trim(),
  }));
  return rows.every((w) => Number.isFinite(w.start_s) && Number.isFinite(w.end_s)) ? rows : [];
}
