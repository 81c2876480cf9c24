/** A lane for each class: its rules, its probability, its events, and where it is known to be absent. */
import { address, patiently } from "./api.js";
import { CLASS_COLOURS } from "./colours.js";
import { clearedContext, element, setAttribute, setText } from "./dom.js";
import { follow } from "./pointer.js";
import { STATES, counted, find, shown } from "./review.js";
import { cover, overlap } from "./spans.js";
import { COLUMNS, Tiles } from "./tiles.js";
import { clock, length } from "./time.js";

/** Events sit above, the curve below. */
const EVENTS_HEIGHT = 32;
/** More buttons than this are no help to anyone: beyond, events are only drawn. */
const MOST_BUTTONS = 300;
const EDGE_PIXELS = 7;

/**
 * @typedef {object} LaneActions
 * @property {(id: string | null) => void} select
 * @property {(time: number) => void} seek
 * @property {(id: string, onset: number, offset: number, done: boolean) => void} move
 * @property {() => void} cancel
 * @property {(label: string, onset: number, offset: number) => void} add
 * @property {(label: string, name: string, value: number | null, done: boolean) => void} rule
 * @property {(label: string, absent: boolean) => void} absent
 * @property {(label: string) => void} enter a lane is in use
 * @property {() => void} redraw
 * @property {(error: Error) => void} failed
 */

export class Lanes {
  /**
   * @param {HTMLElement} root
   * @param {import("./view.js").View} view
   * @param {LaneActions} actions
   */
  constructor(root, view, actions) {
    this._root = root;
    this._view = view;
    this._actions = actions;
    this._lanes = new Map();
    this._recording = null;
    this._model = null;
    this._ghost = null;
    this._curves = new Tiles((...part) => this._fetch(...part), actions.redraw, actions.failed);
  }

  /** Lanes of these classes of the model, for a recording. */
  open(recording, model, labels) {
    const asked = JSON.stringify([recording?.id, model?.id, labels]);
    if (asked === this._asked) return;
    this._asked = asked;
    this._recording = recording;
    this._model = model;
    this._curves.clear();
    this._lanes = new Map(labels.map((label) => [label, this._build(label)]));
    this._root.replaceChildren(...Array.from(this._lanes.values(), (lane) => lane.root));
  }

  /** Curves are read anew: the analysis is there now. */
  refresh() {
    this._curves.clear();
  }

  get labels() {
    return [...this._lanes.keys()];
  }

  focusEvent(id) {
    this._root.querySelector(`[data-event="${CSS.escape(id)}"]`)?.focus({ preventScroll: false });
  }

  colourIndex(label) {
    return Math.max(0, this._model.class_names.indexOf(label)) % CLASS_COLOURS;
  }

  /**
   * @param {import("./review.js").Review} review
   * @param {{selected: string | null, stretch: import("./spans.js").Span, tags: Map<string, any>,
   *   analysed: boolean}} state
   */
  draw(review, state, colours) {
    if (!this._recording) return;
    const { start, end, duration, width } = this._view;
    const pixels = width * (window.devicePixelRatio || 1);
    const tiles = state.analysed ? this._curves.visible(start, end, pixels, duration) : [];
    const all = shown(review);
    const window_ = { start, end };
    const seen = all.filter((e) => overlap({ start: e.onset, end: e.offset }, window_) > 0);
    const selected = state.selected ? find(review, state.selected) : undefined;
    // One event can be reached with Tab; from it, arrow keys go on.
    const entry = selected ?? seen.find((event) => this._lanes.has(event.label));
    for (const [label, lane] of this._lanes) {
      const ofLabel = seen.filter((event) => event.label === label);
      const total = all.reduce((count, event) => count + Number(event.label === label), 0);
      this._drawHead(lane, label, review, state, total);
      this._drawCanvas(lane, label, review, tiles, ofLabel, colours);
      const buttons = ofLabel.slice(0, MOST_BUTTONS);
      if (selected?.label === label && !buttons.includes(selected)) buttons.push(selected);
      this._drawEvents(lane, buttons, selected, entry);
    }
  }

  _rule(label) {
    return this._model.rules.find((rule) => rule.label === label);
  }

  async _fetch(start, end, signal) {
    const { id } = this._recording;
    const path = `/recordings/${encodeURIComponent(id)}/analyses/${encodeURIComponent(this._model.id)}/curves`;
    const query = { start, end, points: COLUMNS, label: this.labels };
    const response = await patiently("GET", address(path, query), { signal });
    return response.json();
  }

