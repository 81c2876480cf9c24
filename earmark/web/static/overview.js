/** The whole recording as one strip: its wave, where it plays, what is on the screen, what is reviewed. */
import WaveSurfer from "./vendor/wavesurfer/wavesurfer.esm.js";
import { address, getJson } from "./api.js";
import { clearedContext, setAttribute } from "./dom.js";
import { clock } from "./time.js";

/** The server's content security policy allows wavesurfer's style for this height. */
const WAVE_HEIGHT = 56;
const MARKS_HEIGHT = 8;
const POINTS = 1000;

export class Overview {
  /**
   * @param {HTMLElement} root with a .wave, a canvas and a .window
   * @param {import("./player.js").Player} player
   * @param {import("./view.js").View} view
   */
  constructor(root, player, view) {
    this._root = root;
    this._player = player;
    this._view = view;
    this._canvas = root.querySelector("canvas");
    this._window = /** @type {HTMLElement} */ (root.querySelector(".window"));
    this._wave = WaveSurfer.create({
      container: /** @type {HTMLElement} */ (root.querySelector(".wave")),
      media: /** @type {any} */ (player),
      height: WAVE_HEIGHT,
      interact: false,
      normalize: true,
      hideScrollbar: true,
      cursorWidth: 2,
    });
    this._wave.on("error", () => {});
    this._loading = new AbortController();
    root.addEventListener("keydown", (event) => this._key(event));
    root.addEventListener("pointerdown", (event) => this._drag(event));
    player.addEventListener("timeupdate", () => this._tellTime());
  }

  /** Loads the wave of a recording. */
  async open(recording) {
    this._loading.abort();
    this._loading = new AbortController();
    const { signal } = this._loading;
    const flat = [new Float32Array(2), new Float32Array(2)];
    this._wave.load("", flat, recording.duration_seconds).catch(() => {});
    const path = `/recordings/${encodeURIComponent(recording.id)}/peaks`;
    const query = { start: 0, end: recording.duration_seconds, points: POINTS };
    const { values } = await getJson(path, query, { signal });
    const above = Float32Array.from({ length: values.length / 2 }, (_, i) => values[2 * i + 1]);
    const below = Float32Array.from({ length: values.length / 2 }, (_, i) => values[2 * i]);
    await this._wave.load("", [above, below], recording.duration_seconds).catch(() => {});
  }

  /** Draws what changes with the view and the review. */
  draw(review, colours, colourOf) {
    const { start, end, duration } = this._view;
    const width = this._root.clientWidth;
    this._window.style.left = `${(start / duration) * 100}%`;
    this._window.style.width = `${((end - start) / duration) * 100}%`;
    this._window.classList.toggle("whole", end - start > 0.999 * duration);
    const context = clearedContext(this._canvas, width, MARKS_HEIGHT);
    for (const event of review.events) {
      if (event.state === "deleted") continue;
      context.fillStyle = colourOf(event.label);
      const left = (event.onset / duration) * width;
      context.fillRect(left, 0, Math.max(1, ((event.offset - event.onset) / duration) * width), 4);
    }
    context.fillStyle = colours.reviewed;
    for (const span of review.reviewed) {
      const left = (span.start / duration) * width;
      context.fillRect(left, 5, Math.max(1, ((span.end - span.start) / duration) * width), 3);
    }
    this._tellTime();
  }

  /** Takes the colours of the scheme. */
  paint(colours) {
    this._wave.setOptions({
      waveColor: colours.wave,
      progressColor: colours.played,
      cursorColor: colours.cursor,
    });
  }

  _tellTime() {
    const time = this._player.currentTime;
    setAttribute(this._root, "aria-valuemax", this._view.duration.toFixed(2));
    setAttribute(this._root, "aria-valuenow", time.toFixed(2));
    setAttribute(this._root, "aria-valuetext", `${clock(time)} of ${clock(this._view.duration)}`);
  }

  _key(event) {
    const { duration } = this._view;
    const steps = { ArrowLeft: -0.01, ArrowRight: 0.01, PageUp: -0.1, PageDown: 0.1 };
    const ends = { Home: 0, End: duration };
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    let time = ends[event.key];
    if (event.key in steps) time = this._player.currentTime + steps[event.key] * duration;
    if (time === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this._player.currentTime = time;
    this._view.reveal(this._player.currentTime, this._player.currentTime);
  }

  /** Inside the window a drag moves it; outside the view comes to the pointer. */
  _drag(down) {
    if (down.button !== 0) return;
    const box = this._root.getBoundingClientRect();
    const timeOf = (event) => ((event.clientX - box.left) / box.width) * this._view.duration;
    const first = timeOf(down);
    const inside = first >= this._view.start && first <= this._view.end;
    const grip = inside ? first - this._view.start : this._view.span / 2;
    let moved = false;
    const move = (event) => {
      moved ||= Math.abs(event.clientX - down.clientX) > 3;
      if (moved) this._view.moveTo(timeOf(event) - grip);
    };
    const up = (event) => {
      this._root.removeEventListener("pointermove", move);
      this._root.removeEventListener("pointerup", up);
      this._root.removeEventListener("pointercancel", up);
      if (moved || event.type === "pointercancel") return;
      this._player.currentTime = first;
      if (!inside) this._view.moveTo(first - this._view.span / 2);
    };
    this._root.setPointerCapture(down.pointerId);
    this._root.addEventListener("pointermove", move);
    this._root.addEventListener("pointerup", up);
    this._root.addEventListener("pointercancel", up);
  }
}
