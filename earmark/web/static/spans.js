/**
 * Stretches of time as sorted lists of spans that neither overlap nor touch.
 * @typedef {{start: number, end: number}} Span
 */

/** @param {Span[]} spans in any order @returns {Span[]} */
export function union(spans) {
  const joined = [];
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    if (!(span.end > span.start)) continue;
    const last = joined.at(-1);
    if (last && span.start <= last.end) last.end = Math.max(last.end, span.end);
    else joined.push({ start: span.start, end: span.end });
  }
  return joined;
}

/** @param {Span[]} spans @param {Span} hole @returns {Span[]} */
export function subtract(spans, hole) {
  return union(
    spans.flatMap((span) => [
      { start: span.start, end: Math.min(span.end, hole.start) },
      { start: Math.max(span.start, hole.end), end: span.end },
    ].map((part) => (overlap(span, hole) > 0 ? part : span))),
  );
}

/** @param {Span} a @param {Span} b @returns {number} seconds that both cover */
export const overlap = (a, b) => Math.max(0, Math.min(a.end, b.end) - Math.max(a.start, b.start));

/** @param {Span[]} spans @param {Span} span @returns {"all" | "some" | "none"} */
export function cover(spans, span) {
  const covered = union(spans).reduce((sum, each) => sum + overlap(each, span), 0);
  if (covered >= span.end - span.start - 1e-6) return "all";
  return covered > 0 ? "some" : "none";
}

/** @param {Span[]} spans @returns {number} */
export const total = (spans) => union(spans).reduce((sum, span) => sum + span.end - span.start, 0);
