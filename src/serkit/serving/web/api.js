// The service that this page comes from: what it can do, answers for files, and streams.
// The rest of the page works with rows as `serkit predict --format json` writes them; row() makes them.

import { titled } from "./dom.js";

const JOB_FROM_MB = 8; // larger files are handed over as jobs, which tell how far they are
const POLL_MS = 700;

/** What went wrong, in words for a person, shown as they are: they may begin with the name of a file. */
export class Problem extends Error {
  constructor(message, code = "") {
    super(message);
    this.code = code;
    this.aboutFile = code.startsWith("bad_audio") || code === "not_audio" || code.startsWith("too_l");
  }
}

const UNREACHABLE = "The server does not answer. Check that serkit serve is still running, then try again.";
const at = (path) => new URL(path, document.baseURI);

/** Model, labels and limits. */
export async function about() {
  let answer;
  try {
    answer = await fetch(at("v1/model"));
  } catch {
    throw new Problem(UNREACHABLE);
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok || !body) throw failure(answer.status, body, answer.headers.get("Retry-After"));
  return body;
}

/** The example that comes with serkit: {file, sentences}. */
export async function example() {
  try {
    const [sound, words] = await Promise.all(["example.flac", "example.json"].map((name) => fetch(at(name))));
    if (!sound.ok || !words.ok) throw new TypeError("not served");
    return {
      file: new File([await sound.blob()], "example.flac", { type: "audio/flac" }),
      sentences: await words.json(),
    };
  } catch {
    throw new Problem("The example could not be loaded from the server.");
  }
}

/**
 * Answer for a file.
 * options: {by, labels, turns, sentences, coverage, key}; report({stage, done, total}) is told how far it is;
 * signal stops it, on the server too. With patient, a server that is busy is asked again when it says so.
 */
export async function predict(file, options, limits, report, signal, patient = false) {
  for (;;) {
    try {
      return await predictOnce(file, options, limits, report, signal);
    } catch (problem) {
      if (!patient || problem.code !== "busy") throw problem;
      report({ stage: "busy", done: 0, total: null });
      await pause(1000 * (problem.retryAfter || 5), signal);
    }
  }
}

async function predictOnce(file, options, limits, report, signal) {
  if (file.size === 0) throw new Problem(`${file.name} is empty (0 bytes).`);
  const megabytes = file.size / 1e6;
  if (limits && megabytes > limits.job_max_mb) {
    throw new Problem(`${file.name} has ${Math.ceil(megabytes)} MB; this server takes up to ${limits.job_max_mb} MB.`);
  }
  if (megabytes <= Math.min(JOB_FROM_MB, limits?.max_mb ?? JOB_FROM_MB)) {
    try {
      const body = await post("v1/predict", file, options, report, signal);
      return row(body.results[0], body.model);
    } catch (problem) {
      if (!["too_long", "too_large", "timeout"].includes(problem.code)) throw problem;
    }
  }
  return predictLater(file, options, report, signal);
}

async function predictLater(file, options, report, signal) {
  const job = await post("v1/jobs", file, options, report, signal);
  const url = at(`v1/jobs/${job.id}`); // not job.url: a proxy may have put something before it, or taken it away
  const headers = withKey(options.key);
  try {
    for (;;) {
      await pause(POLL_MS, signal);
      const answer = await fetch(url, { headers, signal });
      const state = await answer.json().catch(() => null);
      if (!answer.ok) throw failure(answer.status, state, answer.headers.get("Retry-After"));
      if (state.status === "failed") throw failure(422, state, null);
      if (state.status === "done") return row(state.results[0], state.model);
      report({ stage: state.status, done: state.heard_s ?? 0, total: null });
    }
  } catch (error) {
    if (error instanceof TypeError) throw new Problem(UNREACHABLE);
    throw error;
  } finally {
    fetch(url, { method: "DELETE", headers, keepalive: true }).catch(() => {});
  }
}

