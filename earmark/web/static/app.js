/** The page: brings desk, player, view and elements together. */
import { address, connection, getJson, send } from "./api.js";
import { canvasColours, onScheme } from "./colours.js";
import { analyse, Desk } from "./desk.js";
import { byId, element, setAttribute, setText } from "./dom.js";
import { Keys } from "./keys.js";
import { Lanes } from "./lanes.js";
import { Overview } from "./overview.js";
import { Picture } from "./picture.js";
import { Player } from "./player.js";
import { follow } from "./pointer.js";
import { Queue } from "./queue.js";
import { Recordings } from "./recordings.js";
import { STATES, counted, reviewedWhole, shown } from "./review.js";
import { cover, total } from "./spans.js";
import { clock, length, wallClock } from "./time.js";
import { View } from "./view.js";

/** With more classes than this, only those that occur get a lane by themselves. */
const ALL_LANES = 12;

const desk = new Desk();
const player = new Player();
const view = new View();
let models = [];
let colours = null;
let lanesOf = new Set();
let opening = new AbortController();
let drawing = false;
/** The event, as it was, to which a time was refused. */
let wrongAbout = null;

// Words for people.

function say(words) {
  // The same words twice are two messages.
  byId("live").textContent = "";
  requestAnimationFrame(() => (byId("live").textContent = words));
}

function complain(error) {
  if (error?.name === "AbortError") return;
  const words = error?.message ?? String(error);
  const alerts = byId("alerts");
  if ([...alerts.children].some((each) => each.firstChild.textContent === words)) return;
  const dismiss = element("button", {
    type: "button",
    class: "quiet small",
    textContent: "×",
    "aria-label": "Dismiss",
    on: { click: () => alert.remove() },
  });
  const alert = element("p", {}, element("span", {}, words), dismiss);
  alerts.append(alert);
  while (alerts.children.length > 4) alerts.firstChild.remove();
}

let awayNotice = null;
connection.addEventListener("away", () => {
  awayNotice = element(
    "p",
    {},
    element(
      "span",
      {},
      "The server does not answer; trying again. Is 'earmark serve' still running? " +
        "What you decide is kept in this browser until then.",
    ),
  );
  byId("alerts").append(awayNotice);
});
connection.addEventListener("back", () => {
  awayNotice?.remove();
  say("The server answers again");
});

// Parts of the page.

const redraw = () => {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
};

const overview = new Overview(byId("overview"), player, view);
const picture = new Picture(
  { axis: byId("axis"), spectrogram: byId("spectrogram") },
  view,
  { redraw, failed: complain },
);
const lanes = new Lanes(byId("lanes"), view, {
  select: (id) => desk.select(id),
  seek: (time) => (player.currentTime = time),
  move: (id, onset, offset, done) => desk.move(id, onset, offset, done),
  cancel: () => desk.cancelMove(),
  add: (label, onset, offset) => focusAfterDrawing(desk.add(label, onset, offset)),
  rule: (label, name, value, done) => desk.setRule(label, name, value, done),
  absent: (label, absent) => desk.setAbsent(label, absent),
  enter: (label) => desk.enter(label),
  redraw,
  failed: complain,
});
const recordings = new Recordings({
  open: (recording) => open(recording),
  failed: complain,
  say,
  removed: (recording) => {
    if (recording === desk.recording) close();
    desk.drop(recording);
  },
});
const queue = new Queue(desk, {
  show: showQuestion,
  failed: complain,
  say,
  ended: queueEnded,
  redraw,
});

// Opening a recording.

async function open(recording) {
  if (!desk.model) return;
  opening.abort(new DOMException("another recording", "AbortError"));
  opening = new AbortController();
  const { signal } = opening;
  const { model } = desk;
  try {
    await recordings.whole(recording);
  } catch (error) {
    return complain(error);
  }
  if (signal.aborted) return;
  desk.begin(recording, model);
  player.open(
    (start, end) => address(`/recordings/${encodeURIComponent(recording.id)}/audio.wav`, { start, end }),
    recording.duration_seconds,
  );
  lanesOf = new Set();
  recordings.show(recording);
  byId("empty").hidden = true;
  byId("recording").hidden = false;
  if (matchMedia("(max-width: 60rem)").matches) byId("side").open = false;
  document.title = `${recording.name} – Earmark`;
  history.replaceState(null, "", `#${new URLSearchParams({ recording: recording.id, model: model.id })}`);
  picture.open(recording);
  measure();
  view.reset(recording.duration_seconds);
  // With the wave of a long recording its shades are settled.
  overview.open(recording).then(() => picture.settle(), complain);
  await findSounds(recording, model, signal);
}

