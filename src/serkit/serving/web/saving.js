// The answer as a file, in the formats of `serkit predict`: the same bytes, but for how a float is written in JSON.

const f = (value, digits) => value.toFixed(digits);
const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

const WRITERS = {
  json: (p) => `${JSON.stringify(p, null, 1)}\n`,
  csv(p) {
    const [labels, known] = [Object.keys(p.probabilities), Object.keys(p.attributes)];
    const head = ["path", "start_s", "end_s", "speaker", "text", "label", "confidence", "abstain", "state", ...labels, ...known];
    const rows = p.segments.map((s) => [
      p.path ?? "-", f(s.start_s, 3), f(s.end_s, 3), s.speaker ?? "", s.text ?? "", s.label, f(s.confidence, 6),
      s.abstain, s.state, ...labels.map((x) => f(s.probabilities[x], 6)),
      ...known.map((x) => f(s.attributes[x], 6)),
    ]);
    return [head, ...rows].map((cells) => `${cells.map(cell).join(",")}\n`).join("");
  },
  rttm(p) {
    const name = stem(p.path).split(/\s+/).filter(Boolean).join("_") || "-";
    return p.segments.map((s) => {
      const who = [s.speaker, s.label].filter(Boolean).map((name) => name.split(/\s+/).join("_")).join("/");
      const [start, length] = [f(s.start_s, 3), f(s.end_s - s.start_s, 3)];
      const channel = p.granularity === "channel" && s.speaker ? s.speaker.split(" ").at(-1) : "1";
      return `SPEAKER ${name} ${channel} ${start} ${length} <NA> <NA> ${who} ${f(s.confidence, 4)} <NA>\n`;
    }).join("");
  },
  textgrid: textGrid,
  srt: (p) => cues(p).map(([start, end, lines], k) =>
    [k + 1, `${time(start, ",")} --> ${time(end, ",")}`, ...lines.map((x) => x.replaceAll("-->", "->")), ""].join("\n"),
  ).join("\n"),
  vtt: (p) => ["WEBVTT\n", ...cues(p).map(([start, end, lines]) =>
    [`${time(start, ".")} --> ${time(end, ".")}`, ...lines.map(escaped), ""].join("\n"),
  )].join("\n"),
};
const ENDINGS = { json: "json", csv: "csv", rttm: "rttm", textgrid: "TextGrid", srt: "srt", vtt: "vtt" };

const stem = (path) => (path ?? "-").replace(/^.*[\\/]/, "").replace(/\.[^.]*$/, "");

/** The text of a format, for a row of `serkit predict --format json`. */
export const written = (kind, prediction) => WRITERS[kind](prediction);

/** Hand the answer to the browser's downloads. */
export function save(kind, prediction) {
  const url = URL.createObjectURL(new Blob([written(kind, prediction)], { type: "text/plain;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${stem(prediction.path)}.${ENDINGS[kind]}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function textGrid(p) {
  const tiers = [];
  const speakers = [...new Set(p.segments.map((s) => s.speaker))];
  for (const speaker of p.granularity === "channel" ? speakers.sort() : speakers) {
    const own = p.segments.filter((s) => s.speaker === speaker);
    const named = (title) => (speaker === null ? title : `${title} ${speaker}`);
    tiers.push([named("emotion"), filled(own, (s) => s.label, p.duration_s)]);
    if (own.some((s) => s.text)) tiers.push([named("words"), filled(own, (s) => s.text ?? "", p.duration_s)]);
  }
  if (!tiers.length) tiers.push(["emotion", [[0, p.duration_s, ""]]]);
  const end = f(p.duration_s, 6);
  const lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", `xmax = ${end}`];
  lines.push("tiers? <exists>", `size = ${tiers.length}`, "item []:");
  tiers.forEach(([title, spans], k) => {
    lines.push(`    item [${k + 1}]:`, '        class = "IntervalTier"', `        name = "${quoted(title)}"`);
    lines.push("        xmin = 0", `        xmax = ${end}`, `        intervals: size = ${spans.length}`);
    spans.forEach(([from, to, text], i) => {
      lines.push(`        intervals [${i + 1}]:`, `            xmin = ${f(from, 6)}`, `            xmax = ${f(to, 6)}`);
      lines.push(`            text = "${quoted(text)}"`);
    });
  });
  return `${lines.join("\n")}\n`;
}

const quoted = (text) => text.replaceAll('"', '""').replaceAll("\n", " ");

/** Intervals without a gap or an overlap: a later part begins where the one before ends. */
function filled(segments, text, duration) {
  const found = [];
  let reached = 0;
  for (const s of segments) {
    const [start, end] = [Math.max(s.start_s, reached), Math.min(s.end_s, duration)];
    if (end - start < 1e-6) continue;
    if (start - reached > 1e-6) found.push([reached, start, ""]);
    found.push([start, end, text(s)]);
    reached = end;
  }
  if (duration - reached > 1e-6) found.push([reached, duration, ""]);
  return found;
}

/** Subtitles: [from, to, lines] in milliseconds, none of which overlap; a line for each who speaks then. */
function cues(p) {
  const [spans, reached, last] = [[], new Map(), Math.round(1000 * p.duration_s)];
  const ms = (seconds) => Math.round(1000 * seconds);
  for (const s of [...p.segments].sort((a, b) => ms(a.start_s) - ms(b.start_s))) {
    const [start, end] = [Math.max(ms(s.start_s), reached.get(s.speaker) ?? 0), Math.min(ms(s.end_s), last)];
    if (end <= start) continue;
    spans.push([start, end, s]);
    reached.set(s.speaker, end);
  }
  const speakers = [...reached.keys()];
  spans.sort((a, b) => a[0] - b[0]);
  const edges = [...new Set(spans.flatMap(([start, end]) => [start, end]))].sort((a, b) => a - b);
  const found = [];
  let [held, k] = [[], 0];
  for (let i = 0; i + 1 < edges.length; i++) {
    held = held.filter((span) => span[1] > edges[i]);
    while (k < spans.length && spans[k][0] <= edges[i]) held.push(spans[k++]);
    if (!held.length) continue;
    const parts = held.map((span) => span[2]).sort((a, b) => speakers.indexOf(a.speaker) - speakers.indexOf(b.speaker));
    found.push([edges[i], edges[i + 1], parts.map(line)]);
  }
  return found;
}

function line(s) {
  const said = s.abstain === "no_speech" ? "[no speech]" : `[${s.label} ${f(s.confidence, 2)}${s.abstain ? "?" : ""}]`;
  return `${s.speaker ? `${s.speaker}: ` : ""}${said}${s.text ? ` ${s.text}` : ""}`.split(/\s+/).filter(Boolean).join(" ");
}

const time = (ms, mark) => {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const seconds = Math.floor(ms / 1000);
  return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}${mark}${String(ms % 1000).padStart(3, "0")}`;
};
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
