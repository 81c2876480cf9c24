/** The recording under review with one model: what is decided, selected and kept. No elements here. */
import { ApiError, address, getJson, patiently, send } from "./api.js";
import { Keeper, drafts, forgetDraft } from "./keeper.js";
import {
  History, SHORTEST_SECONDS, addEvent, confirmEvent, counted, find, markAbsent, markReviewed, moveEvent, relabelEvent,
  removeEvent, same, shown, stoodBehind, underModel, unmarkAbsent, unmarkReviewed, withDecoded,
} from "./review.js";
import { cover, overlap } from "./spans.js";
import { clock, parseClock } from "./time.js";

const NOTHING = { events: [], absent: [], reviewed: [], rules: {} };

/**
 * Tells "change" after anything that is to be drawn, "say" with words for people, "failed" with an
 * error.
 */
export class Desk extends EventTarget {
  constructor() {
    super();
    this.recording = null;
    this.model = null;
    this.history = new History(NOTHING);
    /** @type {Keeper | null} */
    this.keeper = null;
    this.analysed = false;
    /** @type {import("./review.js").Review | null} this page's document, where another one is kept */
    this.conflict = null;
    /** Events that the rules find, of which only the first ones are here, up to `shownUntil`. */
    this.found = 0;
    this.shownUntil = Infinity;
    /** @type {Map<string, {probability: number, present: boolean}>} */
    this.tags = new Map();
    /** @type {string | null} */
    this.selected = null;
    /** @type {string | null} the class whose lane is in use */
    this.label = null;
    this.chosenStretch = null;
    this._decoding = false;
    this._wantedRules = null;
    /** @type {Map<string, Keeper>} the last one of each recording: it may be at work still */
    this._keepers = new Map();
    this._names = new Map();
  }

  /** Names of the recordings of which something was decided that the server does not have. */
  get unkept() {
    const left = [...this._keepers].filter(([, keeper]) => keeper.state !== "kept");
    return left.map(([id]) => this._names.get(id));
  }

  /** Resolves when everything is kept, or cannot be for now. */
  async settled() {
    await Promise.all([...this._keepers.values()].map((keeper) => keeper.settled()));
  }

  /** A recording is no more, nor what was decided of it. */
  drop(recording) {
    this._keepers.get(recording.id)?.close();
    this._keepers.delete(recording.id);
    drafts(recording.id).forEach(forgetDraft);
  }

  get review() {
    return this.history.present;
  }

  /** What "here" means: the stretch that was chosen, or the whole recording. */
  get stretch() {
    return this.chosenStretch ?? { start: 0, end: this.recording?.duration_seconds ?? 0 };
  }

  get event() {
    return this.selected ? find(this.review, this.selected) : undefined;
  }

  /** Begins with a recording whose analysis is not known yet. */
  begin(recording, model) {
    Object.assign(this, { recording, model, keeper: null, analysed: false, selected: null });
    Object.assign(this, { chosenStretch: null, label: model?.class_names[0] ?? null, conflict: null });
    this.tags = new Map();
    Object.assign(this, { found: 0, shownUntil: Infinity });
    this.history = new History(NOTHING);
    this._wantedRules = null;
    this._changed();
  }

  /** Reads what is decided so far, once the analysis is there. */
  async load(signal) {
    const { recording, model } = this;
    // Whoever comes back soon finds what he decided before he left.
    await this._keepers.get(recording.id)?.settled();
    await this._bringDrafts(signal);
    signal.throwIfAborted();
    const query = { model: model.id };
    const path = `/recordings/${encodeURIComponent(recording.id)}/review`;
    const { version, ...review } = await getJson(path, query, { signal });
    signal.throwIfAborted();
    this._adopt({ ...NOTHING, ...review }, version);
    this.analysed = true;
    this._changed();
    for (const draft of drafts(recording.id)) {
      this.keeper.take(draft);
      const mine = draft.model === model.id ? draft.review : underModel(draft.review, this.review);
      if (same(mine, this.review)) {
        this.keeper.forget();
        continue;
      }
      if (draft.version === version) this._apply(mine, "what was not kept yet");
      else this._tellConflict(mine);
      break; // Another page's waits for the next time.
    }
    await this._readTags(signal);
  }

  /** What was decided under another model is kept as that: it looked for other classes. */
  async _bringDrafts(signal) {
    const { recording, model } = this;
    for (const draft of drafts(recording.id)) {
      if (draft.model === model.id) continue;
      const keeper = new Keeper(recording.id, draft.model, draft.version);
      signal.addEventListener("abort", () => keeper.close());
      keeper.take(draft);
      keeper.keep(draft.review);
      await keeper.settled();
    }
  }