async function findSounds(recording, model, signal) {
  try {
    await analyse(recording, model, (job) => showJob(recording, job), signal);
    showJob(recording, null);
    await desk.load(signal);
    lanes.refresh();
    say(`${counted(shown(desk.review).length)} in ${recording.name}`);
  } catch (error) {
    recordings.note(recording.id, null);
    if (!signal.aborted) showFailure(error);
  }
}

function close() {
  opening.abort(new DOMException("closed", "AbortError"));
  player.pause();
  desk.begin(null, desk.model);
  byId("recording").hidden = true;
  byId("empty").hidden = false;
  document.title = "Earmark";
  history.replaceState(null, "", location.pathname);
}

function showJob(recording, job) {
  const percent = job ? Math.round(100 * (job.progress ?? 0)) : 0;
  recordings.note(recording.id, job && (job.state === "running" ? `${percent} %` : "waiting"));
  if (recording !== desk.recording) return;
  byId("job").hidden = !job;
  if (!job) return;
  const ahead = job.position > 1 ? `${job.position - 1} before it` : "next in the queue";
  const words = {
    queued: `Waiting: ${ahead}`,
    full: "The queue is full: waiting for a place",
    running: `Listening for sounds: ${percent} %`,
  };
  // Whole tens are enough to hear of.
  const spoken = job.state === "running" ? `Listening for sounds: ${Math.floor(percent / 10) * 10} %` : words[job.state];
  setText(byId("job-words"), spoken ?? "");
  const progress = byId("job-progress");
  progress.hidden = false;
  if (job.state === "running") progress.value = job.progress;
  else progress.removeAttribute("value");
  byId("job-cancel").hidden = !job.cancel;
  byId("job-cancel").onclick = () => job.cancel().catch(complain);
  byId("job-again").hidden = true;
}

function showFailure(error) {
  byId("job").hidden = false;
  byId("job-progress").hidden = true;
  byId("job-cancel").hidden = true;
  byId("job-again").hidden = false;
  setText(byId("job-words"), error.message);
}

byId("job-again").addEventListener("click", () => {
  findSounds(desk.recording, desk.model, opening.signal);
});

/** Recordings in which nobody looked for sounds yet, of those that can be read. */
const notAnalysed = () =>
  recordings.all.filter((each) => !each.error && !each.analysed.includes(desk.model.id));

/** What there is to ask about comes from the analyses: those that are missing are begun. */
async function queueEnded(why) {
  await recordings.load();
  const left = notAnalysed().length;
  const words = why ?? (left ? stillAnalysed(left) : "Nothing is left to review");
  sayOfQueue(words);
  say(words);
  if (why || !left) return;
  const { model } = desk;
  findAll().then(() => {
    if (desk.model !== model || queue.running) return;
    const missing = notAnalysed().length;
    sayOfQueue(
      missing ? `${ofRecordings(missing)} could not be analysed` : "All recordings are analysed: ask again",
    );
  }, complain);
}

const ofRecordings = (count) => (count === 1 ? "1 recording" : `${count} recordings`);
const stillAnalysed = (count) =>
  `${ofRecordings(count)} ${count === 1 ? "is" : "are"} still being analysed: ask again when it is done`;

function sayOfQueue(words) {
  setText(byId("queue-words"), words);
}

let findingAll = null;
/** Analyses every recording of the list, one after another. */
const findAll = () => (findingAll ??= analyseAll().finally(() => (findingAll = null)));

async function analyseAll() {
  const button = byId("all-recordings");
  button.disabled = true;
  const { model } = desk;
  let done = 0;
  for (const recording of [...recordings.all]) {
    button.textContent = `Finding sounds: ${done} of ${recordings.all.length}`;
    try {
      await analyse(recording, model, (job) => showJob(recording, job), new AbortController().signal);
      done++;
      recordings.note(recording.id, null);
      recording.analysed = [...new Set([...recording.analysed, model.id])];
      const left = notAnalysed().length;
      // Only where it stands already: nobody asked otherwise.
      if (left && byId("queue-words").textContent) sayOfQueue(stillAnalysed(left));
    } catch (error) {
      recordings.note(recording.id, "failed");
      complain(new Error(`${recording.name}: ${error.message}`));
    }
  }
  button.disabled = false;
  button.textContent = "Find sounds in all";
  say(`Sounds found in ${done} recordings`);
}

