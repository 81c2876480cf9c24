"""The page of a report: what was found in many recordings, to read, to look at, to listen to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from earmark.outputs.html import data_url, document, framed, listed, number, table, text
from earmark.outputs.report import ClassCounts, Period, Recording, TimeCounts
from earmark.outputs.report_examples import (
    LONGEST_SECONDS,
    PADDING_SECONDS,
    SPREAD,
    SURE,
    UNSURE,
    Example,
)
from earmark.outputs.scorecards import Table

MOST_BYTES = 10_000_000
"""Examples are left out before a page is larger."""

MOST_CLASSES_OVER_TIME = 60
MOST_RECORDINGS = 300
MOST_FAILURES = 100
LEVELS = 5

_STYLE = """
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
:root { --l1: #e3eef9; --l2: #c3dcf2; --l3: #9cc6e8; --l4: #74addb; --l5: #4e94ca; --deep: #000; }
@media (prefers-color-scheme: dark) { :root { --l1: #14283a; --l2: #183a58; --l3: #1c4c76;
  --l4: #205d92; --l5: #236cab; --deep: #fff; } }
@media print { :root { --l1: #eee; --l2: #ddd; --l3: #ccc; --l4: #bbb; --l5: #aaa; --deep: #000; }
  thead button { all: unset; } audio, .skip { display: none; } li { break-inside: avoid; }
  .scroll { overflow: visible; } }
thead th { white-space: normal; vertical-align: bottom; }
.times th, .times td { padding: .18rem .3rem; text-align: center; }
.times tr > :first-child { padding-left: 0; text-align: left; }
.l1 { background: var(--l1); } .l2 { background: var(--l2); } .l3 { background: var(--l3); }
.l4 { background: var(--l4); } .l5 { background: var(--l5); }
.l1, .l2, .l3, .l4, .l5 { color: var(--deep); print-color-adjust: exact; }
thead button { font: inherit; color: inherit; text-align: inherit; background: none;
  border: 0; padding: 0; cursor: pointer; text-decoration: underline dotted; }
[aria-sort=ascending] button::after { content: " \\2191"; content: " \\2191" / ""; }
[aria-sort=descending] button::after { content: " \\2193"; content: " \\2193" / ""; }
.examples { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.examples svg { width: 100%; height: 8rem; display: block; }
.examples audio { width: 100%; height: 2.4rem; }
.extent { fill: var(--link); } .head { stroke: #fff; stroke-width: 2; visibility: hidden; }
.playing .head { visibility: visible; }
.skip { position: absolute; left: -100rem; } .skip:focus { position: static; }
nav ul { padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
"""

# Sorts tables, shows in a picture where its sound is, and plays one sound at a time.
_SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].textContent;
      const compare = (a, b) => {
        const [x, y] = [a, b].map((cell) => (cell === "-" ? -Infinity : Number(cell)));
        if (x === y) return 0;
        return isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y;
      };
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (down ? -1 : 1) * compare(key(a), key(b)));
      table.tBodies[0].append(...rows);
    });
  });
}
const sounds = [...document.querySelectorAll("audio")];
for (const sound of sounds) {
  const picture = sound.closest("figure");
  const head = picture.querySelector(".head");
  const width = picture.querySelector("svg").viewBox.baseVal.width;
  const move = () => {
    const place = sound.duration ? (width * sound.currentTime) / sound.duration : 0;
    head.setAttribute("x1", place);
    head.setAttribute("x2", place);
    if (!sound.paused) requestAnimationFrame(move);
  };
  sound.addEventListener("play", () => {
    sounds.forEach((other) => other !== sound && other.pause());
    picture.classList.add("playing");
    move();
  });
  sound.addEventListener("seeked", move);
}
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a report tells.

    Attributes:
        title: of the page.
        totals: names and values, in order.
        classes: what was found of each.
        thresholds: of each class by name, where a model says them.
        hours, dates: events over time, of recordings whose start is known.
        period: what a bin of ``dates`` is.
        undated: how many recordings have no known start.
        recordings: all of them.
        heard: what the spectrograms show, from and to which frequency in Hz.
        failures: a line for each recording that can't be read or isn't there.
        remarks: what else was left out.
    """

    title: str
    totals: Sequence[tuple[str, str]]
    classes: Sequence[ClassCounts]
    thresholds: dict[str, float]
    hours: TimeCounts
    dates: TimeCounts
    period: Period
    undated: int
    recordings: Sequence[Recording]
    heard: tuple[float, float]
    failures: Sequence[str]
    remarks: Sequence[str]


def page(
    findings: Findings, examples: Iterable[Example], most_bytes: int = MOST_BYTES
) -> tuple[str, int]:
    """The page as text, and how many of the examples are on it.

    All names are taken literally, whatever marks they hold. Examples are taken, in their order,
    as long as the page stays within ``most_bytes``; those that don't fit are not asked for.
    """
    frame = len(_document(findings, []).encode())
    taken: list[tuple[Example, str]] = []
    full = False
    for shown in examples:
        item = _item(shown)
        frame += len(item.encode()) + _HEADING_BYTES + 2 * len(shown.choice.event.label.encode())
        if full := frame > most_bytes:
            break
        taken.append((shown, item))
    return _document(findings, taken, full), len(taken)


_HEADING_BYTES = 400
"""More than an example adds to headings and links."""


def _document(
    findings: Findings, examples: Sequence[tuple[Example, str]], full: bool = False
) -> str:
    parts = [
        '<a class="skip" href="#examples">Skip to the examples</a>',
        f"<h1>{text(findings.title)}</h1>",
        "<dl>",
        *(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in findings.totals),
        "</dl>",
        "<h2>Classes</h2>",
        table(_class_rows(findings), "classes", sortable=True),
        *_over_time(findings),
        *_gallery(findings, examples, full),
        "<h2>Recordings</h2>",
        *_recordings(findings),
    ]
    if findings.failures or findings.remarks:
        parts += [
            "<h2>Left out</h2>",
            listed([*findings.remarks, *findings.failures], MOST_FAILURES),
        ]
    return document(findings.title, parts, style=_STYLE, script=_SCRIPT)


def _class_rows(findings: Findings) -> Table:
    hours = sum(recording.duration_seconds for recording in findings.recordings) / 3600
    head = ["class", "events", "recordings", "events an hour", "minutes in all"]
    head += ["median length (s)", "median score", "highest score"]
    rows = [[*head, *(["threshold"] if findings.thresholds else [])]]
    for found in findings.classes:
        row = [found.name, str(found.events), str(found.recordings)]
        row += [number(found.events / hours if hours else None, 2), number(found.seconds / 60, 1)]
        row += [number(found.median_seconds, 2), number(found.middle, 3), number(found.highest, 3)]
        if findings.thresholds:
            row.append(number(findings.thresholds.get(found.name), 3))
        rows.append(row)
    return rows


def _over_time(findings: Findings) -> list[str]:
    """Two tables, or why there are none."""
    parts = ["<h2>Time of day</h2>"]
    if not findings.dates.bins:
        why = "No recording says when it was begun, neither in the table nor by its name or header."
        return [*parts, f"<p>{why}</p>"]
    known = len(findings.recordings) - findings.undated
    parts.append(
        "<p>Each number counts the events that begin in an hour, by the recorder's own clock. The "
        "deeper the colour, the more there were for an hour of recording: what was recorded "
        "longer holds more.</p>"
    )
    if findings.undated:
        parts.append(
            f"<p>Counted are the {known} recordings of which it is known when they were begun; of "
            f"{findings.undated} it is not.</p>"
        )
    parts.append(_time_table(findings, findings.hours, "hour", "events by the hour of the day"))
    parts.append("<h2>Dates</h2>")
    parts.append(_time_table(findings, findings.dates, findings.period, "events by date"))
    return parts


def _time_table(findings: Findings, times: TimeCounts, unit: str, name: str) -> str:
    """A row for each class; of too many those with the most events. Dates run down instead."""
    counts = {found.name: found.events for found in findings.classes if found.events}
    most = sorted(counts, key=lambda name: -counts[name])[:MOST_CLASSES_OVER_TIME]
    names = [name for name in counts if name in most and name in times.counts]
    recorded = [_minutes(seconds) for seconds in times.recorded_seconds]
    cells = {
        name: [_cell(times, name, place) for place in range(len(times.bins))] for name in names
    }
    left = len(counts) - len(names)
    caption = f"<caption>{left} classes are left out.</caption>\n" if left else ""
    recorded_cells = [f"<td>{text(cell)}</td>" for cell in recorded]
    columns = [("minutes recorded", recorded_cells), *cells.items()]
    if unit == "hour":
        head = [unit, *times.bins]
        rows = [(label, row) for label, row in columns]
    else:
        head = [unit, *(label for label, _ in columns)]
        rows = [(bin, [row[n] for _, row in columns]) for n, bin in enumerate(times.bins)]
    lines = ["".join(f'<th scope="col">{text(cell)}</th>' for cell in head)]
    lines += [f'<th scope="row">{text(label)}</th>{"".join(row)}' for label, row in rows]
    top, *below = (f"<tr>{line}</tr>" for line in lines)
    body = "\n".join(below)
    return framed(f"{caption}<thead>{top}</thead>\n<tbody>\n{body}\n</tbody>", name, "times")


def _cell(times: TimeCounts, name: str, place: int) -> str:
    count = times.counts[name][place]
    if not count:
        return "<td>0</td>" if times.recorded_seconds[place] else "<td></td>"
    return f'<td class="l{times.shade(name, place, LEVELS)}">{count}</td>'


def _minutes(seconds: float) -> str:
    return "" if not seconds else "<1" if seconds < 60 else f"{seconds / 60:.0f}"


def _gallery(findings: Findings, examples: Sequence[tuple[Example, str]], full: bool) -> list[str]:
    low, high = (f"{hz / 1000:g} kHz" for hz in findings.heard)
    parts = [
        '<h2 id="examples" tabindex="-1">Examples</h2>',
        f"<p>Each with {PADDING_SECONDS:g} s before and after, of long ones the first "
        f"{LONGEST_SECONDS:g} s. Spectrograms go from {low} at the bottom to {high} on mel bands, "
        "over the upper 80 dB; the bar below is the event. Sounds hold what lies below 11 kHz.</p>",
    ]
    if not examples:
        return [*parts, "<p>There is no event to show.</p>"]
    if full:
        parts.append("<p>There is no room for more of them on this page.</p>")
    names = [found.name for found in findings.classes]
    of_class: dict[str, list[tuple[Example, str]]] = {}
    for item in examples:
        of_class.setdefault(item[0].choice.event.label, []).append(item)
    shown = [(place, name) for place, name in enumerate(names) if name in of_class]
    links = "".join(f'<li><a href="#class-{place}">{text(name)}</a></li>' for place, name in shown)
    parts.append(f'<nav aria-label="classes with examples"><ul>{links}</ul></nav>')
    for place, name in shown:
        parts.append(f'<h3 id="class-{place}">{text(name)}</h3>')
        items = sorted(of_class[name], key=_place)
        for why, group in groupby(items, key=lambda item: item[0].choice.why):
            cards = "\n".join(card for _, card in group)
            label = text(f"{name}: {why}")
            parts.append(f"<h4>{why.capitalize()}</h4>")
            parts.append(f'<ul class="examples" aria-label="{label}">\n{cards}\n</ul>')
    return parts


def _place(item: tuple[Example, str]) -> tuple[int, float]:
    """The surest from the highest score down, the least sure from the lowest up."""
    choice = item[0].choice
    score = choice.event.score or 0.0
    order = (SURE, UNSURE, SPREAD)
    return order.index(choice.why), score if choice.why == UNSURE else -score


def _item(shown: Example) -> str:
    """A picture and a sound, with where they are from."""
    choice, event, recording = shown.choice, shown.choice.event, shown.choice.recording
    begin, end = choice.start_seconds, choice.stop_seconds
    when = f"{event.onset_seconds:.2f} to {event.offset_seconds:.2f} s"
    name = f"{event.label}, {recording.name}, {when}"
    lines = [f"<b>{text(recording.name)}</b>", when]
    if event.score is not None:
        lines.append(f"score {event.score:.3f}")
    clock = recording.clock_time(event.onset_seconds)
    if clock is not None:
        lines.append(clock.isoformat(sep=" ", timespec="seconds"))
    across = shown.columns / max(end - begin, 1e-9)
    left = (event.onset_seconds - begin) * across
    width = max(min(event.offset_seconds, end) - event.onset_seconds, 0) * across
    bar = shown.bands / 16
    return (
        f"<li><figure>\n<figcaption>{'<br>'.join(lines)}</figcaption>\n"
        f'<svg viewBox="0 0 {shown.columns} {shown.bands + 2 * bar:g}" '
        f'preserveAspectRatio="none" role="img" aria-label="{text(f"spectrogram: {name}")}">'
        f'<image width="{shown.columns}" height="{shown.bands}" preserveAspectRatio="none" '
        f'href="{data_url(shown.picture, "image/png")}"/>'
        f'<rect class="extent" x="{left:.2f}" y="{shown.bands + bar / 2:g}" '
        f'width="{max(width, 1):.2f}" height="{bar:g}"/>'
        f'<line class="head" y1="0" y2="{shown.bands}" vector-effect="non-scaling-stroke"/></svg>\n'
        f'<audio controls preload="none" aria-label="{text(f"sound: {name}")}" '
        f'src="{data_url(shown.sound, "audio/mpeg")}"></audio>\n</figure></li>'
    )


def _recordings(findings: Findings) -> list[str]:
    with_most = sorted(findings.recordings, key=lambda r: (-len(r.events), r.name))
    shown = sorted(with_most[:MOST_RECORDINGS], key=lambda r: r.name)
    rows: Table = [["recording", "begun", "minutes", "events", "classes"]]
    for recording in shown:
        begun = recording.start.isoformat(sep=" ", timespec="seconds") if recording.start else "-"
        labels = {event.label for event in recording.events}
        row = [recording.name, begun, number(recording.duration_seconds / 60, 1)]
        rows.append([*row, str(len(recording.events)), str(len(labels))])
    left = len(findings.recordings) - len(shown)
    caption = f"The {len(shown)} with the most events; {left} are left out." if left else ""
    return [table(rows, "recordings", sortable=True, caption=caption)]
