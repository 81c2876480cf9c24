/** The spectrogram with its time axis: choosing a place by a click, a stretch by a drag. */
import { address, patiently } from "./api.js";
import { scheme, spectrogramPalette } from "./colours.js";
import { clearedContext } from "./dom.js";
import { COLUMNS, Tiles } from "./tiles.js";
import { clock, tickStep } from "./time.js";

const ROWS = 128;
const AXIS_HEIGHT = 22;

export class Picture {
  /**
   * @param {{axis: HTMLCanvasElement, spectrogram: HTMLCanvasElement}} canvases
   * @param {import("./view.js").View} view
   * @param {{redraw: () => void, failed: (error: Error) => void}} tell
   */
  constructor(canvases, view, tell) {
    this._canvases = canvases;
    this._view = view;
    this._recording = null;
    this._early = false;
    this._redraw = tell.redraw;
    this._tiles = new Tiles((...part) => this._fetch(...part), tell.redraw, tell.failed);
  }

  open(recording) {
    this._recording = recording;
    this._early = false;
    this._tiles.clear();
  }

  /** Asks again for what came before the shades of the recording were known. */
  settle() {
    if (!this._early) return;
    this._early = false;
    this._tiles.clear();
    this._redraw();
  }

  draw(colours) {
    this._drawAxis(colours);
    const canvas = this._canvases.spectrogram;
    const [width, height] = [this._view.width, canvas.clientHeight];
    const context = clearedContext(canvas, width, height);
    if (!this._recording) return;
    context.imageSmoothingEnabled = true;
    const { start, end, duration } = this._view;
    const pixels = width * (window.devicePixelRatio || 1);
    for (const tile of this._tiles.visible(start, end, pixels, duration)) {
      const [left, right] = [this._view.pixel(tile.start), this._view.pixel(tile.end)];
      context.drawImage(coloured(tile.value), left, 0, right - left, height);
    }
    this._drawFrequencies(context, height, colours);
  }

  _drawFrequencies(context, height, colours) {
    const highest = mel(this._recording.high_hz);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    let last = height;
    for (const hz of [250, 500, 1000, 2000, 4000, 8000, 16000]) {
      const y = height * (1 - mel(hz) / highest);
      if (y < 8 || last - y < 20) continue;
      last = y;
      const text = hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`;
      const wide = context.measureText(text).width;
      context.fillStyle = colours.surface;
      context.globalAlpha = 0.75;
      context.fillRect(0, y - 7, wide + 8, 14);
      context.globalAlpha = 1;
      context.fillStyle = colours.text;
      context.fillText(text, 4, y);
    }
  }

  async _fetch(start, end, signal) {
    const path = `/recordings/${encodeURIComponent(this._recording.id)}/spectrogram.png`;
    const query = { start, end, width: COLUMNS, height: ROWS };
    const response = await patiently("GET", address(path, query), { signal });
    this._early ||= response.headers.get("Cache-Control") === "no-store";
    const bitmap = await createImageBitmap(await response.blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    // Only the levels are kept: the scheme may change.
    const levels = Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
    return { levels, canvas, context, scheme: "" };
  }

  _drawAxis(colours) {
    const { start, end, span, width } = this._view;
    const context = clearedContext(this._canvases.axis, width, AXIS_HEIGHT);
    const step = tickStep((span / width) * 90);
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let k = Math.ceil(start / step); k * step <= end; k++) {
      const x = Math.round(this._view.pixel(k * step)) + 0.5;
      context.fillStyle = colours.line;
      context.fillRect(x - 0.5, 14, 1, AXIS_HEIGHT - 14);
      const text = clock(k * step, digits);
      const half = context.measureText(text).width / 2;
      context.fillStyle = colours.text;
      context.fillText(text, Math.min(Math.max(x - half, 4), width - 2 * half), 8);
    }
  }
}

/** Slaney's mel scale, which the server's pictures have. */
const mel = (hz) =>
  hz < 1000 ? (3 * hz) / 200 : 15 + (27 * Math.log(hz / 1000)) / Math.log(6.4);

function coloured(tile) {
  if (tile.scheme === scheme()) return tile.canvas;
  tile.scheme = scheme();
  const palette = spectrogramPalette(tile.scheme);
  const image = tile.context.createImageData(tile.canvas.width, tile.canvas.height);
  for (let i = 0; i < tile.levels.length; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = palette[3 * tile.levels[i] + c];
    image.data[4 * i + 3] = 255;
  }
  tile.context.putImageData(image, 0, 0);
  return tile.canvas;
}
