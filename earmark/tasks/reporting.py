"""Detected events and their recordings in; a page to read, to look at and to listen to."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from earmark.errors import UserError
from earmark.events import in_order
from earmark.folders import files_below
from earmark.formats.detected import TABLE_SUFFIXES, read_detected
from earmark.formats.labels import LabelTable, track_format
from earmark.formats.recorded import START_TIME
from earmark.formats.tables import NAME_COLUMNS, parquet_parts, read_table
from earmark.tasks.progress import counted, lasting, progress
from earmark.tasks.recordings import failure_lines, in_made_folder
from earmark.writing import replacing

if TYPE_CHECKING:
    from earmark.config import FeatureSettings
    from earmark.model.bundle import Description, FusedDescription
    from earmark.outputs.report import Recording
    from earmark.outputs.report_examples import Choice, Example
    from earmark.spectra import NumpyFeatures


@dataclass(frozen=True, slots=True)
class Reported:
    """What a page tells.

    Attributes:
        recordings: how many there are.
        hours: how long they last together.
        events: how many were found.
        examples: how many of them can be looked at and listened to.
        failures: a line for each recording that isn't there or can't be read.
        out: the page.
    """

    recordings: int
    hours: float
    events: int
    examples: int
    failures: list[str]
    out: Path

    def text(self) -> str:
        """What is on the page, in a few lines."""
        what = f"{counted(self.events, 'event')} in {counted(self.recordings, 'recording')}"
        what += f" ({lasting(3600 * self.hours)}), {counted(self.examples, 'example')}"
        lines = [f"{what}: {self.out}"]
        return "\n".join(lines + failure_lines(self.failures, "could not be read or found"))


def report(
    events: Path,
    *,
    audio: Path,
    out: Path,
    model: Path | None = None,
    examples: int = 5,
) -> Reported:
    """Makes a page of what was detected: counts over time, examples to look at and hear.

    The page is one file of at most 10 MB that needs nothing else, no network either. What begins
    at which time of day is told where the events have a column ``start_time``, or the recordings
    say in their names or headers when they were begun.

    Args:
        events: a table of detected events, a folder of such tables, or what a cluster detected.
        audio: the folder of the recordings, all of which were searched for events.
        out: the page to write, a file ending in .html.
        model: the model folder that detected them, for its classes, thresholds and frequencies.
        examples: how many of the surest and of the least sure events of each class are shown, as
            far as there is room.

    Raises:
        UserError: tables or a model that can't be read, or none of the recordings is there.
    """
    if out.suffix.lower() != ".html":
        raise UserError("a report goes to a file ending in .html; rename it", where=out)
    if out.is_dir():
        raise UserError("a report goes to a file, but this is a folder", where=out)
    if not 0 <= examples <= 100:
        raise UserError(f"--examples must lie between 0 and 100, came as {examples}")
    table = read_detected(events)
    if not table.strong and table.rows:
        raise UserError(
            "a report needs events with onset and offset, came with tags alone; give what detect "
            "has written",
            where=events,
        )
    description = None
    if model is not None:
        from earmark.model.bundle import read_description

        description = read_description(model)
        if unknown := sorted(set(table.class_names).difference(description.class_names)):
            raise UserError(
                f"the model has no class '{unknown[0]}' of the events; give the folder of the "
                "model that detected them",
                where=model,
            )

    from earmark.outputs.report import by_date, by_hour, counts_of
    from earmark.outputs.report_examples import choose
    from earmark.outputs.report_page import Findings, page
    from earmark.spectra import NumpyFeatures

    recordings, failures = _recordings(table, events, audio)
    names, thresholds = table.class_names, {}
    if description is not None:
        names = description.class_names
        rules = zip(names, description.decoding, strict=True)
        thresholds = {name: rule.threshold for name, rule in rules}
    features = NumpyFeatures(_shown(model, description))
    period, dates = by_date(recordings)
    told = Reported(
        recordings=len(recordings),
        hours=sum(recording.duration_seconds for recording in recordings) / 3600,
        events=sum(len(recording.events) for recording in recordings),
        examples=0,
        failures=failures,
        out=out,
    )
    findings = Findings(
        title=f"Sounds detected: {events.name}",
        totals=_totals(told, recordings, table, model),
        classes=counts_of(names, recordings),
        thresholds=thresholds,
        hours=by_hour(recordings),
        dates=dates,
        period=period,
        undated=sum(recording.start is None for recording in recordings),
        recordings=recordings,
        heard=(features.settings.low_hz, features.settings.high_hz),
        failures=failures,
        remarks=_remarks(table, recordings),
    )
    chosen = list(choose(names, recordings, examples)) if examples else []
    with progress("examples", len(chosen)) as step:
        shown = _examples(chosen, features, failures, step)
        text, on_page = page(findings, shown)
    with replacing(in_made_folder(out)) as part:
        part.write_text(text, encoding="utf-8")
    return replace(told, examples=on_page)


def _recordings(
    table: LabelTable, events: Path, audio: Path
) -> tuple[list["Recording"], list[str]]:
    """All recordings of a folder with their events, and a line for each that isn't to be had."""
    from earmark.audio import AudioError, duration_seconds, find_recordings
    from earmark.clock_times import start_of
    from earmark.data.labels import find_clips
    from earmark.outputs.report import Recording

    files = find_recordings([audio])
    clips, missing = find_clips(table, audio) if table.rows else ([], [])
    failures = [f"{name}: is in {events.name}, but not in {audio}" for name in missing]
    clip_of = {clip.path: clip for clip in clips}
    started = _starts(table, events)
    recordings = []
    with progress("recordings", len(files)) as step:
        for name, path in files:
            clip = clip_of.get(path)
            try:
                seconds = duration_seconds(path)
            except AudioError as error:
                failures.append(str(error))
            else:
                called = name if clip is None else clip.filename
                start = started.get(called) or start_of(path)
                found = [] if clip is None else in_order(clip.events or ())
                # As the recorder's own clock had it: what is asked is when in its day it was.
                start = start and start.replace(tzinfo=None)
                recordings.append(Recording(called, path, seconds, found, start))
            step()
    return recordings, failures


