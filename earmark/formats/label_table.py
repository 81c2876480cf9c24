"""What every table of labels is read into."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.tables import seconds_text


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
        absent: the classes that it is known to lack, nothing being known of those that are in
            neither; None where it lacks all but ``labels``.
    """

    filename: str
    labels: frozenset[str]
    start_seconds: float | None = None
    stop_seconds: float | None = None
    events: tuple[Event, ...] | None = None
    group: str | None = None
    line: int = 0
    absent: frozenset[str] | None = None

    @property
    def clip_name(self) -> str:
        """The file's name, with the times where a part of it is meant."""
        return clip_name(self.filename, self.start_seconds, self.stop_seconds)


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
        stems: whether filenames may lack the recording's suffix, as they are those of tables
            called after it; see ``formats.tracks``.
    """

    path: Path
    rows: tuple[LabelRow, ...]
    class_names: tuple[str, ...]
    strong: bool = False
    zero_length_events: int = 0
    video_clips: bool = False
    stems: bool = False

    @property
    def partial(self) -> bool:
        """Whether it leaves open of some files whether they have some class."""
        return any(row.absent is not None for row in self.rows)

    def refuse_partial(self) -> None:
        """Raises UserError for a table that can't be scored against, as it leaves some open."""
        if self.partial:
            raise UserError(
                "what is scored against must say of every file and class whether it is there, and "
                "this table leaves some open (absent_labels); give one that says all",
                where=self.path,
            )


def clip_name(filename: str, start_seconds: float | None, stop_seconds: float | None) -> str:
    """A file's name, with the times of the part of it that is meant, if it is one."""
    if start_seconds is None or stop_seconds is None:
        return filename
    return f"{filename} ({seconds_text(start_seconds)}-{seconds_text(stop_seconds)} s)"


def weak_table(
    path: Path,
    rows: list[LabelRow],
    class_names: Iterable[str] = (),
    *,
    video_clips: bool = False,
) -> LabelTable:
    """A table of tags, with the classes of its rows and further ones."""
    names = set(class_names).union(*{row.labels for row in rows})
    names = names.union(*{row.absent for row in rows if row.absent})
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
