/**
 * What people decided about a recording, and every way to change it. Documents are never changed
 * in place: an edit gives a new one, which makes undo a list of documents.
 *
 * @typedef {"detected" | "confirmed" | "corrected" | "added" | "deleted"} State
 * @typedef {{id: string, onset: number, offset: number, label: string, score: number | null,
 *   state: State}} SoundEvent
 * @typedef {{events: SoundEvent[], absent: {label: string, start: number, end: number}[],
 *   reviewed: import("./spans.js").Span[], rules: Record<string, Record<string, number>>}} Review
 */
import { cover, overlap, subtract, union } from "./spans.js";

/** An edge moves to the millisecond; an event is never shorter than this. */
export const SHORTEST_SECONDS = 0.01;

export const STATES = {
  detected: { sign: "", words: "detected, not yet reviewed" },
  confirmed: { sign: "✓", words: "confirmed" },
  corrected: { sign: "✎", words: "corrected" },
  added: { sign: "+", words: "added by hand" },
};

const spanOf = (event) => ({ start: event.onset, end: event.offset });

/** An event belongs to the stretch that its middle lies in, for the server too. */
const lies = (event, span) => {
  const middle = (event.onset + event.offset) / 2;
  return span.start <= middle && middle < span.end;
};

const round = (seconds) => Math.round(seconds * 1000) / 1000;

/** Random ids also where the page came over plain HTTP, which has no randomUUID. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return "e" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Review} review @returns {SoundEvent[]} the events that are shown, in order */
export const shown = (review) =>
  review.events
    .filter((event) => event.state !== "deleted")
    .sort((a, b) => a.onset - b.onset || a.offset - b.offset || (a.label < b.label ? -1 : 1));

export const counted = (count) => (count === 1 ? "1 event" : `${count} events`);

/** @param {Review} review @param {string} id @returns {SoundEvent | undefined} */
export const find = (review, id) => review.events.find((event) => event.id === id);

const replaceEvent = (review, id, change) => ({
  ...review,
  events: review.events.map((event) => (event.id === id ? { ...event, ...change } : event)),
});

const touched = (event) => (event.state === "added" ? "added" : "corrected");

/** Where an event is, no stretch can be without its class any more. */
const withSound = (review, label, span) => ({
  ...review,
  absent: [
    ...review.absent.filter((each) => each.label !== label),
    ...subtract(review.absent.filter((each) => each.label === label), span).map((each) => ({
      label,
      ...each,
    })),
  ],
});

/** @returns {Review} with the event from `onset` to `offset`, inside the recording, in order */
export function moveEvent(review, id, onset, offset, duration) {
  const event = find(review, id);
  const start = Math.min(Math.max(0, onset), Math.max(0, duration - SHORTEST_SECONDS));
  const end = Math.max(Math.min(duration, offset), start + SHORTEST_SECONDS);
  const change = { onset: round(start), offset: Math.min(duration, round(end)) };
  if (change.onset === event.onset && change.offset === event.offset) return review;
  const moved = replaceEvent(review, id, { ...change, state: touched(event) });
  return withSound(moved, event.label, { start, end });
}

/**
 * Another class for an event: the old one is denied there, so that no later decoding brings it back.
 * @returns {[Review, string]} and the id of the event that now stands there
 */
export function relabelEvent(review, id, label) {
  const event = find(review, id);
  if (event.label === label) return [review, id];
  if (event.state === "added") {
    return [withSound(replaceEvent(review, id, { label }), label, spanOf(event)), id];
  }
  const other = { ...event, id: newId(), label, score: null, state: /** @type {State} */ ("corrected") };
  const denied = removeEvent(review, id);
  const changed = { ...denied, events: [...denied.events, other] };
  return [withSound(changed, label, spanOf(event)), other.id];
}

export function confirmEvent(review, id) {
  const event = find(review, id);
  return event.state === "detected" ? replaceEvent(review, id, { state: "confirmed" }) : review;
}

/** What was added by hand goes altogether; what was detected stays as denied. */
export function removeEvent(review, id) {
  if (find(review, id).state !== "added") return replaceEvent(review, id, { state: "deleted" });
  return { ...review, events: review.events.filter((event) => event.id !== id) };
}

/** @returns {[Review, string]} and the new event's id */
export function addEvent(review, label, onset, offset, duration) {
  const id = newId();
  const event = { id, onset: 0, offset: 0, label, score: null, state: /** @type {State} */ ("added") };
  const wider = { ...review, events: [...review.events, event] };
  return [moveEvent(wider, id, onset, offset, duration), id];
}

/** Everything in the stretch is right as it stands: what was detected there is confirmed. */
export function markReviewed(review, span) {
  const confirmed = review.events.map((event) =>
    event.state === "detected" && lies(event, span)
      ? { ...event, state: /** @type {State} */ ("confirmed") }
      : event,
  );
  return { ...review, events: confirmed, reviewed: union([...review.reviewed, span]) };
}

/** Whether the recording is reviewed from start to end. */
export const reviewedWhole = (review, duration) =>
  cover(review.reviewed, { start: 0, end: duration }) === "all" &&
  !review.events.some((event) => event.state === "detected");

export const unmarkReviewed = (review, span) => ({
  ...review,
  reviewed: subtract(review.reviewed, span),
});

/** Events of a class in a stretch that a person stands behind: no one can say it is absent there. */
export const stoodBehind = (review, label, span) =>
  review.events.filter(
    (event) =>
      event.label === label &&
      ["confirmed", "corrected", "added"].includes(event.state) &&
      overlap(spanOf(event), span) > 0,
  );

