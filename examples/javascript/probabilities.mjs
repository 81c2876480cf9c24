// node probabilities.mjs EXPORTED RECORDING.wav
// Prints what a model of `earmark export MODEL --out EXPORTED --features` says of a mono recording
// at its rate, no longer than its windows: a line for the whole, and one for each frame.
import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-web";
import wavefile from "wavefile";

const [folder, recording] = process.argv.slice(2);
const { class_names, clock, calibration = [] } = JSON.parse(readFileSync(`${folder}/earmark.json`));
const session = await InferenceSession.create(readFileSync(`${folder}/model.onnx`));

const wav = new wavefile.WaveFile(readFileSync(recording));
if (wav.fmt.numChannels !== 1 || wav.fmt.sampleRate !== clock.rate_hz)
  throw new Error(`${recording}: must be mono, at ${clock.rate_hz} Hz`);
wav.toBitDepth("32f");
const samples = wav.getSamples(false, Float32Array);

const input = new Tensor("float32", samples, [1, samples.length]);
const { clips, frames } = await session.run({ samples: input }, ["clips", "frames"]);

// What the graph gives is calibrated by a line a class, of the logit; nothing is surer than 2 ** -26.
const calibrated = (numbers, kind) =>
  numbers.map((number, k) => {
    if (!calibration.length) return number;
    const { scale, shift } = calibration[k][kind];
    const p = Math.min(Math.max(number, 2 ** -26), 1 - 2 ** -26);
    return 1 / (1 + Math.exp(-scale * Math.log(p / (1 - p)) - shift));
  });

const lead = (clock.window_samples - clock.hop_samples) / 2; // before the first window's own hop
const onset = (t) => (t && (lead + t * clock.pooling * clock.hop_samples) / clock.rate_hz).toFixed(3);
const [, count, classes] = frames.dims;
const row = (name, numbers) => console.log([name, ...numbers].join("\t"));
row("onset", class_names);
row("all", calibrated(clips.data, "clips"));
for (let t = 0; t < count; t++)
  row(onset(t), calibrated(frames.data.subarray(t * classes, (t + 1) * classes), "frames"));
