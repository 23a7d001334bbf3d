// The microphone: opened when asked for, closed as soon as it is not needed.

import { Problem } from "./api.js";

const REASONS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser's settings, or choose a file.",
  NotFoundError: "No microphone was found. Connect one, or choose a file.",
  NotReadableError: "The microphone is in use by another program. Close it there, or choose a file.",
};

/** Listen; onChunk(Int16Array) is called ten times a second. Returns {rateHz, stop()}. */
export async function openMicrophone(onChunk) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    throw new Problem(
      "The browser allows the microphone only on pages from https:// or localhost, and this one came from " +
      `${location.origin}. Choose a file instead, or open the page on the machine that serves it.`);
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    throw new Problem(REASONS[error.name] ?? `The microphone cannot be opened (${error.name}).`);
  }
  const context = new AudioContext();
  const stop = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
    const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1 });
    recorder.port.onmessage = (event) => onChunk(event.data);
    context.createMediaStreamSource(stream).connect(recorder);
    await context.resume();
  } catch (error) {
    stop();
    throw new Problem(`The microphone cannot be used in this browser (${error.name}).`);
  }
  return { rateHz: context.sampleRate, stop };
}