/** XMLHttpRequest, because fetch does not tell how much has been sent. */
function post(path, file, options, report, signal) {
  const form = new FormData();
  form.append("file", file, file.name);
  form.append("timeline", "true");
  form.append("by", options.by);
  if (options.labels) form.append("labels", options.labels.join(","));
  if (options.coverage) form.append("coverage", options.coverage);
  if (options.turns) form.append("turns", JSON.stringify(options.turns));
  if (options.sentences) form.append("sentences", JSON.stringify(options.sentences));
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", at(path));
    request.responseType = "json";
    for (const [name, value] of Object.entries(withKey(options.key))) request.setRequestHeader(name, value);
    request.upload.onprogress = (e) => report({ stage: "sending", done: e.loaded, total: e.total });
    request.upload.onload = () => report({ stage: "running", done: 0, total: null });
    request.onerror = () => reject(new Problem(UNREACHABLE));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onload = () => {
      const { status, response } = request;
      const error = response?.results?.[0]?.error;
      if (status >= 400) reject(failure(status, response, request.getResponseHeader("Retry-After")));
      else if (error) reject(failure(422, { error }, null));
      else resolve(response);
    };
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

function failure(status, body, retryAfter) {
  const said = body?.error?.message?.replace(/^the recording: /, "");
  const code = body?.error?.code ?? "";
  const wait = retryAfter ? ` Try again in ${retryAfter} s.` : " Try again in a moment.";
  if (status === 401) return new Problem("This server requires a key: enter it under Options.", "unauthorized");
  if (status === 429) return Object.assign(new Problem(`The server is busy.${wait}`, "busy"), { retryAfter: Number(retryAfter) });
  if (status === 503) return new Problem(`The server is not ready.${wait}`, code);
  return stated(said ?? `The server answered with error ${status}.`, code);
}

/** What the service says, as a sentence unless the name of the file will stand before it. */
function stated(said, code) {
  const problem = new Problem(said, code);
  if (!problem.aboutFile) problem.message = titled(said);
  return problem;
}

const withKey = (key) => (key ? { "X-API-Key": key } : {});

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    }, { once: true });
  });
}

/**
 * Open a stream of samples. handlers: onReady(), onPart(kind, segment, message), onResult(row), onProblem(Problem).
 * Returns {send(Int16Array), finish(), close()}.
 */
export function openStream(rateHz, options, handlers) {
  const url = at("v1/stream");
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  let model = "";
  let done = false;
  const end = (problem) => {
    if (!done) handlers.onProblem(problem);
    done = true;
    socket.close();
  };
  socket.onopen = () => socket.send(JSON.stringify({
    type: "start", encoding: "pcm16", rate_hz: rateHz, channels: 1, partial_s: 1.0, by: "segment",
    labels: options.labels ?? null, coverage: options.coverage ?? null, api_key: options.key || null,
  }));
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "ready") {
      model = message.model;
      handlers.onReady();
    } else if (message.type === "partial" || message.type === "final") {
      handlers.onPart(message.type, part(message.segment), message);
    } else if (message.type === "result") {
      done = true;
      handlers.onResult(row(message.result, message.result.model ?? model));
    } else if (message.type === "error") {
      const unauthorised = message.error.code === "unauthorized";
      end(unauthorised ? failure(401, null, null) : stated(message.error.message, message.error.code));
    }
  };
  socket.onclose = () => end(new Problem("The connection to the server was lost. Earlier audio was not kept."));
  return {
    send: (samples) => socket.readyState === WebSocket.OPEN && socket.send(samples),
    finish: () => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ type: "finish" })),
    close: () => {
      done = true;
      socket.close();
    },
  };
}

/** An answer of the service as a row of `serkit predict --format json`. */
function row(result, model) {
  return {
    path: result.file,
    duration_s: result.duration_s,
    speech_s: result.speech_s,
    label: result.label,
    confidence: result.confidence,
    abstain: result.abstain,
    no_speech: result.no_speech,
    ...(result.set ? { coverage: result.coverage, set: result.set } : {}),
    probabilities: result.scores,
    attributes: result.attributes,
    granularity: result.granularity,
    segments: result.segments.map(part),
    summary: result.summary,
    speakers: (result.speakers ?? []).map(({ scores, attributes, ...rest }) => ({ ...rest, probabilities: scores, attributes })),
    model,
    notes: result.notes ?? [],
  };
}

function part(segment) {
  return {
    start_s: segment.time.begin_s,
    end_s: segment.time.end_s,
    speaker: segment.speaker,
    text: segment.text,
    label: segment.label,
    confidence: segment.confidence,
    abstain: segment.abstain,
    state: segment.state,
    speech_s: segment.speech_s,
    probabilities: segment.scores,
    attributes: segment.attributes,
  };
}