  _adopt(review, version) {
    this.keeper?.close();
    this.history = new History(review);
    const { recording } = this;
    const keeper = new Keeper(recording.id, this.model.id, version);
    this.keeper = keeper;
    this._keepers.set(recording.id, keeper);
    this._names.set(recording.id, recording.name);
    keeper.addEventListener("state", (event) =>
      this._keeperTold(keeper, recording, event).catch((error) => this._tellFailure(error)),
    );
  }

  async _keeperTold(keeper, recording, event) {
    if (keeper !== this.keeper) return this._tellOfLeft(keeper, recording, event.detail);
    if (keeper.state === "conflict") {
      // An answer may have been lost on its way: then the server has this very document.
      const mine = event.detail;
      const theirs = await this._theirs();
      if (keeper !== this.keeper) return this._tellOfLeft(keeper, recording, mine);
      if (same(theirs.review, mine)) {
        keeper.version = theirs.version;
        keeper.forget();
        if (this.review !== mine) keeper.keep(this.review);
        else keeper.state = "kept";
      } else {
        this._tellConflict(this.review);
      }
    }
    this.dispatchEvent(new CustomEvent("keeping", { detail: event.detail }));
  }

  /** What goes wrong with a recording that is not on the page any more. */
  _tellOfLeft(keeper, recording, detail) {
    const why = { refused: detail, conflict: "it was changed elsewhere" }[keeper.state];
    if (!why || this._keepers.get(recording.id) !== keeper) return;
    this._tellFailure(
      new Error(`${recording.name}: what you decided last is not kept: ${why}. Open it to go on.`),
    );
  }

  _tellFailure(error) {
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }

  async _theirs() {
    const path = `/recordings/${encodeURIComponent(this.recording.id)}/review`;
    const { version, ...review } = await getJson(path, { model: this.model.id });
    return { version, review: { ...NOTHING, ...review } };
  }

  _tellConflict(mine) {
    this.conflict = mine;
    this.keeper.state = "conflict";
    this.dispatchEvent(new Event("conflict"));
  }

  /** Ends a conflict: with this page's document, or with the server's. */
  async resolve(withMine) {
    const { keeper, conflict } = this;
    try {
      const { version, review } = await this._theirs();
      if (keeper !== this.keeper) return; // Its draft asks again when the recording is opened.
      this.conflict = null;
      keeper.forget();
      this._adopt(review, version);
      if (withMine) this._apply(conflict, "this page's version");
      this._changed();
      this.dispatchEvent(new CustomEvent("keeping"));
    } catch (error) {
      this._tellFailure(error);
      if (this.conflict) this._tellConflict(this.conflict);
    }
  }

  select(id) {
    if (id === this.selected) return;
    this.selected = id;
    if (this.event) this.label = this.event.label;
    this._changed();
  }

  enter(label) {
    if (label === this.label) return;
    this.label = label;
    this._changed();
  }

  chooseStretch(span) {
    this.chosenStretch = span && span.end - span.start > 0.001 ? span : null;
    this._changed();
  }

  // Edits; each says in words what it did.

  /** @param {number} onset NaN leaves it */
  move(id, onset, offset, done) {
    // From where it was when the drag began: on its way it changes nothing else for good.
    const { base } = this.history;
    const event = find(base, id);
    if (!event) return;
    const start = Number.isNaN(onset) ? event.onset : Math.min(onset, event.offset - 0.01);
    const end = Number.isNaN(offset) ? event.offset : Math.max(offset, event.onset + 0.01);
    const moved = moveEvent(base, id, start, end, this.recording.duration_seconds);
    if (!done) {
      this.history.preview(moved);
      return this._changed();
    }
    const { onset: from, offset: to } = /** @type {any} */ (find(moved, id));
    this._apply(moved, `${event.label} now ${clock(from)} to ${clock(to)}`);
  }

  /**
   * Moves one edge to a time that was typed, and never the other one.
   * @param {"start" | "end"} side
   * @returns {string | null} why the event stays as it was
   */
  moveEdge(id, side, text) {
    const event = /** @type {any} */ (find(this.review, id));
    const time = parseClock(text);
    if (time === null) return `“${text}” is no time: write seconds, or 1:07.25`;
    const edge = { start: event.onset, end: event.offset, [side]: time };
    // Less than a millisecond is the digits' that differences cost.
    if (edge.end - edge.start < SHORTEST_SECONDS - 1e-6) {
      return side === "end"
        ? `“${text}” is not after the start, ${clock(event.onset, 3)}`
        : `“${text}” is not before the end, ${clock(event.offset, 3)}`;
    }
    this.move(id, edge.start, edge.end, true);
    return null;
  }

