"""Strong labels and detected events: ``filename onset offset event_label [score]``."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from earmark.events import Event, in_order
from earmark.formats.label_table import LabelRow, LabelTable
from earmark.formats.recorded import Recorded
from earmark.formats.tables import NAME_COLUMNS, TAB, Table, seconds_text, write_table


def read_strong(table: Table) -> LabelTable:
    """One row a file; a table's row with the last three empty is a file without events.

    Columns beyond these are left alone. Identical rows are kept. Events of 0 s are set aside
    and counted, their file and class stay.
    """
    name, label = table.need(*NAME_COLUMNS), table.need("event_label")
    onset, offset = table.need("onset"), table.need("offset")
    score = table.find("score")
    return strong_table(table.path, _events(table, name, onset, offset, label, score))


def _events(
    table: Table, name: int, onset: int, offset: int, label: int, score: int | None
) -> Iterator[tuple[str, Event | None, str | None, int]]:
    for row in table.rows:
        event = None
        if row.cells[label]:
            start, stop = table.interval(row, onset, offset)
            scored = score is not None and row.cells[score] != ""
            rating = table.number(row, score) if score is not None and scored else None
            event = Event(start, stop, row.cells[label], rating)
        elif row.cells[onset] or row.cells[offset]:
            raise table.error("an event needs an event_label; fill it in", row)
        yield table.filename(row, name), event, table.group(row), row.line


def strong_table(
    path: Path,
    found: Iterable[tuple[str, Event | None, str | None, int]],
    *,
    video_clips: bool = False,
    stems: bool = False,
) -> LabelTable:
    """The table of (filename, event or None, group, line), files by first appearance."""
    events_of: dict[str, list[Event]] = {}
    place: dict[str, tuple[str | None, int]] = {}
    class_names: set[str] = set()
    zero_length = 0
    for filename, event, group, line in found:
        events = events_of.setdefault(filename, [])
        place.setdefault(filename, (group, line))
        if event is None:
            continue
        class_names.add(event.label)
        if event.offset_seconds > event.onset_seconds:
            events.append(event)
        else:
            zero_length += 1
    rows = tuple(
        LabelRow(
            filename,
            frozenset(event.label for event in events),
            events=tuple(in_order(events)),
            group=place[filename][0],
            line=place[filename][1],
        )
        for filename, events in events_of.items()
    )
    return LabelTable(path, rows, tuple(sorted(class_names)), True, zero_length, video_clips, stems)


def write_strong(path: Path, items: Iterable[tuple[str, Sequence[Event]]]) -> None:
    """A strong TSV of each file's events, by file; a file without events is a row by itself."""
    rows = [["filename", "onset", "offset", "event_label"]]
    for filename, events in sorted(items, key=lambda item: item[0]):
        rows += [[filename, *event_cells(event)] for event in in_order(events)]
        if not events:
            rows.append([filename, "", "", ""])
    write_table(path, rows, TAB)


def write_submission(path: Path, recordings: Iterable[Recorded]) -> None:
    """The strong TSV that DCASE's scorers read: of events alone, without their scores."""
    rows = (
        [recorded.filename, *event_cells(event)]
        for recorded in recordings
        for event in recorded.events
    )
    write_table(path, chain([["filename", "onset", "offset", "event_label"]], rows), TAB)


def event_cells(event: Event) -> list[str]:
    """Onset, offset and label as they stand in a table."""
    if not event.label:
        raise ValueError("a label may not be empty")
    return [seconds_text(event.onset_seconds), seconds_text(event.offset_seconds), event.label]
