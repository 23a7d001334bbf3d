// Puts the page together: what the user gives, what is asked of the service, what is shown.

import { Parts, showHead, showHere } from "./answer.js";
import { about, example, predict, Problem } from "./api.js";
import { byId, clock, h, percent } from "./dom.js";
import { Live } from "./live.js";
import { save } from "./saving.js";
import { readPeaks } from "./sound.js";
import { partAt, Timeline } from "./timeline.js";
import { readRttm, readTranscript } from "./turns.js";

const audio = byId("audio");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const state = { prediction: null, limits: null, stop: null, turns: null, sentences: null, until: null, part: null };

const timeline = new Timeline(byId("timeline"), { onSeek: seek, onToggle: toggle });
const parts = new Parts(byId("parts"), hear);
const live = new Live({ done: show, problem: complain, say });

// What the user gives

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) ask(file);
});
byId("example").addEventListener("click", () => attempt(async () => {
  const { file, sentences } = await example();
  await ask(file, byId("by").value === "channel" ? {} : { sentences });
}));
byId("speak").addEventListener("click", () => attempt(async () => {
  clear();
  busy(true);
  await live.start(options());
}));
byId("rttm").addEventListener("change", (event) => readInto(event.target, "turns", readRttm, "turn"));
byId("transcript").addEventListener("change", (event) => readInto(event.target, "sentences", readTranscript, "sentence"));
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
  const [file] = event.dataTransfer.files;
  if (file && !byId("choose").disabled) ask(file);
});

async function readInto(input, name, read, division) {
  const [file] = input.files;
  state[name] = null;
  await attempt(async () => {
    if (file) state[name] = read(await file.text(), file.name);
  });
  if (!state[name]) input.value = "";
  const choice = byId("by").querySelector(`[value="${division}"]`);
  choice.disabled = !state[name];
  if (choice.disabled && choice.selected) byId("by").value = "segment";
}

function options() {
  const boxes = [...byId("labels").querySelectorAll("input")];
  const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
  if (boxes.length && chosen.length < 2) throw new Problem("Choose two emotions or more to answer with.");
  return {
    by: byId("by").value,
    labels: chosen.length < boxes.length ? chosen : null,
    turns: state.turns,
    sentences: state.sentences,
    key: byId("key").value.trim(),
  };
}

// What is asked

function ask(file, known = {}) {
  return attempt(async () => {
    const asked = { ...options(), ...known };
    clear();
    busy(true);
    state.stop = new AbortController();
    byId("work").hidden = false;
    report({ stage: "sending", done: 0, total: null });
    say(`Reading ${file.name}.`);
    const answer = predict(file, asked, state.limits, report, state.stop.signal).catch((error) => {
      if (error instanceof Problem && error.aboutFile) error.message = `${file.name}: ${error.message}`;
      throw error;
    });
    await show(await answer, file);
  });
}

function report({ stage, done, total }) {
  const progress = byId("work-progress");
  if (stage === "sending" && total) progress.value = done / total;
  else progress.removeAttribute("value");
  byId("work-text").textContent = {
    sending: total ? `Sending, ${percent(done / total)} …` : "Sending …",
    queued: "Waiting for its turn …",
  }[stage] ?? (done ? `Listening, ${clock(done, 0)} heard …` : "Listening …");
}

/** Do something; what goes wrong is said in words. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") {
      busy(false);
      byId("work").hidden = true;
      say("Cancelled.");
    } else {
      complain(error);
    }
  }
}

function complain(error) {
  busy(false);
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
  for (const id of ["choose", "speak", "example"]) byId(id).disabled = now;
}

// What is shown

async function show(prediction, file) {
  const sound = await readPeaks(file);
  busy(false);
  byId("work").hidden = true;
  byId("result").hidden = false;
  document.body.classList.add("answered");
  byId("drop-text").textContent = "Another recording:";
  state.prediction = prediction;
  state.part = undefined;
  showHead(prediction);
  parts.show(prediction);
  load(file, sound !== null);
  timeline.show(prediction, sound?.channels ?? []);
  place(0);
  byId("answer").focus({ preventScroll: true });
  byId("result").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
  say(byId("answer").textContent);
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
  byId("mute").textContent = "This browser cannot play this kind of file. The answer is not touched by that.";
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
  byId("model").textContent = `Model ${known.model}; its weights: ${known.licence ?? "licence not said"}. serkit ${known.version}.`;
  const { job_max_mb: most, job_max_minutes: longest } = known.limits;
  byId("limits").textContent = `Any audio file up to ${most} MB and ${longest / 60} h.`;
  byId("key-field").hidden = !known.auth;
  if (known.auth) byId("options").open = true;
  for (const label of known.labels) {
    byId("labels").append(h("label", { class: "check" }, h("input", { type: "checkbox", value: label, checked: true }), label));
  }
  byId("labels").hidden = known.labels.length < 3;
});
