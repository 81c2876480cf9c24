"""The tables of DCASE 2017 Task 4, which have no header.

``training_set.csv`` and ``testing_set.csv`` are ``id,start,end,"names","mids"``; the ground
truths are ``file onset offset label`` between tabs. The tables leave out the ``Y`` with which the
names of the audio files start; the filenames given here have it.

Submissions to the challenge look like the ground truths: tags (subtask A) like the weak ones,
events (subtask B) like the strong ones.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path

from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.label_table import (
    LabelRow,
    LabelTable,
    refuse_repeated_files,
    weak_table,
)
from earmark.formats.strong import event_cells, strong_table
from earmark.formats.tables import COMMA, TAB, Row, Table, write_table

# A YouTube id has 11 characters, so that a Y before it can be told from one in it.
_CLIP = re.compile(r"(Y?)([\w-]{11})_(\d+\.\d+)_(\d+\.\d+)\.\w+", re.ASCII)
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)


def looks_like_dcase2017(table: Table) -> bool:
    """Whether the first line is a row of one of these tables, not a header."""
    cells = table.records[0].cells
    width = 5 if table.delimiter == COMMA else 4
    return len(cells) == width and all(_NUMBER.fullmatch(cell) for cell in cells[1:3])


def read_dcase2017(table: Table) -> LabelTable:
    """Tags of a training or testing set, or a ground truth or submission.

    It is weak where the times of every row are those in its filename: there they are the clip's
    place in the video, and an empty label is a clip without tags. So strong rows that all last
    from 0 to the end of clips from the start of their videos would be taken for weak ones; in
    the official tables no such thing occurs. A strong row of 0 to 0 is a clip in which the class
    was not heard; see ``strong_table``.
    """
    if not looks_like_dcase2017(table):
        raise table.error(
            "labels of the format 'dcase2017' have no header and are id,start,end,names,mids "
            "or, between tabs, file, onset, offset, label"
        )
    if table.delimiter == COMMA:
        return _read_set(table)
    times = [table.interval(row, 1, 2) for row in table.records]
    if all(_place(row.cells[0]) == time for row, time in zip(table.records, times, strict=True)):
        return _read_weak(table)
    for row in table.records:
        if not row.cells[3]:
            raise table.error("a row needs a label in column 4; fill it in", row)
    return strong_table(
        table.path,
        (
            (_filename(table, row), Event(onset, offset, row.cells[3]), None, row.line)
            for row, (onset, offset) in zip(table.records, times, strict=True)
        ),
        video_clips=True,
    )


def write_dcase2017_events(path: Path, rows: Iterable[tuple[str, Event]]) -> None:
    """Events as a submission to subtask B: file, onset, offset, label, without a header.

    A file called ``Y<id>_<start>_<end>`` is named as in the ground truths: in no folder, without
    the Y, ending in ``.wav``. A clip without events has no row; without any event the table is
    empty.

    Raises:
        UserError: two recordings would have one name, or the file can't be written.
    """
    found = list(rows)
    name_of = _submitted_names(filename for filename, _ in found)
    ordered = sorted(
        ((name_of[filename], event) for filename, event in found),
        key=lambda row: (row[0], row[1].onset_seconds, row[1].label, row[1].offset_seconds),
    )
    write_table(path, ([name, *event_cells(event)] for name, event in ordered), TAB)


def write_dcase2017_tags(
    path: Path, filenames: Sequence[str], labels: Sequence[Iterable[str]]
) -> None:
    """Tags as a submission to subtask A: file, start, end, tag, without a header; a row a tag.

    Files are named as ``write_dcase2017_events`` names them, and the times are the clip's place
    in its video, as in the weak ground truths. A clip without tags is a row with an empty label:
    the challenge's own scorer forgets what was missed in a clip that has no row.

    Raises:
        UserError: a file's name doesn't say its place in a video, two recordings would have one
            name, or the file can't be written.
    """
    placed = submitted_clips(filenames)
    rows: list[tuple[str, str, str, str]] = []
    for filename, tags in zip(filenames, labels, strict=True):
        name, place = placed[filename]
        start, end = (f"{seconds:.3f}" for seconds in place)
        of_file = sorted(set(tags))
        if "" in of_file:
            raise ValueError("a label may not be empty")
        rows += [(name, start, end, tag) for tag in of_file or [""]]
    write_table(path, sorted(rows), TAB)


def submitted_clips(filenames: Iterable[str]) -> dict[str, tuple[str, tuple[float, float]]]:
    """What each file is called in a submission of tags, and its place in its video.

    Raises:
        UserError: a file's name doesn't say its place, or two recordings would have one name.
    """
    placed = {}
    for filename, name in _submitted_names(filenames).items():
        place = _place(name)
        if place is None:
            raise UserError(
                "tags in the format dcase2017 say each clip's place in its video, so that "
                f"recordings must be called Y<id>_<start>_<end>.wav, came as '{filename}'; write "
                "another format"
            )
        placed[filename] = name, place
    return placed


def _submitted_names(filenames: Iterable[str]) -> dict[str, str]:
    """The name of each file as the ground truths have it."""
    file_of: dict[str, str] = {}
    for filename in filenames:
        match = _CLIP.fullmatch(filename.rpartition("/")[2])
        name = f"{match[2]}_{match[3]}_{match[4]}.wav" if match else filename
        if file_of.setdefault(name, filename) != filename:
            raise UserError(
                f"two recordings would be called '{name}': '{file_of[name]}' and '{filename}'; "
                "leave one out"
            )
    return {filename: name for name, filename in file_of.items()}


def _read_weak(table: Table) -> LabelTable:
    labels: dict[str, set[str]] = {}
    line_of: dict[str, int] = {}
    for row in table.records:
        filename = _filename(table, row)
        labels.setdefault(filename, set()).update(filter(None, [row.cells[3]]))
        line_of.setdefault(filename, row.line)
    rows = [
        LabelRow(filename, frozenset(of_file), line=line_of[filename])
        for filename, of_file in labels.items()
    ]
    return weak_table(table.path, rows, video_clips=True)


def _read_set(table: Table) -> LabelTable:
    name_of = _names_of_mids(table)
    labels = {row.cells[4]: frozenset(name_of[mid] for mid in _mids(row)) for row in table.records}
    rows = []
    for row in table.records:
        start, stop = table.interval(row, 1, 2)
        clip = f"Y{table.filename(row, 0)}_{start:.3f}_{stop:.3f}.wav"
        rows.append(LabelRow(clip, labels[row.cells[4]], line=row.line))
    refuse_repeated_files(table.path, rows)
    return weak_table(table.path, rows, video_clips=True)


def _names_of_mids(table: Table) -> dict[str, str]:
    """The class that each MID stands for.

    Class names hold commas, MIDs don't: a name is known from a row with one MID, else from a row
    in which all others are known, else from rows whose commas without a space separate names.
    """
    first_row: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in table.records:
        first_row.setdefault(_mids(row), {}).setdefault(row.cells[3], row)
    rows = [(mids, row) for mids, rows in first_row.items() for row in rows.values()]
    rows.sort(key=lambda item: (len(item[0]), item[1].line))
    rows_of: dict[str, list[int]] = {}
    for place, (mids, _) in enumerate(rows):
        for mid in set(mids):
            rows_of.setdefault(mid, []).append(place)
    missing = [len(set(mids)) for mids, _ in rows]
    ready = [place for place, count in enumerate(missing) if count <= 1]
    separable = (place for place, (mids, row) in enumerate(rows) if len(_apart(row)) == len(mids))
    name_of: dict[str, str] = {}
    read = [False] * len(rows)
    left = len(rows)
    while left:
        if ready:
            place = heappop(ready)
            if read[place]:
                continue
            mids, row = rows[place]
            learnt = _learnt(table, row, mids, name_of)
            read[place] = True
            left -= 1
        else:
            place = next((place for place in separable if not read[place]), read.index(False))
            mids, row = rows[place]
            if len(_apart(row)) != len(mids):
                raise table.error(f"can't tell which names belong to {', '.join(mids)}", row)
            learnt = dict(zip(mids, _apart(row), strict=True))
        for mid in learnt.keys() - name_of.keys():
            for other in rows_of[mid]:
                missing[other] -= 1
                if missing[other] <= 1 and not read[other]:
                    heappush(ready, other)
        name_of |= learnt
    return name_of


def _learnt(
    table: Table, row: Row, mids: Iterable[str], name_of: Mapping[str, str]
) -> dict[str, str]:
    """The one name of a row that is missing; none is where the row's names agree with others'."""
    missing = ""
    pattern = []
    for mid in mids:
        if mid in name_of:
            pattern.append(re.escape(name_of[mid]))
        else:
            pattern.append("(?P=name)" if missing else "(?P<name>.+)")
            missing = mid
    match = re.fullmatch(r",\s*".join(pattern), row.cells[3])
    if match is None:
        raise table.error(
            f"the names '{row.cells[3][:80]}' don't agree with the MIDs {', '.join(mids)} "
            "as other rows name them",
            row,
        )
    return {missing: match["name"].strip()} if missing else {}


def _apart(row: Row) -> list[str]:
    return re.split(r",(?! )", row.cells[3])


def _mids(row: Row) -> tuple[str, ...]:
    return tuple(mid.strip() for mid in row.cells[4].split(",") if mid.strip())


def _place(filename: str) -> tuple[float, float] | None:
    match = _CLIP.fullmatch(filename)
    return (float(match[3]), float(match[4])) if match else None


def _filename(table: Table, row: Row) -> str:
    filename = table.filename(row, 0)
    match = _CLIP.fullmatch(filename)
    return f"Y{filename}" if match and not match[1] else filename