async function showQuestion(item) {
  let recording = recordings.find(item.recording);
  if (!recording) {
    await recordings.load();
    recording = recordings.find(item.recording);
  }
  if (!recording) return false;
  if (recording !== desk.recording || !desk.analysed) await open(recording);
  const event = desk.review.events.find((each) => each.id === item.event.id);
  if (!event || event.state !== "detected") return false;
  const around = Math.max(1.5, event.offset - event.onset);
  view.show(event.onset - around, event.offset + around);
  desk.select(event.id);
  focusAfterDrawing(event.id);
  player.playStretch(Math.max(0, event.onset - 0.5), event.offset + 0.5);
  return true;
}

// Drawing.

function labelsShown() {
  const names = desk.model?.class_names ?? [];
  if (names.length <= ALL_LANES) return names;
  for (const event of shown(desk.review)) lanesOf.add(event.label);
  return names.filter((name) => lanesOf.has(name));
}

function measure() {
  const width = byId("spectrogram").clientWidth;
  if (width) view.width = width;
}

function draw() {
  if (!desk.recording || !colours) return;
  lanes.open(desk.recording, desk.model, labelsShown());
  measure();
  picture.draw(colours);
  lanes.draw(
    desk.review,
    { selected: desk.selected, stretch: desk.stretch, tags: desk.tags, analysed: desk.analysed },
    colours,
  );
  overview.draw(desk.review, colours, (label) => colours.classes[lanes.colourIndex(label)]);
  drawTitle();
  drawStretch();
  drawCursor();
  drawInspector();
  drawKept();
}

function drawTitle() {
  const { recording, review, model } = desk;
  setText(byId("name"), recording.name);
  const about = [length(recording.duration_seconds)];
  if (recording.start_time) about.push(`from ${wallClock(recording.start_time, 0)}`);
  const few = desk.shownUntil < Infinity ? `, of ${desk.found} found only those up to ${clock(desk.shownUntil, 0)}` : "";
  if (desk.analysed) about.push(counted(shown(review).length) + few);
  setText(byId("about"), about.join(" · "));
  const picker = byId("class-to-show");
  const missing = model.class_names.filter((name) => !labelsShown().includes(name));
  byId("more-classes").hidden = !missing.length;
  if (missing.length !== picker.length - 1) {
    picker.replaceChildren(new Option("choose", ""), ...missing.map((name) => new Option(name, name)));
  }
  for (const id of ["add", "reviewed", "event-class", "download"]) byId(id).disabled = !desk.analysed;
  byId("undo").disabled = !desk.history.past.length;
  byId("redo").disabled = !desk.history.future.length;
}

function drawStretch() {
  const { stretch, review } = desk;
  setText(byId("stretch-words"), desk.stretchWords());
  byId("stretch-whole").hidden = !desk.chosenStretch;
  const covered = cover(review.reviewed, stretch);
  setText(byId("reviewed"), covered === "all" ? "✓ Reviewed" : "Mark reviewed");
  setAttribute(byId("reviewed"), "aria-pressed", covered === "all");
  const seconds = total(review.reviewed);
  const share = Math.round((100 * seconds) / view.duration);
  setText(byId("reviewed-words"), seconds ? `${share} % of the recording is reviewed` : "");
  const box = byId("stretch");
  box.hidden = !desk.chosenStretch;
  if (!desk.chosenStretch) return;
  const left = Math.max(0, view.pixel(stretch.start));
  const right = Math.min(view.width, view.pixel(stretch.end));
  box.hidden = right <= left;
  box.style.left = `${bodyLeft() + left}px`;
  box.style.width = `${Math.max(1, right - left)}px`;
}

const bodyLeft = () => byId("spectrogram").offsetLeft;

function drawCursor() {
  const time = player.currentTime;
  const cursor = byId("cursor");
  cursor.hidden = time < view.start || time > view.end;
  cursor.style.transform = `translateX(${bodyLeft() + view.pixel(time)}px)`;
  setText(byId("cursor-time"), `${clock(time)} / ${clock(view.duration, 0)}`);
  setText(byId("wall-clock"), wallClock(desk.recording?.start_time, time) ?? "");
}

