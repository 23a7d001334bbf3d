// Puts the page together: what the user gives, what is asked of the service, what is shown.

import { Parts, showHead, showHere } from "./answer.js";
import { about, example, predict, Problem } from "./api.js";
import { byId, clock, h, percent, titled } from "./dom.js";
import { Live } from "./live.js";
import { Queue } from "./queue.js";
import { save } from "./saving.js";
import { chosenCoverage, fitCoverage, offerCoverages, setText } from "./sets.js";
import { readPeaks } from "./sound.js";
import { partAt, Timeline } from "./timeline.js";
import { readRttm, readTranscript, turnsOf } from "./turns.js";

const audio = byId("audio");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const state = {
  prediction: null, limits: null, stop: null, turns: null, sentences: null, until: null, part: null,
  known: {}, asked: null, // what else was known of the recordings, and the options that they were answered with
};

const timeline = new Timeline(byId("timeline"), { onSeek: seek, onToggle: toggle });
const parts = new Parts(byId("parts"), hear);
const queue = new Queue(pick);
const live = new Live({ done: heard, problem: complain, say });

// What the user gives

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  ask(files);
});
byId("example").addEventListener("click", () => attempt(async () => {
  const { file, sentences } = await example();
  await ask([file], { sentences });
}));
byId("again").addEventListener("click", () => ask(queue.files, state.known));
byId("speak").addEventListener("click", () => attempt(async () => {
  clear();
  busy(true);
  queue.take([]);
  Object.assign(state, { known: {}, asked: options() });
  await live.start(state.asked);
}));
byId("rttm").addEventListener("change", (event) => readInto(event.target, "turns", readRttm, { turn: Boolean }));
byId("transcript").addEventListener("change", (event) => readInto(event.target, "sentences", readTranscript, {
  sentence: Boolean,
  word: (sentences) => sentences?.some((s) => s.words?.length),
}));
byId("cancel").addEventListener("click", () => state.stop?.abort());

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || byId("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  if (!byId("choose").disabled) ask([...event.dataTransfer.files]);
});
byId("options").addEventListener("change", optionsChanged);

/** Read a file into the state; divisions: {name: whether what was read has it}, to be offered or not. */
async function readInto(input, name, read, divisions) {
  const [file] = input.files;
  state[name] = null;
  await attempt(async () => {
    if (file) state[name] = read(await file.text(), file.name);
  });
  if (!state[name]) input.value = "";
  for (const [division, has] of Object.entries(divisions)) {
    const choice = byId("by").querySelector(`[value="${division}"]`);
    choice.disabled = !has(state[name]);
    if (choice.disabled && choice.selected) byId("by").value = "segment";
  }
  optionsChanged();
}

function optionsChanged() {
  fitCoverage();
  offerAgain();
}

function options() {
  const boxes = [...byId("labels").querySelectorAll("input")];
  const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
  if (boxes.length && chosen.length < 2) throw new Problem("Choose at least two emotions.");
  return {
    by: byId("by").value,
    labels: chosen.length < boxes.length ? chosen : null,
    turns: state.turns,
    sentences: state.sentences,
    coverage: chosenCoverage(),
    key: byId("key").value.trim(),
  };
}

/** The options with what is known of the recordings themselves, where they go together. */
function wanted(known) {
  const asked = options();
  return asked.by === "channel" || asked.sentences ? asked : { ...asked, ...known };
}

/** Offer to answer the same recordings anew where the options are others now; the key changes no answer. */
function offerAgain() {
  let changed = false;
  try {
    const told = (asked) => JSON.stringify({ ...asked, key: null });
    changed = state.asked !== null && !byId("choose").disabled && told(wanted(state.known)) !== told(state.asked);
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // options that cannot be asked are complained of when they are
  }
  if (changed && byId("again-field").hidden) say("The options differ from those of the answer. The button Answer again is below them.");
  byId("again-field").hidden = !changed || !queue.files.length;
}

// What is asked

