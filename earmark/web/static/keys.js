/** The keyboard: every shortcut once, with its words for the help. */
import { element } from "./dom.js";

const SWITCH = "earmark single keys";

/** Keys that an element under the focus needs for itself. */
function needsItself(target, key) {
  if (target.closest("dialog")) return true;
  if (target.matches("textarea, select, input:not([type=range], [type=checkbox], [type=file])")) {
    return true;
  }
  const moves = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
  if (target.matches("input[type=range]")) return moves.includes(key);
  const presses = [" ", "Enter"];
  const own = "button:not(.event), a, summary, input[type=checkbox], input[type=file]";
  return target.matches(own) && presses.includes(key);
}

export class Keys {
  /**
   * @param {{title: string, keys: {press: string[], shows: string, words: string,
   *   run: (event: KeyboardEvent) => void}[]}[]} groups
   */
  constructor(groups) {
    this._groups = groups;
    this.on = localStorage.getItem(SWITCH) !== "off";
    document.addEventListener("keydown", (event) => this._press(event));
  }

  /** Single keys can be switched off, for those whom they hinder. */
  switch(on) {
    this.on = on;
    localStorage.setItem(SWITCH, on ? "on" : "off");
  }

  _press(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const commanded = event.ctrlKey || event.metaKey;
    if (event.altKey || event.isComposing || needsItself(target, event.key)) return;
    if (!this.on && !commanded) return;
    const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const shifted = event.shiftKey && /^[a-z]$/.test(letter);
    const name = (commanded ? "Ctrl+" : "") + (shifted ? "Shift+" : "") + letter;
    const key = this._groups.flatMap((group) => group.keys).find((each) => each.press.includes(name));
    if (!key) return;
    event.preventDefault();
    key.run(event);
  }

  /** The help's table. */
  help() {
    return this._groups.map((group) =>
      element(
        "section",
        {},
        element("h3", {}, group.title),
        element(
          "dl",
          {},
          ...group.keys.flatMap((key) => [
            element("dt", {}, ...key.shows.split(" ").map((part) => element("kbd", {}, part))),
            element("dd", {}, key.words),
          ]),
        ),
      ),
    );
  }
}
