/**
 * Brings a review to the server after each change. Until the server has it, a draft stays in the
 * browser, so that neither a dead server nor a reload loses a decision.
 */
import { ApiError, address, pause, send } from "./api.js";
import { newId } from "./review.js";

/** A draft is of one page: two pages without their server do not overwrite each other's. */
const keysOf = (recording) => `earmark draft ${recording} `;

/**
 * What pages could not bring to the server of a recording.
 * @returns {{key: string, text: string, version: number, model: string, review: any}[]}
 */
export function drafts(recording) {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(keysOf(recording)));
    return keys.map((key) => {
      const text = /** @type {string} */ (localStorage.getItem(key));
      return { key, text, ...JSON.parse(text) };
    });
  } catch {
    return []; // Nothing is stored where nothing may be.
  }
}

/** Forgets a draft, unless another page has written it anew. */
export function forgetDraft({ key, text }) {
  try {
    if (localStorage.getItem(key) === text) localStorage.removeItem(key);
  } catch {
    // As above.
  }
}

export class Keeper extends EventTarget {
  /** @param {string} recording @param {string} model @param {number} version of the server's */
  constructor(recording, model, version) {
    super();
    this.version = version;
    this.state = "kept";
    this._url = address(`/recordings/${encodeURIComponent(recording)}/review`, { model });
    this._model = model;
    this._key = keysOf(recording) + newId();
    this._text = /** @type {string | null} */ (null);
    this._wanted = null;
    this._running = null;
    this._closed = new AbortController();
  }

  /** Goes on with the draft of another page. */
  take({ key, text }) {
    this._key = key;
    this._text = text;
  }

  /** Forgets its draft. */
  forget() {
    forgetDraft({ key: this._key, text: this._text });
  }

  /** Keeps the review; of several in a row only the last one travels. */
  keep(review) {
    this._wanted = review;
    this._draft();
    this._running ??= this._run().finally(() => (this._running = null));
  }

  /** Resolves when everything is kept, or cannot be for now. */
  async settled() {
    await this._running;
  }

  /** No more tries; the draft stays if the server does not have everything. */
  close() {
    this._closed.abort(new DOMException("closed", "AbortError"));
  }

  _draft() {
    try {
      const draft = { version: this.version, model: this._model, review: this._wanted };
      this._text = JSON.stringify(draft);
      localStorage.setItem(this._key, this._text);
    } catch {
      // A full or forbidden storage: the server is the place that counts.
    }
  }

  _tell(state, detail) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail }));
  }

  async _run() {
    for (let attempt = 0; this._wanted; ) {
      const review = this._wanted;
      this._tell("keeping");
      try {
        const headers = { "If-Match": `"${this.version}"` };
        const response = await send("PUT", this._url, { body: review, headers });
        this.version = (await response.json()).version;
        attempt = 0;
        if (this._wanted !== review) {
          this._draft();
          continue;
        }
        this._wanted = null;
        this.forget();
        this._tell("kept");
      } catch (error) {
        if (this._closed.signal.aborted) return;
        if (error instanceof ApiError && error.status === 409) {
          this._wanted = null;
          this._tell("conflict", review);
          return;
        }
        if (!(error instanceof ApiError) || !error.passing) {
          this._wanted = null;
          this._tell("refused", error.message);
          return;
        }
        this._tell("waiting", error.message);
        try {
          await pause(error.retryAfter * 1000 || Math.min(8000, 500 * 2 ** attempt++), this._closed.signal);
        } catch {
          return;
        }
      }
    }
  }
}