/** Answer recordings, as many at once as the service does, and show the first answer as soon as it is there. */
function ask(files, known = {}) {
  if (!files.length) return undefined;
  return attempt(async () => {
    const asked = wanted(known);
    clear();
    busy(true);
    Object.assign(state, { known, asked, stop: new AbortController() });
    byId("again-field").hidden = true;
    queue.take(files);
    byId("work").hidden = false;
    await queue.run(state.limits?.workers ?? 1, (entry) => answer(entry, asked));
    if (!queue.shown) await pick(queue.entries[0]);
    offerAgain();
  });
}

async function answer(entry, asked) {
  const [{ file }, n, { signal }] = [entry, queue.entries.length, state.stop];
  const told = (stage) => report(entry, stage);
  told({ stage: "sending", done: 0, total: null });
  say(`Reading ${file.name}.`);
  try {
    const own = { ...asked, turns: asked.turns && turnsOf(asked.turns, file.name) };
    const prediction = await predict(file, own, state.limits, told, signal, n > 1);
    queue.mark(entry, "done", { prediction });
  } catch (error) {
    if (error instanceof Problem && error.aboutFile) error.message = `${file.name}: ${error.message}`;
    if (n === 1 || !(error instanceof Problem) || error.code === "unauthorized") throw error;
    queue.mark(entry, "failed", { problem: error });
  }
  if (queue.over === n) {
    busy(false);
    byId("work").hidden = true;
  }
  if (!queue.shown && entry.prediction) await pick(entry);
}

/** Show the answer of one recording, or why there is none. */
async function pick(entry) {
  queue.show(entry);
  byId("problem").hidden = true;
  if (entry.prediction) {
    await show(entry.prediction, entry.file);
  } else {
    pause();
    byId("result").hidden = true;
    byId("problem").replaceChildren(h("p", {}, entry.problem.message));
    byId("problem").hidden = false;
  }
}

/** What was spoken is a recording like others. */
async function heard(prediction, file) {
  busy(false);
  queue.take([file]);
  queue.mark(queue.entries[0], "done", { prediction });
  await pick(queue.entries[0]);
}

/** How far a recording is: beside its name where there are several, whose number that are over is the progress. */
function report(entry, { stage, done, total }) {
  const [progress, n] = [byId("work-progress"), queue.entries.length];
  const text = {
    sending: total ? `sending, ${percent(done / total)} …` : "sending …",
    queued: "waiting for its turn …",
    busy: "waiting, the server is busy …",
  }[stage] ?? (done ? `listening, ${clock(done, 0)} processed …` : "listening …");
  queue.mark(entry, "asked", { stage: text });
  byId("work-text").textContent = n > 1 ? `${n - queue.over} of ${n} still to come …` : titled(text);
  if (n > 1) progress.value = queue.over / n;
  else if (stage === "sending" && total) progress.value = done / total;
  else progress.removeAttribute("value");
}

