/** Colours for what is drawn on a canvas: those of the style sheet, which knows the scheme. */

/** Class k has the colour k mod this; its lane and its name tell it from the others as well. */
export const CLASS_COLOURS = 8;

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Silence to loud, as red, green, blue. */
const SCALES = {
  light: [[250, 250, 252], [205, 216, 236], [120, 150, 205], [60, 78, 150], [30, 20, 70]],
  dark: [[16, 20, 28], [32, 52, 92], [46, 106, 150], [118, 190, 180], [250, 246, 214]],
};

/** Calls back now and whenever the scheme changes. */
export function onScheme(listener) {
  dark.addEventListener("change", listener);
  listener();
}

export const scheme = () => (dark.matches ? "dark" : "light");

export function canvasColours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: read("text-soft"),
    surface: read("surface"),
    line: read("line"),
    wave: read("wave"),
    played: read("played"),
    cursor: read("cursor"),
    reviewed: read("reviewed"),
    reviewedWash: read("reviewed-wash"),
    absent: read("absent"),
    threshold: read("text-soft"),
    classes: Array.from({ length: CLASS_COLOURS }, (_, k) => read(`class-${k}`)),
  };
}

/** 256 colours of the spectrogram for a scheme, as (256 * 3) bytes. */
export function spectrogramPalette(name) {
  const stops = SCALES[name];
  const palette = new Uint8ClampedArray(256 * 3);
  for (let level = 0; level < 256; level++) {
    const place = (level / 255) * (stops.length - 1);
    const k = Math.min(Math.floor(place), stops.length - 2);
    for (let c = 0; c < 3; c++) {
      palette[3 * level + c] = stops[k][c] + (place - k) * (stops[k + 1][c] - stops[k][c]);
    }
  }
  return palette;
}