  cancelMove() {
    this.history.cancel();
    this._changed();
  }

  relabel(id, label) {
    const event = find(this.review, id);
    if (!event || event.label === label) return;
    const [review, other] = relabelEvent(this.review, id, label);
    this.selected = other;
    this.label = label;
    this._apply(review, `${event.label} at ${clock(event.onset)} is now ${label}`);
  }

  confirm(id) {
    const event = find(this.review, id);
    if (event) this._apply(confirmEvent(this.review, id), `${event.label} confirmed`);
  }

  remove(id) {
    const event = find(this.review, id);
    if (!event) return;
    const list = shown(this.review);
    const place = list.findIndex((each) => each.id === id);
    const next = list[place + 1] ?? list[place - 1];
    this.selected = next?.id ?? null;
    this._apply(removeEvent(this.review, id), `${event.label} at ${clock(event.onset)} deleted`);
  }

  add(label, onset, offset) {
    const seconds = this.recording.duration_seconds;
    const [review, id] = addEvent(this.review, label, onset, offset, seconds);
    this.selected = id;
    this.label = label;
    this._apply(review, `${label} added at ${clock(onset)}`);
    return id;
  }

  toggleReviewed() {
    const { stretch } = this;
    if (cover(this.review.reviewed, stretch) === "all") {
      return this._apply(unmarkReviewed(this.review, stretch), "no longer reviewed");
    }
    if (stretch.end > this.shownUntil) {
      this._changed();
      return this.say(
        `Only events up to ${clock(this.shownUntil, 0)} are shown, there are too many: ` +
          "choose a stretch before, or have fewer by other rules",
      );
    }
    this._apply(markReviewed(this.review, stretch), `${this.stretchWords()} reviewed`);
  }

  setAbsent(label, absent) {
    const { stretch } = this;
    if (!absent) {
      return this._apply(unmarkAbsent(this.review, label, stretch), `${label} may be here again`);
    }
    const held = stoodBehind(this.review, label, stretch);
    if (held.length) {
      this._changed();
      return this.say(
        `${label} has ${counted(held.length)} here that you confirmed: delete them first, or choose another stretch`,
      );
    }
    this._apply(markAbsent(this.review, label, stretch), `no ${label} in ${this.stretchWords()}`);
  }

  toggleAbsent(label) {
    const spans = this.review.absent.filter((each) => each.label === label);
    this.setAbsent(label, cover(spans, this.stretch) !== "all");
  }

  undo() {
    if (this._held) return this.say(this._held);
    const before = this.review;
    const words = this.history.undo();
    this._stepped(before, words && `Undone: ${words}`, "Nothing to undo");
  }

  redo() {
    if (this._held) return this.say(this._held);
    const before = this.review;
    const words = this.history.redo();
    this._stepped(before, words && `Done again: ${words}`, "Nothing to do again");
  }

  _stepped(before, words, nothing) {
    if (!words) return this.say(nothing);
    const old = new Set(before.events);
    const changed = this.review.events.filter((event) => !old.has(event) && event.state !== "deleted");
    if (changed.length === 1) this.selected = changed[0].id;
    this.keeper?.keep(this.review);
    this._changed();
    this.say(words);
  }

  stretchWords() {
    if (!this.chosenStretch) return "the whole recording";
    return `${clock(this.chosenStretch.start, 1)} to ${clock(this.chosenStretch.end, 1)}`;
  }

  // Rules: events follow the sliders at once.

  /** Another rule of a class; a value of null takes the model's own again. */
  setRule(label, name, value, done) {
    const rules = { ...this.review.rules };
    if (value === null) delete rules[label];
    else rules[label] = { ...rules[label], [name]: value };
    this.history.preview({ ...this.review, rules });
    this._changed();
    const words = value === null ? `the model's rules for ${label}` : `other rules for ${label}`;
    this._decode(rules, done ? words : null);
  }

