"""What every table of labels is read into."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from earmark.errors import UserError
from earmark.events import Event


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What a table says of one file, or of a part of it.

    Attributes:
        filename: as in the table, with ``/``.
        labels: the classes it is tagged with; of a strong table those of its events.
        start_seconds, stop_seconds: the part of the file that is meant; None is the whole file.
        events: by onset; None in a weak table.
        group: clips of one group (source, fold) stay together in a split.
        line: where the row stands, 0 if there is no table.
    """

    filename: str
    labels: frozenset[str]
    start_seconds: float | None = None
    stop_seconds: float | None = None
    events: tuple[Event, ...] | None = None
    group: str | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A table of labels, whatever its format was.

    Attributes:
        path: the file, or the folder of class folders.
        rows: in the order of the table; of a strong table one a file.
        class_names: every class that the table names, sorted; also one without any positive.
        strong: whether the table gives events.
        zero_length_events: how many events were set aside because they last 0 s.
        video_clips: whether filenames say a clip's place in a video; copies of such data name
            the clip in several ways, see ``formats.audioset.segment_of``.
    """

    path: Path
    rows: tuple[LabelRow, ...]
    class_names: tuple[str, ...]
    strong: bool = False
    zero_length_events: int = 0
    video_clips: bool = False


def weak_table(
    path: Path,
    rows: list[LabelRow],
    class_names: Iterable[str] = (),
    *,
    video_clips: bool = False,
) -> LabelTable:
    """A table of tags, with the classes of its rows and further ones."""
    names = set(class_names).union(*{row.labels for row in rows})
    return LabelTable(path, tuple(rows), tuple(sorted(names)), video_clips=video_clips)


def refuse_repeated_files(path: Path, rows: Iterable[LabelRow]) -> None:
    """Raises UserError if two rows are of one file."""
    line_of: dict[str, int] = {}
    for row in rows:
        first = line_of.setdefault(row.filename, row.line)
        if first != row.line:
            raise UserError(
                f"a file may have one row, but '{row.filename}' has one in line {first} too; "
                "join them or remove one",
                where=path,
                line=row.line,
            )