/** Do something; what goes wrong is said in words. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") {
      busy(false);
      byId("work").hidden = true;
      queue.leaveRest();
      say("Cancelled.");
    } else {
      complain(error);
    }
  }
}

function complain(error) {
  state.stop?.abort(); // recordings that are asked beside it
  busy(false);
  queue.leaveRest();
  byId("work").hidden = true;
  if (!(error instanceof Problem)) console.error(error);
  if (error.code === "unauthorized") {
    byId("key-field").hidden = false;
    byId("options").open = true;
  }
  const message = error instanceof Problem ? error.message : `This page failed: ${error.message}.`;
  byId("problem").replaceChildren(h("p", {}, message));
  byId("problem").hidden = false;
}

function clear() {
  pause();
  byId("problem").hidden = true;
  byId("result").hidden = true;
}

function busy(now) {
  for (const id of ["choose", "speak", "example", "again"]) byId(id).disabled = now;
}

// What is shown

async function show(prediction, file) {
  const sound = await readPeaks(file);
  if (queue.shown?.prediction !== prediction) return; // another one was chosen meanwhile
  byId("result").hidden = false;
  document.body.classList.add("answered");
  byId("drop-text").textContent = "Other recordings:";
  state.prediction = prediction;
  state.part = undefined;
  showHead(prediction);
  parts.show(prediction);
  load(file, sound !== null);
  timeline.show(prediction, sound?.channels ?? []);
  place(0);
  byId("answer").focus({ preventScroll: true });
  byId("result").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
  say(byId("answer").textContent + setText(prediction));
}

function load(file, readable) {
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(file);
  byId("play").disabled = false;
  byId("mute").hidden = readable;
  byId("mute").textContent = readable ? "" : "This browser cannot draw this kind of file, and may not play it.";
}

audio.addEventListener("error", () => {
  if (!audio.getAttribute("src")) return;
  byId("play").disabled = true;
  byId("mute").hidden = false;
  byId("mute").textContent = "This browser cannot play this kind of file. The answer is not affected.";
});

/** Everything that follows the place in the recording. */
function place(seconds) {
  timeline.moveTo(seconds);
  byId("clock").textContent = `${clock(timeline.at)} / ${clock(timeline.duration)}`;
  const index = partAt(state.prediction.segments, timeline.at);
  if (index === state.part) return;
  state.part = index;
  parts.mark(index);
  showHere(state.prediction, state.prediction.segments[index]);
}

function seek(seconds) {
  state.until = null;
  if (audio.readyState) audio.currentTime = seconds;
  place(seconds);
}

function hear(segment) {
  seek(segment.start_s);
  state.until = segment.end_s;
  if (audio.paused) toggle();
}

function toggle() {
  if (byId("play").disabled) return;
  if (!audio.paused) {
    pause();
    return;
  }
  if (timeline.at >= timeline.duration - 0.05) seek(0);
  audio.play().catch(() => {}); // a file that cannot be played is said by the error event
}

function pause() {
  audio.pause();
  state.until = null;
}

function follow() {
  if (!state.prediction) return;
  place(audio.currentTime);
  if (state.until !== null && audio.currentTime >= state.until) pause();
  if (!audio.paused && !calm.matches) requestAnimationFrame(follow);
}

for (const kind of ["play", "pause", "ended"]) {
  audio.addEventListener(kind, () => {
    const playing = !audio.paused && !audio.ended;
    byId("player").classList.toggle("playing", playing);
    byId("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    if (playing) follow();
  });
}
audio.addEventListener("timeupdate", () => calm.matches && !audio.paused && follow());

byId("play").addEventListener("click", toggle);
byId("zoom-in").addEventListener("click", () => timeline.zoom(0.5));
byId("zoom-out").addEventListener("click", () => timeline.zoom(2));
byId("zoom-all").addEventListener("click", () => timeline.zoomAll());
byId("all-classes").addEventListener("change", (event) => parts.setEveryClass(event.target.checked));
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => save(button.dataset.save, state.prediction));
}
document.addEventListener("keydown", (event) => {
  const own = event.target.closest("button, input, select, summary, a, textarea, [role=slider]");
  if (event.key !== " " || own || byId("result").hidden) return;
  event.preventDefault();
  toggle();
});

function say(text) {
  byId("said").textContent = text;
}

// Which model answers here

attempt(async () => {
  const known = await about();
  state.limits = known.limits;
  byId("model").textContent = `Model ${known.model}; its weights: ${known.licence ?? "licence not stated"}. serkit ${known.version}.`;
  const { job_max_mb: most, job_max_minutes: longest } = known.limits;
  byId("limits").textContent = `Any audio file up to ${most} MB and ${longest / 60} h.`;
  byId("key-field").hidden = !known.auth;
  if (known.auth) byId("options").open = true;
  for (const label of known.labels) {
    byId("labels").append(h("label", { class: "check" }, h("input", { type: "checkbox", value: label, checked: true }), label));
  }
  offerCoverages(known.coverages);
  byId("labels").hidden = known.labels.length < 3;
});