function drawInspector() {
  const { event, model } = desk;
  const asked = queue.asks(event);
  byId("inspector-fields").hidden = !event && !queue.running;
  byId("inspector-hint").hidden = Boolean(event) || queue.running;
  byId("inspector").classList.toggle("asking", asked);
  byId("inspector").classList.toggle("idle", !event && !queue.running);
  byId("queue-next").hidden = byId("queue-stop").hidden = !queue.running;
  for (const id of ["event-class", "event-start", "event-end"]) byId(id).parentElement.hidden = !event;
  for (const id of ["event-play", "event-yes", "event-no"]) byId(id).hidden = !event;
  if (!event) return setText(byId("inspector-title"), "No event chosen");
  const score = event.score === null ? "" : ` · score ${event.score.toFixed(2)}`;
  setText(byId("yes-words"), asked ? "Yes" : "Right");
  setText(byId("no-words"), asked ? "No" : "Delete");
  const words = asked
    ? `Is this ${event.label}?${score} · question ${queue.number} of ${queue.length}`
    : `${event.label}${score} · ${STATES[event.state].words}`;
  setText(byId("inspector-title"), words);
  const picker = byId("event-class");
  if (picker.dataset.model !== model.id) {
    picker.dataset.model = model.id;
    picker.replaceChildren(
      ...model.class_names.map((name, k) => new Option(k < 9 ? `${k + 1}  ${name}` : name, name)),
    );
  }
  picker.value = event.label;
  for (const [id, time] of [["event-start", event.onset], ["event-end", event.offset]]) {
    const field = byId(id);
    if (field !== document.activeElement) field.value = clock(time, 3);
  }
  if (wrongAbout && wrongAbout !== event) sayWrong(null, null);
  setAttribute(byId("event-yes"), "aria-pressed", event.state !== "detected");
}

function drawKept() {
  const words = {
    kept: desk.review.events.length ? "Everything is kept" : "",
    keeping: "Keeping …",
    waiting: "Not kept yet: the server is away",
    refused: "Not kept",
    conflict: "Not kept: two versions",
  };
  setText(byId("kept"), desk.keeper ? words[desk.keeper.state] : "");
  byId("kept").dataset.state = desk.keeper?.state ?? "kept";
}

/** Gives the focus to an event's button once it is drawn. */
function focusAfterDrawing(id) {
  redraw();
  requestAnimationFrame(() => requestAnimationFrame(() => lanes.focusEvent(id)));
}

// What people do.

function go(event) {
  if (!event) return say("No event there");
  desk.select(event.id);
  view.reveal(event.onset, event.offset);
  player.currentTime = event.onset;
  focusAfterDrawing(event.id);
}

function togglePlay() {
  if (player.paused) player.play();
  else player.pause();
}

function playEvent() {
  const { event } = desk;
  if (!event) return togglePlay();
  if (!player.paused) return player.pause();
  player.playStretch(event.onset, event.offset);
}

function addAtCursor() {
  if (!desk.analysed) return;
  const start = Math.min(player.currentTime, view.duration - 0.05);
  const seconds = Math.min(1, 0.1 * view.span);
  const id = desk.add(desk.label, start, start + Math.max(seconds, desk.model.hop_seconds));
  focusAfterDrawing(id);
}

const withEvent = (action) => () => {
  if (desk.event && desk.analysed) action(desk.event);
  else say("No event is chosen");
};

const answer = (action) =>
  withEvent((event) => {
    const asked = queue.asks(event);
    action(event);
    if (asked) queue.next();
    else if (desk.event) focusAfterDrawing(desk.event.id);
  });

const yes = answer((event) => desk.confirm(event.id));
const no = answer((event) => desk.remove(event.id));

function becomes(number) {
  const label = desk.model?.class_names[number - 1];
  if (label) answer((event) => desk.relabel(event.id, label))();
}

/** One step of undo or redo; whoever was among the events goes to the one that it changed. */
function step(action) {
  const inside = document.activeElement;
  const among = inside === document.body || inside.matches(".event, .edge, #work");
  action();
  if (among && desk.event) {
    view.reveal(desk.event.onset, desk.event.offset);
    focusAfterDrawing(desk.event.id);
  }
}

function setEdge(side) {
  withEvent((event) => {
    const time = player.currentTime;
    desk.move(event.id, side === "start" ? time : NaN, side === "end" ? time : NaN, true);
  })();
}