  /** Asks for the events under the rules; of several askings in a row only the last one counts. */
  async _decode(rules, words) {
    this._wantedRules = { rules, words, history: this.history };
    if (this._decoding) return;
    this._decoding = true;
    while (this._wantedRules) {
      const wanted = this._wantedRules;
      try {
        const answer = await this._ask(wanted.rules);
        if (wanted.history !== this.history) {
          // Another document is open; its own rules may be waiting.
          if (this._wantedRules === wanted) this._wantedRules = null;
          continue;
        }
        if (this._wantedRules !== wanted) {
          // A slider that still moves shows what is there already.
          this.history.preview({ ...withDecoded(this.review, answer.events), rules: this.review.rules });
          this._changed();
          continue;
        }
        this._wantedRules = null;
        const next = { ...withDecoded(this.review, answer.events), rules: wanted.rules };
        this._take(answer);
        if (wanted.words) {
          this._apply(next, `${wanted.words}: ${counted(shown(next).length)}`);
        } else {
          this.history.preview(next);
          this._changed();
        }
      } catch (error) {
        this._tellFailure(error);
        if (wanted.history !== this.history && this._wantedRules !== wanted) continue;
        this._wantedRules = null;
        this.history.cancel();
        this._changed();
      }
    }
    this._decoding = false;
  }

  async _ask(rules, signal) {
    const { recording, model } = this;
    const path = `/recordings/${encodeURIComponent(recording.id)}/analyses/${encodeURIComponent(model.id)}/events`;
    const response = await patiently("POST", address(path), { body: { rules }, signal });
    return response.json();
  }

  async _readTags(signal) {
    const answer = await this._ask(this.review.rules, signal);
    signal.throwIfAborted();
    this._take(answer);
    this._changed();
  }

  _take({ tags, events, total }) {
    this.tags = new Map(tags.map((tag) => [tag.label, tag]));
    this.found = total;
    this.shownUntil = total > events.length ? events.at(-1).onset : Infinity;
  }

  // Ways through the events.

  /** The next event in time, or the previous one; from nothing, the first one after `time`. */
  neighbour(step, time) {
    const list = shown(this.review);
    const place = list.findIndex((event) => event.id === this.selected);
    if (place >= 0) return list[place + step] ?? null;
    if (step > 0) return list.find((event) => event.onset >= time) ?? list[0] ?? null;
    return list.findLast((event) => event.onset <= time) ?? list.at(-1) ?? null;
  }

  /** The event of another lane that is nearest in time. */
  across(step, labels, time) {
    const from = this.event ?? { onset: time, offset: time, label: this.label };
    const list = shown(this.review);
    const middle = (event) => (event.onset + event.offset) / 2;
    const far = (event) =>
      Math.abs(middle(event) - middle(from)) -
      overlap({ start: event.onset, end: event.offset }, { start: from.onset, end: from.offset });
    for (let k = labels.indexOf(from.label) + step; k >= 0 && k < labels.length; k += step) {
      const ofLane = list.filter((event) => event.label === labels[k]);
      if (ofLane.length) return ofLane.reduce((a, b) => (far(b) < far(a) ? b : a));
    }
    return null;
  }

  say(words) {
    this.dispatchEvent(new CustomEvent("say", { detail: words }));
  }

  /** Why nothing may be changed now, or null. */
  get _held() {
    if (this.conflict) return "Choose first which version holds";
    return this.analysed ? null : "Wait until the sounds are found";
  }

  _apply(review, words) {
    if (this._held) {
      this.history.cancel();
      this._changed();
      return this.say(this._held);
    }
    const changed = this.history.commit(review, words);
    if (changed) this.keeper?.keep(review);
    this._changed();
    if (changed) this.say(words[0].toUpperCase() + words.slice(1));
  }

  _changed() {
    if (this.selected && (this.event ?? { state: "deleted" }).state === "deleted") this.selected = null;
    this.dispatchEvent(new Event("change"));
  }
}

/** Follows the analysis of a recording until it is done; `tell` hears of every answer. */
export async function analyse(recording, model, tell, signal) {
  const path = `/recordings/${encodeURIComponent(recording.id)}/analyses`;
  const onWait = (error) => {
    if (error.status === 503) tell({ state: "full", progress: 0, position: null, error: error.message });
  };
  const body = { model: model.id };
  const answer = await (await patiently("POST", address(path), { body, signal, onWait })).json();
  let job = { state: "queued", progress: 0, position: null, error: null, ...answer };
  if (job.state === "done") return;
  const jobPath = `/jobs/${encodeURIComponent(answer.job)}`;
  for (let wait = 150; ; wait = Math.min(1500, wait * 1.3)) {
    job = { ...job, ...(await getJson(jobPath, {}, { signal })) };
    tell({ ...job, cancel: () => send("DELETE", address(jobPath)) });
    if (job.state === "done") return;
    if (job.state === "failed") throw new ApiError(job.error ?? "The analysis failed", 500);
    if (job.state === "cancelled") throw new ApiError("The analysis was cancelled", 499);
    await new Promise((resolve) => setTimeout(resolve, wait));
    signal.throwIfAborted();
  }
}
