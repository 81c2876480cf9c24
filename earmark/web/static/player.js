/**
 * Plays a recording of any length, which the server gives in parts that are joined without a gap.
 * To wavesurfer it is a media element: it has the properties and events that one reads of these.
 */
import { send } from "./api.js";

const PART_SECONDS = 20;
const KEPT_PARTS = 4;
/** How long before a part ends the next one is made ready. */
const AHEAD_SECONDS = 8;

export class Player extends EventTarget {
  constructor() {
    super();
    this.duration = 0;
    this.paused = true;
    this.ended = false;
    this.seeking = false;
    this.readyState = 4;
    this.playbackRate = 1;
    this.volume = 1;
    this.muted = false;
    this.src = "";
    this.currentSrc = "";
    /** @type {Error | null} */
    this.error = null;
    this._position = 0;
    this._stopAt = null;
    this._context = /** @type {AudioContext | null} */ (null);
    this._address = null;
    this._parts = new Map();
    this._pieces = [];
    this._run = 0;
  }

  /** @param {(start: number, end: number) => string} partAddress where a stretch lies as WAV */
  open(partAddress, duration) {
    this.pause();
    this._parts.clear();
    this._address = partAddress;
    this.duration = duration;
    this.error = null;
    this._position = 0;
    this._tell("durationchange", "timeupdate");
  }

  get currentTime() {
    const now = this._context?.currentTime ?? 0;
    const piece = this._pieces.findLast((each) => each.at <= now);
    if (this.paused || !piece) return this._position;
    return piece.from + Math.min(now - piece.at, piece.to - piece.from);
  }

  set currentTime(time) {
    const [playing, stopAt] = [!this.paused, this._stopAt];
    this._silence();
    this._position = Math.min(Math.max(0, time), this.duration);
    this.ended = false;
    this._tell("seeking", "timeupdate", "seeked");
    if (playing) this._start(stopAt !== null && stopAt > time ? stopAt : null);
  }

  /** Plays from where it stands. */
  async play() {
    if (!this.paused) return;
    if (this._position >= this.duration - 0.01) this._position = 0;
    this.paused = false;
    this._tell("play");
    await this._start(null);
  }

  /** Plays a stretch and stops; the cursor goes back to where the stretch begins. */
  async playStretch(start, end) {
    this.pause();
    this._position = Math.min(Math.max(0, start), this.duration);
    this.paused = false;
    this._tell("play", "timeupdate");
    await this._start(end);
  }

  pause() {
    if (this.paused) return;
    this._position = this.currentTime;
    this._silence();
    this.paused = true;
    this._tell("pause", "timeupdate");
  }

  // What wavesurfer calls of a media element and has no meaning here.
  load() {}
  remove() {}
  removeAttribute() {}
  canPlayType() {
    return "";
  }

  _tell(...names) {
    for (const name of names) this.dispatchEvent(new Event(name));
  }

  /** Stops what sounds, and makes what is still on its way too late. */
  _silence() {
    this._run++;
    for (const { source } of this._pieces) source.stop();
    this._pieces = [];
  }

  async _start(stopAt) {
    const run = ++this._run;
    const begin = this._position;
    this._stopAt = stopAt;
    const end = Math.min(stopAt ?? this.duration, this.duration);
    try {
      this._context ??= new AudioContext();
      const context = this._context;
      await context.resume();
      this._animate(run);
      let at = 0;
      for (let time = begin; time < end - 1e-6; ) {
        const index = Math.floor(time / PART_SECONDS + 1e-9);
        const part = await this._part(index);
        if (run !== this._run) return;
        const partStart = index * PART_SECONDS;
        const to = Math.min(end, partStart + PART_SECONDS);
        // A part that comes late starts when it is there, and the cursor has waited for it.
        at = Math.max(at, context.currentTime + 0.03);
        const source = context.createBufferSource();
        source.buffer = part;
        source.connect(context.destination);
        source.start(at, time - partStart, to - time);
        this._pieces.push({ source, at, from: time, to });
        at += to - time;
        time = to;
        if (time < end - 1e-6) this._part(Math.floor(time / PART_SECONDS + 1e-9)).catch(() => {});
        const spare = time < end - 1e-6 ? AHEAD_SECONDS : 0;
        while (run === this._run && context.currentTime < at - spare) await rest(40);
        if (run !== this._run) return;
      }
      this._silence();
      this.paused = true;
      this.ended = stopAt === null;
      this._position = stopAt === null ? this.duration : begin;
      this._tell("timeupdate", this.ended ? "ended" : "pause");
    } catch (error) {
      if (run !== this._run) return;
      this.pause();
      this.error = /** @type {Error} */ (error);
      this._tell("error");
    }
  }

  _animate(run) {
    if (run !== this._run || this.paused) return;
    this._tell("timeupdate");
    requestAnimationFrame(() => this._animate(run));
  }

  /** The samples of a part; the last few are kept. @returns {Promise<AudioBuffer>} */
  _part(index) {
    const known = this._parts.get(index);
    if (known) return known;
    const start = index * PART_SECONDS;
    const url = this._address(start, Math.min(this.duration, start + PART_SECONDS));
    const part = send("GET", url)
      .then((response) => response.arrayBuffer())
      .then((bytes) => this._context.decodeAudioData(bytes));
    this._parts.set(index, part);
    part.catch(() => this._parts.delete(index));
    if (this._parts.size > KEPT_PARTS) this._parts.delete(this._parts.keys().next().value);
    return part;
  }
}

const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
