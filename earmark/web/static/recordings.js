/** The list of recordings, and new ones by dropping or choosing files. */
import { getJson, send, address, upload } from "./api.js";
import { byId, element, setAttribute } from "./dom.js";
import { length } from "./time.js";

export class Recordings {
  /** @param {{open: (recording: any) => void, failed: (error: Error) => void,
   *   say: (words: string) => void, removed: (recording: any) => void}} actions */
  constructor(actions) {
    this._actions = actions;
    this.all = [];
    this._current = null;
    this._notes = new Map();
    const files = byId("files");
    files.addEventListener("change", () => {
      this._take([...files.files]);
      files.value = "";
    });
    byId("filter").addEventListener("input", () => this._draw());
    this._listenToDrops();
  }

  async load() {
    // What is known of a recording changes; that it is this one does not.
    const found = await getJson("/recordings");
    this.all = found.map((each) => Object.assign(this.find(each.id) ?? {}, each));
    this._draw();
  }

  find(id) {
    return this.all.find((recording) => recording.id === id);
  }

  /** Everything about a recording as it is now; the list may not know it, or no longer. */
  async whole(recording) {
    const found = await getJson(`/recordings/${encodeURIComponent(recording.id)}`);
    Object.assign(recording, found);
    this._draw();
    if (found.error) throw new Error(found.error);
    return recording;
  }

  /** Marks the one that is open. */
  show(recording) {
    this._current = recording?.id ?? null;
    this._draw();
  }

  /** Says of a recording whether it is reviewed from start to end. */
  mark(recording, reviewed) {
    if (recording.reviewed === reviewed) return;
    recording.reviewed = reviewed;
    this._draw();
  }

  /** A word about a recording, like how far its analysis is; null takes it away. */
  note(id, words) {
    if ((this._notes.get(id) ?? null) === words) return;
    if (words === null) this._notes.delete(id);
    else this._notes.set(id, words);
    this._draw();
  }

  _draw() {
    const wanted = byId("filter").value.trim().toLowerCase();
    byId("filter-row").hidden = this.all.length < 9;
    const list = byId("recordings");
    const matching = this.all.filter((each) => each.name.toLowerCase().includes(wanted));
    const focused = /** @type {any} */ (document.activeElement)?.dataset?.recording;
    list.replaceChildren(...matching.slice(0, 500).map((recording) => this._item(recording)));
    if (focused) list.querySelector(`[data-recording="${CSS.escape(focused)}"]`)?.focus();
    byId("no-recordings").hidden = this.all.length > 0;
    byId("more-recordings").hidden = matching.length <= 500;
    byId("all-recordings").hidden = this.all.length < 2;
  }

  _item(recording) {
    const known = recording.duration_seconds === null ? "" : length(recording.duration_seconds);
    const note = this._notes.get(recording.id) ?? (recording.error ? "unreadable" : known);
    const button = element(
      "button",
      { type: "button", class: "recording", on: { click: () => this._actions.open(recording) } },
      element("span", { class: "name" }, recording.name),
      element("span", { class: "note" }, recording.reviewed ? `✓ reviewed · ${note}` : note),
    );
    button.dataset.recording = recording.id;
    button.title = recording.error ?? recording.name;
    setAttribute(button, "aria-current", recording.id === this._current ? "true" : null);
    if (!recording.uploaded) return element("li", {}, button);
    const remove = element("button", {
      type: "button",
      class: "quiet small",
      textContent: "×",
      title: "Remove",
      "aria-label": `Remove ${recording.name}`,
      on: { click: () => this._remove(recording) },
    });
    return element("li", {}, button, remove);
  }

  async _remove(recording) {
    if (!confirm(`Remove ${recording.name} and what was decided about it?`)) return;
    try {
      await send("DELETE", address(`/recordings/${encodeURIComponent(recording.id)}`));
      this.all = this.all.filter((each) => each !== recording);
      this._draw();
      this._actions.removed(recording);
      byId("files").focus();
    } catch (error) {
      this._actions.failed(error);
    }
  }

  _listenToDrops() {
    const body = document.body;
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    body.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      body.classList.add("dropping");
    });
    body.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) body.classList.remove("dropping");
    });
    body.addEventListener("drop", (event) => {
      body.classList.remove("dropping");
      if (!hasFiles(event)) return;
      event.preventDefault();
      this._take([...event.dataTransfer.files]);
    });
  }

  /** Uploads files one after another, and opens the first of them. */
  async _take(files) {
    const progress = byId("upload");
    const bar = progress.querySelector("progress");
    const words = progress.querySelector("span");
    let first = true;
    progress.hidden = false;
    for (const file of files) {
      words.textContent = `Sending ${file.name}`;
      bar.value = 0;
      try {
        const answer = await upload(file, (share) => {
          bar.value = share;
          if (share === 1) words.textContent = `Reading ${file.name}`;
        });
        await this.load();
        const recording = this.find(answer.id);
        this._actions.say(`${recording.name} is here`);
        if (first) this._actions.open(recording);
        first = false;
      } catch (error) {
        this._actions.failed(error);
      }
    }
    progress.hidden = true;
  }
}
