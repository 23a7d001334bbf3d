// Sound in the browser: loudness over time for the drawing, and a WAV of what the microphone gave.

const DRAW_RATE_HZ = 8000; // enough to draw
const LARGEST_BYTES = 200e6; // larger files are not decoded here: an hour takes 115 MB of memory
export const PEAKS_HZ = 100;

/** Lowest and highest sample of every hundredth of a second, for each channel, and the duration; null if unreadable. */
export async function readPeaks(blob) {
  if (blob.size > LARGEST_BYTES) return null;
  try {
    const context = new OfflineAudioContext(1, 1, DRAW_RATE_HZ);
    const buffer = await context.decodeAudioData(await blob.arrayBuffer());
    const channels = Array.from({ length: buffer.numberOfChannels }, (_, k) => peaksOf(buffer.getChannelData(k), buffer.sampleRate));
    return { channels, duration_s: buffer.duration };
  } catch {
    return null;
  }
}

/** Float32Array of pairs (lowest, highest). */
export function peaksOf(samples, rateHz) {
  const step = rateHz / PEAKS_HZ;
  const n = Math.ceil(samples.length / step);
  const peaks = new Float32Array(2 * n);
  for (let k = 0; k < n; k++) {
    let low = 0;
    let high = 0;
    const end = Math.min(samples.length, Math.floor((k + 1) * step));
    for (let i = Math.floor(k * step); i < end; i++) {
      if (samples[i] < low) low = samples[i];
      else if (samples[i] > high) high = samples[i];
    }
    peaks[2 * k] = low;
    peaks[2 * k + 1] = high;
  }
  return peaks;
}

/** The peaks of channels drawn over each other. */
export function together(channels) {
  const [first, ...others] = channels;
  const pick = (value, k) => others.reduce((most, peaks) => Math[k % 2 ? "max" : "min"](most, peaks[k]), value);
  return others.length ? first.map(pick) : first;
}

/** A 16-bit mono WAV file of chunks of Int16Array. */
export function wavOf(chunks, rateHz) {
  const bytes = 2 * chunks.reduce((sum, c) => sum + c.length, 0);
  const head = new DataView(new ArrayBuffer(44));
  const text = (place, word) => [...word].forEach((c, k) => head.setUint8(place + k, c.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rateHz, true);
  head.setUint32(28, 2 * rateHz, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, bytes, true);
  return new File([head, ...chunks], "microphone.wav", { type: "audio/wav" });
}
