/** Times in seconds, and how people write them. */

/**
 * @param {number} seconds
 * @param {number} digits after the point
 * @returns {string} 7.25, 1:07.25 or 1:01:07.25
 */
export function clock(seconds, digits = 2) {
  const units = Math.round(Math.max(0, seconds) * 10 ** digits);
  const whole = Math.floor(units / 10 ** digits);
  const fraction = digits ? "." + String(units % 10 ** digits).padStart(digits, "0") : "";
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (hours) return `${hours}:${two(minutes)}:${two(rest)}${fraction}`;
  return `${minutes}:${two(rest)}${fraction}`;
}

/**
 * @param {string} text 7.25, 7,25, 1:07.25 or 1:01:07.25
 * @returns {number | null} seconds, or null where the text is no time
 */
export function parseClock(text) {
  const parts = text.trim().replace(",", ".").split(":");
  if (parts.length > 3 || !parts.every((part) => /^\d+(\.\d*)?$/.test(part))) return null;
  return parts.reduce((sum, part) => sum * 60 + Number(part), 0);
}

/** A length for reading: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min. */
export function length(seconds) {
  if (seconds < 10) return `${Number(seconds.toFixed(2))} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
}

/** The wall clock at a time of a recording that began at `startTime` (ISO 8601), or null. */
export function wallClock(startTime, seconds) {
  if (!startTime) return null;
  // A time without a zone is the recorder's own clock: shown as it is, in no zone of the reader's.
  const zoned = /(Z|[+-]\d\d:?\d\d)$/.test(startTime);
  const began = Date.parse(zoned ? startTime : `${startTime}Z`);
  if (Number.isNaN(began)) return null;
  const shown = new Date(began + seconds * 1000).toISOString().replace("T", " ");
  return shown.slice(0, 19) + (zoned ? " UTC" : "");
}

/** Round distances of ticks on a time axis: the smallest that is at least `seconds`. */
export function tickStep(seconds) {
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];
  return [...steps, 3600, 7200, 10800, 21600].find((step) => step >= seconds) ?? 43200;
}
