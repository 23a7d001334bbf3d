// Speaking: microphone → stream of the service → answers while one speaks.

import { openStream } from "./api.js";
import { palette, swatch } from "./colours.js";
import { byId, clock, h, percent } from "./dom.js";
import { openMicrophone } from "./microphone.js";
import { wavOf } from "./sound.js";

const SHOWN_CHUNKS = 300; // half a minute of level

export class Live {
  /** done(row, file): the answer for all that was heard. problem(Problem): it went wrong. say(text): for a screen reader. */
  constructor({ done, problem, say }) {
    Object.assign(this, { done, problem, say });
    byId("stop").addEventListener("click", () => this.finish());
  }

  async start(options) {
    this.chunks = [];
    this.levels = [];
    this.heard = 0;
    this.ready = false;
    this.sent = 0;
    byId("live-parts").replaceChildren();
    byId("live-now").textContent = "Speak now.";
    byId("stop").disabled = false;
    this.microphone = await openMicrophone((chunk) => this.hear(chunk));
    byId("live").hidden = false;
    this.draw();
    byId("stop").focus();
    this.stream = openStream(this.microphone.rateHz, options, {
      onReady: () => {
        this.ready = true;
        this.pass();
      },
      onPart: (kind, segment) => (kind === "partial" ? this.partial(segment) : this.final(segment)),
      onResult: (row) => this.end(() => this.done({ ...row, path: "microphone.wav" }, this.file())),
      onProblem: (problem) => this.end(() => this.problem(problem)),
    });
  }

  hear(chunk) {
    this.chunks.push(chunk);
    this.heard += chunk.length;
    this.levels.push(chunk.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 32768);
    byId("live-clock").textContent = clock(this.heard / this.microphone.rateHz, 0);
    this.draw();
    this.pass();
  }

  /** Send what has not been sent; before the service is ready it waits. */
  pass() {
    while (this.ready && this.sent < this.chunks.length) this.stream.send(this.chunks[this.sent++]);
  }

  partial(s) {
    byId("live-now").textContent = `… ${s.label}, ${percent(s.confidence)}`;
  }

  final(s) {
    const text = `${clock(s.start_s)} to ${clock(s.end_s)}: ${s.label}, ${percent(s.confidence)}` +
      (s.abstain ? ", unsure" : "");
    byId("live-now").textContent = "";
    byId("live-parts").prepend(h("li", { class: "number" }, swatch(s.label), text));
  }

  finish() {
    this.microphone.stop();
    byId("stop").disabled = true;
    if (!this.chunks.length || !this.stream) {
      this.end(() => this.problem(new Error("Nothing was heard.")));
      return;
    }
    this.say("Stopped. The answer for the whole recording follows.");
    this.pass();
    this.stream.finish();
  }

  /** Let go of the microphone and the stream, then go on. */
  end(then) {
    this.microphone?.stop();
    this.stream?.close();
    byId("live").hidden = true;
    then();
  }

  file() {
    return wavOf(this.chunks, this.microphone.rateHz);
  }

  draw() {
    const canvas = byId("live-level");
    const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const colours = palette();
    pen.fillStyle = colours.line;
    pen.fillRect(0, height / 2, width, 1);
    pen.fillStyle = colours.accent;
    const step = width / SHOWN_CHUNKS;
    this.levels.slice(-SHOWN_CHUNKS).forEach((level, k) => {
      const high = Math.max(1, Math.min(1, level) * (height - 4));
      pen.fillRect(k * step, (height - high) / 2, Math.max(1, step - 1), high);
    });
  }
}