  _build(label) {
    const actions = this._actions;
    const id = `lane-${this._model.class_names.indexOf(label)}`;
    const slider = (name, words, max, step) => {
      const output = element("output", { class: "value" });
      const input = element("input", {
        type: "range",
        id: `${id}-${name}`,
        min: 0,
        max,
        step,
        on: {
          input: () => actions.rule(label, name, Number(input.value), false),
          change: () => actions.rule(label, name, Number(input.value), true),
        },
      });
      input.setAttribute("aria-label", `${words} of ${label}`);
      output.htmlFor.add(input.id);
      const row = element(
        "div",
        { class: "rule" },
        element("label", { for: input.id }, words),
        input,
        output,
      );
      return { row, input, output };
    };
    const rule = this._rule(label);
    const threshold = slider("threshold", "Threshold", 1, 0.01);
    const longest = Math.max(3, Math.ceil(4 * rule.min_event_seconds));
    const shortest = slider("min_event_seconds", "Shortest", longest, 0.05);
    const none = element("input", {
      type: "checkbox",
      on: { change: () => actions.absent(label, none.checked) },
    });
    none.setAttribute("aria-label", `No ${label} here`);
    const reset = element("button", {
      type: "button",
      class: "quiet small",
      textContent: "↺",
      title: "Reset to the model's rules",
      "aria-label": `Reset the rules of ${label} to the model's`,
      on: {
        click: () => {
          threshold.input.focus();
          actions.rule(label, "", null, true);
        },
      },
    });
    const count = element("span", { class: "count" });
    const tag = element("span", { class: "tag" });
    const canvas = element("canvas", { "aria-hidden": "true" });
    const events = element("div", { class: "events" });
    const body = element("div", { class: "lane-body" }, canvas, events);
    const head = element(
      "div",
      { class: "lane-head" },
      element(
        "div",
        { class: "lane-title" },
        element("span", { class: "swatch", "aria-hidden": "true" }),
        element("h3", { id: `${id}-name` }, label),
        count,
        tag,
      ),
      threshold.row,
      shortest.row,
      element(
        "div",
        { class: "lane-foot" },
        element("label", { class: "none" }, none, "No such sound here"),
        reset,
      ),
    );
    const root = element(
      "section",
      {
        class: "lane",
        "aria-labelledby": `${id}-name`,
        on: { focusin: () => actions.enter(label), pointerdown: () => actions.enter(label) },
      },
      head,
      body,
    );
    root.dataset.colour = String(this.colourIndex(label));
    body.addEventListener("pointerdown", (event) => this._pointer(event, label, body));
    return { root, body, canvas, events, threshold, shortest, none, reset, count, tag, buttons: new Map() };
  }

  _drawHead(lane, label, review, state, total) {
    const own = this._rule(label);
    const rule = { ...own, ...review.rules[label] };
    const set = (slider, value, text) => {
      if (document.activeElement !== slider.input || Number(slider.input.value) !== value) {
        slider.input.value = String(value);
      }
      slider.input.setAttribute("aria-valuetext", text);
      setText(slider.output, text);
    };
    set(lane.threshold, rule.threshold, rule.threshold.toFixed(2));
    set(lane.shortest, rule.min_event_seconds, length(rule.min_event_seconds));
    for (const { input } of [lane.threshold, lane.shortest]) input.disabled = !state.analysed;
    lane.reset.hidden = !Object.keys(review.rules[label] ?? {}).length;
    setText(lane.count, counted(total));
    const tag = state.tags.get(label);
    setText(lane.tag, tag ? `${Math.round(100 * tag.probability)} %` : "");
    lane.tag.title = tag
      ? `probability that ${label} occurs in the recording: ${tag.present ? "" : "not "}tagged`
      : "";
    const absent = cover(review.absent.filter((each) => each.label === label), state.stretch);
    lane.none.checked = absent === "all";
    lane.none.indeterminate = absent === "some";
    lane.none.disabled = !state.analysed;
  }

