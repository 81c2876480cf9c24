"""Every format that detected events are written in, by its name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from earmark.errors import UserError
from earmark.formats.audacity import write_audacity
from earmark.formats.dcase2017 import write_dcase2017_events
from earmark.formats.events import write_event_table
from earmark.formats.raven import write_raven
from earmark.formats.recorded import Recorded
from earmark.formats.records import (
    require_parquet,
    write_json,
    write_json_lines,
    write_parquet,
)
from earmark.formats.strong import write_submission
from earmark.formats.tables import COMMA, TAB


@dataclass(frozen=True, slots=True)
class EventFormat:
    """How events are written.

    Attributes:
        suffix: what a file's name ends with.
        write: writes recordings in their order, the rows with clock times if asked for and there
            is a place for them; of one recording at a time the events are in memory, except in
            ``dcase2017``.
        clock_times: whether there is a place for them.
        one_recording: whether a file can hold one recording only.
        text: whether it is text, as standard output is.
        sounds: whether it asks for each recording's duration and rate.
        plain_labels, plain_names: whether labels, and names of recordings, can't be quoted.
        require: raises UserError if something that it needs is not installed.
    """

    suffix: str
    write: Callable[[Path, Iterable[Recorded], bool], None]
    clock_times: bool = True
    one_recording: bool = False
    text: bool = True
    sounds: bool = False
    plain_labels: bool = False
    plain_names: bool = False
    require: Callable[[], None] = lambda: None


def _audacity(scores: bool) -> EventFormat:
    def write(path: Path, recordings: Iterable[Recorded], _: bool) -> None:
        write_audacity(path, recordings, scores=scores)

    return EventFormat(".txt", write, clock_times=False, one_recording=True, plain_labels=True)


def _dcase(path: Path, recordings: Iterable[Recorded], _: bool) -> None:
    write_submission(path, recordings)


def _dcase2017(path: Path, recordings: Iterable[Recorded], _: bool) -> None:
    rows = ((recorded.filename, event) for recorded in recordings for event in recorded.events)
    write_dcase2017_events(path, rows)


EVENT_FORMATS = {
    "csv": EventFormat(".csv", partial(write_event_table, delimiter=COMMA)),
    "tsv": EventFormat(".tsv", partial(write_event_table, delimiter=TAB)),
    "dcase": EventFormat(".tsv", _dcase, clock_times=False),
    "dcase2017": EventFormat(".txt", _dcase2017, clock_times=False),
    "audacity": _audacity(scores=False),
    "audacity-scores": _audacity(scores=True),
    "raven": EventFormat(
        ".selections.txt", write_raven, sounds=True, plain_labels=True, plain_names=True
    ),
    "json": EventFormat(".json", write_json),
    "jsonl": EventFormat(".jsonl", write_json_lines),
    "parquet": EventFormat(".parquet", write_parquet, text=False, require=require_parquet),
}


def event_formats(names: str) -> dict[str, EventFormat]:
    """The formats in a list like ``csv,raven``, in its order.

    Raises:
        UserError: one is not known, or comes twice, or there is none.
    """
    chosen: dict[str, EventFormat] = {}
    for name in (part.strip() for part in names.split(",")):
        if name not in EVENT_FORMATS:
            close = get_close_matches(name, EVENT_FORMATS, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise UserError(
                f"a format is one of {', '.join(EVENT_FORMATS)}, several with commas between; "
                f"came as '{name}'{hint}"
            )
        if name in chosen:
            raise UserError(f"a format may be asked for once, '{name}' came twice")
        chosen[name] = EVENT_FORMATS[name]
    return chosen