/** What of an event the spans leave. @returns {SoundEvent[]} the first of them has its id */
function clipped(event, spans) {
  if (!spans.some((span) => overlap(spanOf(event), span))) return [event];
  return spans
    .reduce(subtract, [spanOf(event)])
    .filter((part) => part.end - part.start >= SHORTEST_SECONDS)
    .map(({ start, end }, k) => ({ ...event, id: k ? newId() : event.id, onset: start, offset: end }));
}

/**
 * No sound of the class in the stretch: what was detected there is denied, and what reaches out of
 * it ends or begins at its edge, as nothing was said of the rest.
 */
export function markAbsent(review, label, span) {
  const events = review.events.flatMap((event) => {
    const undecided = event.label === label && event.state === "detected";
    if (!undecided || !overlap(spanOf(event), span)) return [event];
    const left = clipped(event, [span]);
    return left.length ? left : [{ ...event, state: /** @type {State} */ ("deleted") }];
  });
  const spans = union([...review.absent.filter((each) => each.label === label), span]);
  const others = review.absent.filter((each) => each.label !== label);
  return { ...review, events, absent: [...others, ...spans.map((each) => ({ label, ...each }))] };
}

export const unmarkAbsent = (review, label, span) => withSound(review, label, span);

/**
 * The review with what was decoded anew in place of the detected events that nobody touched.
 * Nothing new appears where a person decided: in reviewed stretches, in stretches without the
 * class, and where an event of the class was confirmed, corrected, added or denied.
 *
 * @param {Review} review
 * @param {{onset: number, offset: number, label: string, score: number}[]} decoded
 */
export function withDecoded(review, decoded) {
  const inReviewed = (event) => review.reviewed.some((span) => lies(event, span));
  const kept = review.events.filter((event) => event.state !== "detected" || inReviewed(event));
  const loose = review.events.filter((event) => event.state === "detected" && !inReviewed(event));
  const mostly = (event, span) =>
    overlap(spanOf(event), span) >
    0.5 * Math.min(event.offset - event.onset, span.end - span.start);
  const decidedOf = new Map();
  for (const event of kept) append(decidedOf, event.label, spanOf(event));
  for (const each of review.absent) append(decidedOf, each.label, each);
  const silentOf = (label) => review.absent.filter((each) => each.label === label);
  const looseOf = new Map();
  for (const event of loose) append(looseOf, event.label, event);
  const fresh = decoded
    .filter((event) => !inReviewed(event))
    .filter((event) => !(decidedOf.get(event.label) ?? []).some((span) => mostly(event, span)))
    .map((event) => {
      // The same id for what is still the same event, so that a selection survives a slider.
      const candidates = looseOf.get(event.label) ?? [];
      const same = candidates.findIndex((each) => mostly(event, spanOf(each)));
      const id = same < 0 ? newId() : candidates.splice(same, 1)[0].id;
      return { ...event, id, state: /** @type {State} */ ("detected") };
    })
    .flatMap((event) => clipped(event, silentOf(event.label)));
  return { ...review, events: [...kept, ...fresh] };
}

/**
 * What was decided, with the events of another model in place of those that nobody touched. Reviewed
 * is only what both say: whoever reviewed the rest did not look for the other model's classes.
 *
 * @param {Review} review
 * @param {Review} other as the other model shows the recording
 */
export function underModel(review, other) {
  const decided = review.events.filter((event) => event.state !== "detected");
  const detected = other.events.filter((event) => event.state === "detected");
  const reviewed = other.reviewed.reduce(subtract, review.reviewed).reduce(subtract, review.reviewed);
  return withDecoded({ ...review, events: decided, reviewed, rules: other.rules }, detected);
}

function append(map, key, value) {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

/** Whether two documents say the same, whatever their order. */
export function same(a, b) {
  const plain = (review) =>
    JSON.stringify([
      review.events
        .map((event) => [event.id, event.onset, event.offset, event.label, event.score, event.state])
        .sort((x, y) => (x[0] < y[0] ? -1 : 1)),
      review.absent.map((each) => [each.label, each.start, each.end]).sort(),
      union(review.reviewed).map((span) => [span.start, span.end]),
      Object.entries(review.rules).map(([label, rule]) => [label, Object.entries(rule).sort()]).sort(),
    ]);
  return plain(a) === plain(b);
}

/** The document now, and the way back and forth. */
export class History {
  /** @param {Review} review */
  constructor(review) {
    this.present = review;
    this.past = /** @type {[Review, string][]} */ ([]);
    this.future = /** @type {[Review, string][]} */ ([]);
    this._before = /** @type {Review | null} */ (null);
  }

  /** The document that previews lead away from. */
  get base() {
    return this._before ?? this.present;
  }

  /** A document on the way to another one, while a pointer drags: no step of its own. */
  preview(review) {
    this._before ??= this.present;
    this.present = review;
  }

  /** A new document; `words` say what was done. @returns {boolean} whether it is another one */
  commit(review, words) {
    const before = this.base;
    this._before = null;
    this.present = review;
    if (review === before) return false;
    this.past.push([before, words]);
    if (this.past.length > 500) this.past.shift();
    this.future = [];
    return true;
  }

  /** Back to what was before the preview began. */
  cancel() {
    if (this._before) this.present = this._before;
    this._before = null;
  }

  /** @returns {string | null} what was undone */
  undo() {
    return this._step(this.past, this.future);
  }

  /** @returns {string | null} what was done again */
  redo() {
    return this._step(this.future, this.past);
  }

  _step(from, to) {
    this.cancel();
    const step = from.pop();
    if (!step) return null;
    to.push([this.present, step[1]]);
    this.present = step[0];
    return step[1];
  }
}