function stretchTo(side) {
  const time = player.currentTime;
  const { start, end } = desk.stretch;
  if (side === "start") desk.chooseStretch({ start: time, end: end > time ? end : view.duration });
  else desk.chooseStretch({ start: start < time ? start : 0, end: time });
  say(`Stretch: ${desk.stretchWords()}`);
}

function seekBy(seconds) {
  player.currentTime += seconds;
  view.reveal(player.currentTime, player.currentTime);
}

function escape() {
  if (desk.selected) {
    desk.select(null);
    byId("work").focus();
  } else if (desk.chosenStretch) {
    desk.chooseStretch(null);
    say("Stretch: the whole recording");
  }
}

const key = (press, shows, words, run) => ({
  press: press.split(" ").map((name) => (name === "Space" ? " " : name)),
  shows,
  words,
  run: (event) => desk.recording && run(event),
});

const keys = new Keys([
  {
    title: "Listen",
    keys: [
      key("Space", "Space", "play from the cursor, or stop", togglePlay),
      key("p", "P", "play the chosen event", playEvent),
      key(",", ",", "cursor back", () => seekBy(-0.02 * view.span)),
      key(".", ".", "cursor on", () => seekBy(0.02 * view.span)),
      key("Home", "Home", "cursor to the beginning", () => seekBy(-Infinity)),
      key("End", "End", "cursor to the end", () => seekBy(Infinity)),
    ],
  },
  {
    title: "Look",
    keys: [
      key("+ =", "+", "zoom in", () => zoom(0.5)),
      key("-", "−", "zoom out", () => zoom(2)),
      key("0", "0", "the whole recording", () => view.show(0, view.duration)),
      key("PageUp", "PageUp", "back", () => view.scroll(-0.8)),
      key("PageDown", "PageDown", "on", () => view.scroll(0.8)),
    ],
  },
  {
    title: "Choose an event",
    keys: [
      key("ArrowRight", "→", "the next one", () => go(desk.neighbour(1, player.currentTime))),
      key("ArrowLeft", "←", "the previous one", () => go(desk.neighbour(-1, player.currentTime))),
      key("ArrowDown", "↓", "in the lane below", () => go(desk.across(1, lanes.labels, player.currentTime))),
      key("ArrowUp", "↑", "in the lane above", () => go(desk.across(-1, lanes.labels, player.currentTime))),
      key("Escape", "Esc", "none; then the whole recording as stretch", escape),
    ],
  },
  {
    title: "Correct it",
    keys: [
      { ...key("", "Tab ← →", "to its edges; arrows move them, with Shift ten steps", () => {}), press: [] },
      key("s", "S", "it starts at the cursor", () => setEdge("start")),
      key("e", "E", "it ends at the cursor", () => setEdge("end")),
      key("y", "Y", "right", () => yes()),
      key("n Delete Backspace", "N", "no such sound there: delete", () => no()),
      key("1 2 3 4 5 6 7 8 9", "1 … 9", "it is of that class", (event) => becomes(Number(event.key))),
      key("c", "C", "to its class, where there are more", () => byId("event-class").focus()),
      key("a", "A", "add an event at the cursor", addAtCursor),
      key("Ctrl+z u", "Ctrl Z", "undo", () => step(() => desk.undo())),
      key("Ctrl+Shift+z Ctrl+y Shift+u", "Ctrl Shift Z", "do it again", () => step(() => desk.redo())),
    ],
  },
  {
    title: "Decide about a stretch",
    keys: [
      key("i", "I", "it begins at the cursor", () => stretchTo("start")),
      key("o", "O", "it ends at the cursor", () => stretchTo("end")),
      key("r", "R", "reviewed, or not", () => desk.analysed && desk.toggleReviewed()),
      key("x", "X", "none of this lane's sound there, or maybe", () => desk.analysed && desk.toggleAbsent(desk.label)),
    ],
  },
  {
    title: "Review queue",
    keys: [
      { ...key("q", "Q", "the next question", () => {}), run: () => queue.next() },
      { ...key("?", "?", "these keys", () => {}), run: () => byId("help").showModal() },
    ],
  },
]);

/** Saves what the server gives, once it has the last decision about all recordings, or about one. */
async function save(url, name) {
  try {
    await desk.settled();
    const unkept = desk.unkept.filter((each) => !name || each === name);
    if (unkept.length) {
      throw new Error(`Not saved, as the last decisions about ${unkept.join(", ")} are not kept`);
    }
    const response = await send("GET", url);
    const file = /filename="([^"]*)"/.exec(response.headers.get("Content-Disposition") ?? "");
    const blob = URL.createObjectURL(await response.blob());
    element("a", { href: blob, download: file?.[1] ?? "labels" }).click();
    URL.revokeObjectURL(blob);
  } catch (error) {
    complain(error);
  }
}

