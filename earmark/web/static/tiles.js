/**
 * A long recording in parts: columns at power-of-two zooms, cut into tiles. Only what is on the
 * screen is fetched; a coarser tile stands in until the finer one is there.
 */
import { ApiError } from "./api.js";

export const COLUMNS = 512;
const FINEST_COLUMNS_PER_SECOND = 256;

/** Seconds that a tile of the level spans. */
export const tileSeconds = (level) => (COLUMNS / FINEST_COLUMNS_PER_SECOND) * 2 ** level;

/** The coarsest level that still has about a column for each pixel. */
export const levelFor = (spanSeconds, pixels) =>
  Math.max(0, Math.floor(Math.log2((FINEST_COLUMNS_PER_SECOND * spanSeconds) / (0.7 * pixels))));

export class Tiles {
  /**
   * @param {(start: number, end: number, signal: AbortSignal) => Promise<any>} fetchTile
   * @param {() => void} arrived called when a tile is there
   * @param {(error: Error) => void} failed
   */
  constructor(fetchTile, arrived, failed, most = 96) {
    this._fetch = fetchTile;
    this._arrived = arrived;
    this._failed = failed;
    this._most = most;
    this._tiles = new Map();
    this._pending = new Map();
  }

  /** Tiles to draw now, coarse ones first: `{start, end, value}`. Fetches those that miss. */
  visible(start, end, pixels, duration) {
    const level = levelFor(end - start, pixels);
    const seconds = tileSeconds(level);
    const wanted = new Set();
    const drawn = new Map();
    for (let i = Math.floor(start / seconds); i * seconds < Math.min(end, duration); i++) {
      const key = `${level}/${i}`;
      wanted.add(key);
      const stand = this._standIn(level, i);
      if (stand) drawn.set(stand.key, stand);
      if (!this._tiles.has(key)) this._request(key, i * seconds, (i + 1) * seconds);
    }
    for (const [key, abort] of this._pending) {
      if (wanted.has(key)) continue;
      this._pending.delete(key);
      abort.abort();
    }
    return [...drawn.values()].sort((a, b) => b.level - a.level);
  }

  /** Forgets everything, and stops what is under way. */
  clear() {
    for (const abort of this._pending.values()) abort.abort();
    this._tiles.clear();
    this._pending.clear();
  }

  _standIn(level, i) {
    for (let coarser = level; coarser < level + 12; coarser++) {
      const index = Math.floor(i / 2 ** (coarser - level));
      const key = `${coarser}/${index}`;
      const value = this._tiles.get(key);
      if (value) {
        // Last used, last thrown away.
        this._tiles.delete(key);
        this._tiles.set(key, value);
        const seconds = tileSeconds(coarser);
        return { key, level: coarser, start: index * seconds, end: (index + 1) * seconds, value };
      }
    }
    return null;
  }

  async _request(key, start, end) {
    if (this._pending.has(key)) return;
    const abort = new AbortController();
    this._pending.set(key, abort);
    try {
      const value = await this._fetch(start, end, abort.signal);
      if (abort.signal.aborted) return;
      this._tiles.set(key, value);
      for (const oldest of this._tiles.keys()) {
        if (this._tiles.size <= this._most) break;
        this._tiles.delete(oldest);
      }
      this._arrived();
    } catch (error) {
      if (abort.signal.aborted) return;
      // Not asked for again: what is refused once is refused at every drawing.
      this._tiles.set(key, null);
      this._failed(error instanceof ApiError ? error : new Error(String(error)));
    } finally {
      if (this._pending.get(key) === abort) this._pending.delete(key);
    }
  }
}