  _drawCanvas(lane, label, review, tiles, events, colours) {
    const [width, height] = [this._view.width, lane.body.clientHeight];
    const context = clearedContext(lane.canvas, width, height);
    const colour = colours.classes[this.colourIndex(label)];
    const pixel = (time) => this._view.pixel(time);
    context.fillStyle = colours.reviewedWash;
    for (const span of review.reviewed) {
      context.fillRect(pixel(span.start), 0, pixel(span.end) - pixel(span.start), height);
    }
    for (const span of review.absent) {
      if (span.label === label) hatch(context, pixel(span.start), pixel(span.end), height, colours.absent);
    }
    const [top, bottom] = [EVENTS_HEIGHT + 4, height - 2];
    const level = (value) => bottom - value * (bottom - top);
    context.strokeStyle = context.fillStyle = colour;
    for (const tile of tiles) this._drawCurve(context, tile, label, level, width);
    const threshold = { ...this._rule(label), ...review.rules[label] }.threshold;
    context.strokeStyle = colours.threshold;
    context.lineWidth = 1;
    context.setLineDash([4, 4]);
    context.beginPath();
    const y = Math.round(level(threshold)) + 0.5;
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = colour;
    for (const event of events.slice(MOST_BUTTONS)) {
      const left = pixel(event.onset);
      context.fillRect(left, 8, Math.max(1, pixel(event.offset) - left), EVENTS_HEIGHT - 14);
    }
    if (this._ghost?.label === label) {
      const [left, right] = [pixel(this._ghost.start), pixel(this._ghost.end)];
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.strokeRect(left, 4, right - left, EVENTS_HEIGHT - 6);
    }
  }