function zoom(factor) {
  const time = player.currentTime;
  const inView = time >= view.start && time <= view.end;
  view.zoom(factor, inView ? time : undefined);
}

const onClick = (id, action) => byId(id).addEventListener("click", action);
onClick("play", togglePlay);
onClick("zoom-in", () => zoom(0.5));
onClick("zoom-out", () => zoom(2));
onClick("zoom-fit", () => view.show(0, view.duration));
onClick("undo", () => desk.undo());
onClick("redo", () => desk.redo());
onClick("add", addAtCursor);
onClick("event-play", playEvent);
onClick("event-yes", () => yes());
onClick("event-no", () => no());
onClick("queue-next", () => queue.next());
onClick("queue-stop", () => queue.stop());
onClick("start-queue", () => {
  sayOfQueue("");
  queue.start();
});
onClick("all-recordings", findAll);
onClick("stretch-view", () => desk.chooseStretch({ start: view.start, end: view.end }));
onClick("stretch-whole", () => {
  desk.chooseStretch(null);
  byId("stretch-view").focus();
});
onClick("reviewed", () => desk.toggleReviewed());
onClick("show-help", () => byId("help").showModal());
onClick("download", () => {
  const path = `/recordings/${encodeURIComponent(desk.recording.id)}/download`;
  save(address(path, { model: desk.model.id, format: byId("format").value }), desk.recording.name);
});
onClick("strong-labels", () => save(address("/labels", { kind: "strong" })));
onClick("weak-labels", () => save(address("/labels", { kind: "weak" })));
byId("class-to-show").addEventListener("change", (event) => {
  if (!event.target.value) return;
  lanesOf.add(event.target.value);
  desk.enter(event.target.value);
  redraw();
});
byId("event-class").addEventListener("change", (event) => {
  const label = event.target.value;
  answer((chosen) => desk.relabel(chosen.id, label))();
});
for (const [id, side] of [["event-start", "start"], ["event-end", "end"]]) {
  const field = byId(id);
  const now = () => desk.event && clock(side === "start" ? desk.event.onset : desk.event.offset, 3);
  /** Takes what was typed; what is refused leaves the event, and says why beside the field. */
  const take = () => {
    if (!desk.event || field.value === now()) return true;
    const wrong = desk.moveEdge(desk.event.id, side, field.value);
    field.value = now();
    sayWrong(field, wrong);
    return !wrong;
  };
  field.addEventListener("change", take);
  field.addEventListener("input", () => sayWrong(field, null));
  field.addEventListener("keydown", (press) => {
    if (press.isComposing || !["Enter", "Escape"].includes(press.key)) return;
    press.preventDefault();
    sayWrong(field, null);
    if (press.key === "Escape") field.value = now();
    if (!take()) return field.select();
    if (!desk.event) return;
    // On the event the keys are its own again.
    field.blur();
    view.reveal(desk.event.onset, desk.event.offset);
    focusAfterDrawing(desk.event.id);
  });
}

/** Says what is wrong with a time of the chosen event, until that event is another one. */
function sayWrong(field, words) {
  wrongAbout = words ? desk.event : null;
  for (const id of ["event-start", "event-end"]) {
    setAttribute(byId(id), "aria-invalid", words && byId(id) === field ? "true" : null);
  }
  byId("time-wrong").hidden = !words;
  setText(byId("time-wrong"), words ?? "");
}

byId("help-keys").replaceChildren(...keys.help());
byId("single-keys").checked = keys.on;
byId("single-keys").addEventListener("change", (event) => keys.switch(event.target.checked));
byId("conflict").addEventListener("close", (event) => {
  const dialog = event.target;
  const choice = dialog.returnValue;
  dialog.returnValue = "";
  if (!desk.conflict) return;
  // A browser may close it on Escape, whatever the page says: then nothing was chosen.
  if (choice !== "mine" && choice !== "theirs") return dialog.showModal();
  desk.resolve(choice === "mine");
});
byId("conflict").addEventListener("cancel", (event) => event.preventDefault());