def _starts(table: LabelTable, events: Path) -> dict[str, datetime]:
    """When recordings were begun, from the clock times of their events where tables have any."""
    paths = {events}
    if events.is_dir():
        paths = {*parquet_parts(events)} or {events / name for name in files_below(events)}
    starts: dict[str, datetime] = {}
    for path in sorted(paths):
        if path.suffix.lower() not in TABLE_SUFFIXES or track_format(path):
            continue
        found = read_table(path)
        if START_TIME not in found.records[0].cells:
            continue
        name, onset = found.need(*NAME_COLUMNS), found.need("onset")
        clock = found.need(START_TIME)
        for row in found.rows:
            if not row.cells[clock] or row.cells[name] in starts:
                continue
            try:
                moment = datetime.fromisoformat(row.cells[clock])
                before = timedelta(seconds=found.seconds(row, onset))
                starts[row.cells[name]] = moment - before
            except (ValueError, OverflowError):
                raise found.error(
                    f"a {START_TIME} must be a date and time as 2025-01-31T05:42:00, came as "
                    f"'{row.cells[clock][:40]}'",
                    row,
                ) from None
    return starts


def _shown(
    model: Path | None, description: "Description | FusedDescription | None"
) -> "FeatureSettings":
    """What spectrograms show: the frequencies that a model hears, in steps of a quarter window."""
    from earmark.config import FeatureSettings

    if model is None or description is None:
        settings = FeatureSettings()
    else:
        from earmark.model.bundle import FusedDescription, members_of, read_description

        while isinstance(description, FusedDescription):
            model = members_of(model, description)[0]
            description = read_description(model)
        settings = description.settings.features
    hop = max(1, settings.window_samples // 4)
    return settings.model_copy(update={"kind": "log_mel", "hop_samples": hop})


def _totals(
    told: Reported, recordings: Sequence["Recording"], table: LabelTable, model: Path | None
) -> list[tuple[str, str]]:
    """What the page says first."""
    with_events = sum(bool(recording.events) for recording in recordings)
    classes = {event.label for recording in recordings for event in recording.events}
    starts = [recording.start for recording in recordings if recording.start is not None]
    totals = [
        ("events", f"{told.events} of {len(classes)} class{'' if len(classes) == 1 else 'es'}"),
        ("recordings", f"{told.recordings}, of which {with_events} have events"),
        ("length", lasting(3600 * told.hours)),
    ]
    if starts:
        first, last = (moment.isoformat(" ", "minutes") for moment in (min(starts), max(starts)))
        totals.append(("begun", f"from {first} to {last}"))
    if model is not None:
        totals.append(("model", model.resolve().name))
    totals.append(("table", table.path.name))
    return totals


def _remarks(table: LabelTable, recordings: Sequence["Recording"]) -> list[str]:
    """What of the events is not on the page, or odd."""
    late = sum(
        event.onset_seconds >= recording.duration_seconds
        for recording in recordings
        for event in recording.events
    )
    remarks = {
        "events of 0 s, set aside": table.zero_length_events,
        "events that begin after the end of their recording, of which nothing can be shown": late,
    }
    return [f"{what}: {count}" for what, count in remarks.items() if count]


def _examples(
    chosen: Iterable["Choice"],
    features: "NumpyFeatures",
    failures: list[str],
    after_each: Callable[[], None],
) -> Iterator["Example"]:
    """Sound and picture of each choice; those that can't be read are failures."""
    from earmark.audio import AudioError
    from earmark.outputs.report_examples import example

    for choice in chosen:
        if choice.event.onset_seconds < choice.recording.duration_seconds:
            try:
                yield example(choice, features)
            except AudioError as error:
                if str(error) not in failures:
                    failures.append(str(error))
        after_each()