  _drawCurve(context, tile, label, level, width) {
    const k = tile.value.class_names.indexOf(label);
    if (k < 0) return;
    const values = tile.value.values[k];
    const { start, step_seconds: step } = tile.value;
    const stop = Math.min(tile.end, this._view.duration);
    const [left, right] = [Math.max(0, this._view.pixel(tile.start)), Math.min(width, this._view.pixel(stop))];
    if (right <= left) return;
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, level(0) + 2);
    context.clip();
    // A finer tile replaces the coarser one that stood in for it.
    context.beginPath();
    const at = (i) => this._view.pixel(start + (i + 0.5) * step);
    context.moveTo(this._view.pixel(start), level(values[0] ?? 0));
    for (let i = 0; i < values.length; i++) context.lineTo(at(i), level(values[i]));
    context.lineTo(this._view.pixel(start + values.length * step), level(values.at(-1) ?? 0));
    context.lineWidth = 1.5;
    context.stroke();
    context.lineTo(this._view.pixel(start + values.length * step), level(0));
    context.lineTo(this._view.pixel(start), level(0));
    context.globalAlpha = 0.22;
    context.fill();
    context.restore();
  }

  _drawEvents(lane, events, selected, entry) {
    const wanted = new Set(events.map((event) => event.id));
    for (const [id, button] of lane.buttons) {
      if (wanted.has(id)) continue;
      lane.buttons.delete(id);
      button.remove();
    }
    for (const event of events) {
      let button = lane.buttons.get(event.id);
      if (!button) {
        button = this._buildEvent(event.id);
        lane.buttons.set(event.id, button);
        lane.events.append(button);
      }
      const left = this._view.pixel(event.onset);
      const width = Math.max(6, this._view.pixel(event.offset) - left);
      button.style.left = `${left}px`;
      button.style.width = `${width}px`;
      button.dataset.state = event.state;
      const score = event.score === null ? "" : `, score ${event.score.toFixed(2)}`;
      const words =
        `${event.label}, ${clock(event.onset)} to ${clock(event.offset)}${score}, ` +
        STATES[event.state].words;
      setAttribute(button, "aria-label", words);
      setAttribute(button, "aria-pressed", event === selected);
      button.tabIndex = event === entry ? 0 : -1;
      button.title = words;
      const sign = STATES[event.state].sign;
      const text = event.score === null ? "" : event.score.toFixed(2);
      setText(button.firstChild, width < 16 ? "" : width < (sign ? 54 : 42) ? sign : `${sign} ${text}`.trim());
    }
    this._drawEdges(lane, selected && events.includes(selected) ? selected : null);
  }

  _buildEvent(id) {
    const button = element(
      "button",
      {
        type: "button",
        class: "event",
        on: { focus: () => this._actions.select(id) },
      },
      element("span"),
    );
    button.dataset.event = id;
    return button;
  }

  /** The edges of the selected event are sliders: Tab goes to them, arrow keys move them. */
  _drawEdges(lane, event) {
    if (!event) {
      lane.edges?.forEach((edge) => edge.remove());
      lane.edges = null;
      return;
    }
    if (lane.edges?.[0].dataset.of !== event.id) {
      lane.edges?.forEach((edge) => edge.remove());
      lane.edges = ["start", "end"].map((side) => this._buildEdge(event.id, side));
      lane.buttons.get(event.id).after(...lane.edges);
    }
    const times = [event.onset, event.offset];
    lane.edges.forEach((edge, k) => {
      const wide = Math.max(6, this._view.pixel(event.offset) - this._view.pixel(event.onset));
      edge.style.left = `${this._view.pixel(event.onset) + (k ? wide : 0)}px`;
      setAttribute(edge, "aria-label", `${k ? "End" : "Start"} of ${event.label}`);
      setAttribute(edge, "aria-valuemin", k ? event.onset : 0);
      setAttribute(edge, "aria-valuemax", k ? this._view.duration : event.offset);
      setAttribute(edge, "aria-valuenow", times[k]);
      setAttribute(edge, "aria-valuetext", clock(times[k]));
    });
  }

  _buildEdge(id, side) {
    const edge = element("div", {
      class: `edge ${side}`,
      role: "slider",
      tabIndex: 0,
      on: { keydown: (event) => this._edgeKey(event, id, side) },
    });
    edge.dataset.of = id;
    edge.dataset.side = side;
    return edge;
  }

  _edgeKey(key, id, side) {
    const direction = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[key.key];
    if (!direction || key.ctrlKey || key.altKey || key.metaKey) return;
    key.preventDefault();
    key.stopPropagation();
    const step = (key.shiftKey ? 10 : 1) * this._model.hop_seconds * direction;
    const edge = /** @type {HTMLElement} */ (key.currentTarget);
    const time = Number(edge.getAttribute("aria-valuenow")) + step;
    this._moveEdge(id, side, time, true);
  }

  _moveEdge(id, side, time, done) {
    this._actions.move(id, side === "start" ? time : NaN, side === "end" ? time : NaN, done);
  }

  _pointer(down, label, body) {
    const box = body.getBoundingClientRect();
    const timeOf = (event) => this._view.time(event.clientX - box.left);
    const target = /** @type {HTMLElement} */ (down.target);
    const button = /** @type {HTMLElement | null} */ (target.closest(".event"));
    const edge = /** @type {HTMLElement | null} */ (target.closest(".edge"));
    const side = edge?.dataset.side ?? (button ? nearEdge(button, down) : null);
    const id = edge?.dataset.of ?? button?.dataset.event;
    if (id && !edge) this._actions.select(id);
    if (id && side) {
      return follow(body, down, {
        drag: (event) => this._moveEdge(id, side, timeOf(event), false),
        drop: (event) => this._moveEdge(id, side, timeOf(event), true),
        cancel: () => this._actions.cancel(),
      });
    }
    if (id) return;
    const first = timeOf(down);
    if (down.pointerType === "touch") {
      // A finger moves the picture; the button adds events.
      const begin = this._view.start;
      const seconds = this._view.span / this._view.width;
      return follow(body, down, {
        click: () => this._actions.seek(first),
        drag: (event) => this._view.moveTo(begin - (event.clientX - down.clientX) * seconds),
      });
    }
    const ghost = (event) => {
      const time = timeOf(event);
      this._ghost = event && { label, start: Math.min(first, time), end: Math.max(first, time) };
      this._actions.redraw();
    };
    const clear = () => {
      this._ghost = null;
      this._actions.redraw();
    };
    follow(body, down, {
      click: () => this._actions.seek(first),
      drag: ghost,
      drop: (event) => {
        clear();
        const time = timeOf(event);
        this._actions.add(label, Math.min(first, time), Math.max(first, time));
      },
      cancel: clear,
    });
  }
}

/** Near which edge of an event that is wide enough the pointer is. */
function nearEdge(button, event) {
  const box = button.getBoundingClientRect();
  if (box.width < 4 * EDGE_PIXELS) return null;
  if (event.clientX - box.left < EDGE_PIXELS) return "start";
  return box.right - event.clientX < EDGE_PIXELS ? "end" : null;
}

function hatch(context, left, right, height, colour) {
  context.save();
  context.beginPath();
  context.rect(left, 0, right - left, height);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  const [from, to] = [Math.max(left, -height), Math.min(right, context.canvas.width)];
  for (let x = Math.floor((from - height) / 8) * 8; x < to; x += 8) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.stroke();
  context.restore();
}