desk.addEventListener("change", () => {
  // Whoever leaves the recording is asked when he comes back.
  if (!desk.conflict) byId("conflict").close();
  if (desk.analysed) recordings.mark(desk.recording, reviewedWhole(desk.review, desk.recording.duration_seconds));
  redraw();
});
desk.addEventListener("say", (event) => say(event.detail));
desk.addEventListener("failed", (event) => complain(event.detail));
desk.addEventListener("conflict", () => byId("conflict").showModal());
desk.addEventListener("keeping", (event) => {
  drawKept();
  if (desk.keeper?.state === "refused") complain(new Error(event.detail));
});
view.addEventListener("change", redraw);
new ResizeObserver(redraw).observe(byId("stage"));

player.addEventListener("play", () => showPlaying(true));
player.addEventListener("pause", () => showPlaying(false));
player.addEventListener("ended", () => showPlaying(false));
player.addEventListener("error", () => complain(player.error));
player.addEventListener("timeupdate", () => {
  if (!desk.recording) return;
  const time = player.currentTime;
  if (!player.paused && (time > view.end || time < view.start) && view.span < view.duration) {
    view.moveTo(time - 0.05 * view.span);
  }
  drawCursor();
});

function showPlaying(playing) {
  setText(byId("play-words"), playing ? "Stop" : "Play");
  setText(byId("play").querySelector(".sign"), playing ? "■" : "▶");
  setAttribute(byId("play"), "aria-pressed", playing);
}

const stage = byId("stage");
stage.addEventListener(
  "wheel",
  (event) => {
    const sideways = event.shiftKey ? event.deltaY : event.deltaX;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      const left = stage.getBoundingClientRect().left + bodyLeft();
      view.zoom(2 ** (event.deltaY / 300), view.time(event.clientX - left));
    } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      event.preventDefault();
      view.moveTo(view.start + (sideways / view.width) * view.span);
    }
  },
  { passive: false },
);

byId("spectrogram").parentElement.addEventListener("pointerdown", (down) => {
  const target = byId("spectrogram").parentElement;
  const { left } = target.getBoundingClientRect();
  const timeOf = (event) => view.time(event.clientX - left);
  const first = timeOf(down);
  const before = desk.chosenStretch;
  const { start, span, width } = view;
  const click = () => (player.currentTime = first);
  if (down.pointerType === "touch") {
    const drag = (event) => view.moveTo(start - ((event.clientX - down.clientX) * span) / width);
    return follow(target, down, { click, drag });
  }
  const choose = (event) => {
    const time = timeOf(event);
    desk.chooseStretch({ start: Math.min(first, time), end: Math.max(first, time) });
  };
  const drop = (event) => {
    choose(event);
    say(`Stretch: ${desk.stretchWords()}`);
  };
  follow(target, down, { click, drag: choose, drop, cancel: () => desk.chooseStretch(before) });
});

window.addEventListener("beforeunload", (event) => {
  // A draft waits in the browser, but other computers would not see it.
  if (desk.unkept.length) event.preventDefault();
});

onScheme(() => {
  colours = canvasColours();
  overview.paint(colours);
  redraw();
});

// The beginning.

async function begin() {
  models = await getJson("/models");
  if (!models.length) throw new Error("The server has no model: start it with --model FOLDER");
  const asked = new URLSearchParams(location.hash.slice(1));
  const picker = byId("model");
  picker.replaceChildren(...models.map((model) => new Option(model.name, model.id)));
  byId("model-field").classList.toggle("single", models.length === 1);
  const choose = () => {
    const model = models.find((each) => each.id === picker.value);
    const { recording } = desk;
    queue.stop();
    sayOfQueue("");
    desk.begin(null, model);
    if (recording) open(recording);
  };
  picker.addEventListener("change", choose);
  if (models.some((model) => model.id === asked.get("model"))) picker.value = asked.get("model");
  choose();
  await showFormats();
  await recordings.load();
  await openAsked();
  window.addEventListener("hashchange", openAsked);
}

/** Opens the recording that the address names, if there is one. */
async function openAsked() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const recording = recordings.find(asked.get("recording"));
  if (recording && recording !== desk.recording) await open(recording);
}

/** The formats are those that the server's own description names. */
async function showFormats() {
  const { paths } = await getJson("/openapi.json");
  const { parameters } = paths["/api/recordings/{recording}/download"].get;
  const names = parameters.find((each) => each.name === "format").schema.enum;
  byId("format").replaceChildren(...names.map((name) => new Option(name, name)));
}

begin().catch(complain);
