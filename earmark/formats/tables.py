"""Delimited text tables: cells with their line numbers in, whole files out."""

import gc
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple, TextIO

from earmark.errors import UserError
from earmark.writing import replacing

TAB, COMMA = "\t", ","
RECORD_SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
NAME_COLUMNS = ("filename", "file")
CATEGORY_COLUMNS = ("category", "class")
LABEL_COLUMNS = ("event_label", "event_labels")
TELLING_COLUMNS = (*LABEL_COLUMNS, "onset", "offset")
GROUP_COLUMNS = ("group", "fold")
RESERVED_COLUMNS = (*NAME_COLUMNS, *GROUP_COLUMNS, "duration", "licence")

_QUOTED = r'"(?:[^"]++|"")*+"'
_LINE_END = re.compile(r"\r\n|\n|\r")
_PLAIN_LINE = re.compile(r'([^"\r\n]*)(?:\r\n|\n|\r|\Z)')
_FIRST_RECORD = re.compile(rf'(?:{_QUOTED}|[^"\r\n])*')
_CELL = {
    delimiter: re.compile(rf"({_QUOTED})?([^{delimiter}\r\n]*)({delimiter}|\r\n|\n|\r|\Z)")
    for delimiter in (TAB, COMMA)
}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class Row(NamedTuple):
    """One record. ``cells`` are without their quotes, ``raw`` as they stand in the file."""

    line: int
    cells: list[str]
    raw: list[str]


@dataclass(frozen=True)
class Table:
    """A file's records, all of one width; the first one is the header where there is one."""

    path: Path
    delimiter: str
    records: list[Row]

    @property
    def rows(self) -> list[Row]:
        """The records below the header."""
        return self.records[1:]

    @cached_property
    def header(self) -> tuple[str, ...]:
        """Column names. Raises UserError if one is empty or comes twice."""
        names: dict[str, None] = {}
        for index, name in enumerate(self.records[0].cells):
            if not name:
                raise self.error(f"column {index + 1} has no name; name or remove it")
            if name in names:
                raise self.error(f"two columns are called '{name}'; rename or remove one")
            names[name] = None
        return tuple(names)

    def find(self, *names: str) -> int | None:
        """The index of the first of these columns that the table has."""
        return next((self.header.index(name) for name in names if name in self.header), None)

    def need(self, *names: str) -> int:
        """``find``, or a UserError that says which column is missing."""
        index = self.find(*names)
        if index is None:
            wanted = " or ".join(f"'{name}'" for name in names)
            raise self.error(f"needs a column {wanted}; it has {', '.join(self.header)}")
        return index

    def filename(self, row: Row, index: int) -> str:
        """A cell that may not be empty."""
        if not row.cells[index]:
            raise self.error("a row needs a file name; fill it in or remove the row", row)
        return row.cells[index]

    def number(self, row: Row, index: int) -> float:
        """A cell as a finite number."""
        text = row.cells[index]
        value = _number(text)
        if not math.isfinite(value):
            hint = "; write it with a decimal point" if "," in text else ""
            raise self.error(
                f"{self._named(index)} must be a finite number, came as '{text[:40]}'{hint}", row
            )
        return value

    def is_number(self, row: Row, index: int) -> bool:
        """Whether a cell is a finite number."""
        return math.isfinite(_number(row.cells[index]))

    def seconds(self, row: Row, index: int) -> float:
        """A cell as a time of at least 0."""
        value = self.number(row, index)
        if value < 0:
            raise self.error(f"{self._named(index)} must be at least 0, came as {value:g}", row)
        return value

    def interval(self, row: Row, onset: int, offset: int) -> tuple[float, float]:
        """Two cells as onset and offset, which may be equal."""
        start, stop = self.seconds(row, onset), self.seconds(row, offset)
        if stop < start:
            raise self.error(
                f"an offset may not lie before its onset, came as {start:g} to {stop:g}", row
            )
        return start, stop

    def group(self, row: Row) -> str | None:
        """The value of the group column, else of the fold column, None where it is empty."""
        return None if self._group_index is None else row.cells[self._group_index] or None

    def error(self, message: str, row: Row | None = None) -> UserError:
        """A complaint about a row, or about the header."""
        return UserError(message, where=self.path, line=(row or self.records[0]).line)

    @cached_property
    def _group_index(self) -> int | None:
        return self.find(*GROUP_COLUMNS)

    def _named(self, index: int) -> str:
        names = self.records[0].cells
        headed = not any(_NUMBER.fullmatch(name) for name in names)
        return f"column '{names[index]}'" if headed else f"column {index + 1}"


@contextmanager
def no_collection() -> Iterator[None]:
    """Millions of rows hold no cycles: looking for some, time and again, takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@no_collection()
def read_table(path: Path, defects: list[UserError] | None = None) -> Table:
    """The records of a UTF-8 file, delimited by tabs if the first one holds a tab, else by commas.

    Records, which its suffix tells, and folders of Parquet files are read as ``read_records`` does.
    A byte-order mark, CRLF, quoted cells ("" is a quote in one) and empty lines are understood.
    Cells without quotes lose the white space about them; a cell that only starts with a quoted
    part is taken as it stands.

    Args:
        path: the file.
        defects: where given, rows with more or fewer columns are left out, and told there.

    Raises:
        UserError: the file can't be read, is empty or not UTF-8, a quote isn't closed, or a row
            has more or fewer columns than the first.
    """
    if kind := "parquet" if parquet_parts(path) else RECORD_SUFFIXES.get(path.suffix.lower()):
        from earmark.formats.records import read_records

        return read_records(path, kind)
    text = read_text(path)
    first = re.sub(_QUOTED, "", _FIRST_RECORD.match(text.lstrip())[0])  # type: ignore[index]
    delimiter = TAB if TAB in first else COMMA
    records: list[Row] = []
    width = 0
    for row in _records(path, text, delimiter):
        if len(row.cells) != (width := width or len(row.cells)):
            error = UserError(
                f"a row needs {width} columns like the first, came with {len(row.cells)}",
                where=path,
                line=row.line,
            )
            if defects is None:
                raise error
            defects.append(error)
            continue
        records.append(row)
    if not records:
        raise UserError("the table is empty; it needs at least a header line", where=path)
    return Table(path, delimiter, records)


def meant_column(name: str) -> str | None:
    """The column of a table of labels that a name is a misspelling of.

    >>> meant_column("event_lables"), meant_column("Filename"), meant_column("Rain")
    ('event_labels', 'filename', None)
    """
    known = (*NAME_COLUMNS, *TELLING_COLUMNS, *CATEGORY_COLUMNS)
    close = get_close_matches(name.lower(), known, n=1, cutoff=0.85)
    return close[0] if close and name not in known else None


def parquet_parts(path: Path) -> list[Path]:
    """The files of a folder, or of ``events`` in it, that holds nothing but Parquet: one table.

    So do clusters write, ours and others. Names that start with . or _ are notes of theirs.
    """
    for folder in (path / "events", path):
        with suppress(OSError):  # no folder
            parts = [part for part in sorted(folder.iterdir()) if part.name[0] not in "._"]
            if parts and all(RECORD_SUFFIXES.get(p.suffix.lower()) == "parquet" for p in parts):
                return parts
    return []


def _records(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    """The records that are not empty lines, in time and memory linear in the text."""
    line, at = 1, 0
    while at < len(text):
        # Most lines hold no quote, and are taken apart at once.
        plain = _PLAIN_LINE.match(text, at)
        if plain:
            at, start = plain.end(), line
            raw = plain[1].split(delimiter)
            cells = list(map(str.strip, raw))
            if cells == raw:
                raw = cells  # held once
        else:
            start = line
            cells, raw, at, ends = _quoted_record(path, text, at, delimiter, line)
            line += ends
        if len(raw) > 1 or raw[0].strip():
            yield Row(start, cells, raw)
        line += 1


def _quoted_record(
    path: Path, text: str, at: int, delimiter: str, line: int
) -> tuple[list[str], list[str], int, int]:
    """Cells, raw cells, where the next record starts, and the line ends within the cells."""
    cells: list[str] = []
    raw: list[str] = []
    ends = 0
    while match := _CELL[delimiter].match(text, at):
        quoted, rest, end = match.groups("")
        if quoted:
            closed = not rest or rest.isspace()
            cells.append(quoted[1:-1].replace('""', '"') if closed else quoted + rest)
            ends += len(_LINE_END.findall(quoted))
        elif rest[:1] == '"':
            raise UserError(
                "a quote is not closed; close or double it", where=path, line=line + ends
            )
        else:
            cells.append(rest.strip())
        raw.append(quoted + rest)
        at = match.end()
        if end != delimiter:
            break
    return cells, raw, at, ends


def digest(path: Path) -> str:
    """The SHA-256 of a file, by which a table is known again whatever it is called."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_table(path: Path, rows: Iterable[Sequence[str]], delimiter: str) -> None:
    """Rows into a file that appears whole or not at all; read_table gives the same cells back.

    A cell that a spreadsheet would take for a formula, as it starts with = + - or @, is written
    as it is: tables are for programs, and whoever opens one by hand imports it as text.

    Raises:
        UserError: the file can't be written, or a name can't be written as UTF-8.
    """
    with text_file(path) as file:
        for row in rows:
            file.write(row_text(row, delimiter))


def row_text(row: Sequence[str], delimiter: str) -> str:
    """A row's line, quoted so that read_table gives the same cells back."""
    return delimiter.join(_as_cell(cell, delimiter) for cell in row) + "\n"


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file to write, which appears whole at the end of the block or not at all.

    Raises:
        UserError: it can't be written, or something can't be written as UTF-8.
    """
    try:
        with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
            yield file
    except UnicodeEncodeError as error:
        name = error.object[:80].strip().encode("unicode_escape").decode()
        raise UserError(
            f"a name must be valid Unicode to be written, came as '{name}'; rename it", where=path
        ) from error


def seconds_text(seconds: float) -> str:
    """A time with 3 to 6 decimals.

    A microsecond is less than a sample at any usual rate, so that no two frame edges become one,
    neighbours still touch, and what is computed from a file equals what is computed from memory.

    >>> seconds_text(0.5), seconds_text(0.0415), seconds_text(1 / 3)
    ('0.500', '0.0415', '0.333333')
    """
    text = f"{seconds:.6f}"
    return text[:-3] + text[-3:].rstrip("0")


@lru_cache(maxsize=1 << 16)
def _number(text: str) -> float:
    """The number, nan of any other text; the times of millions of events are often the same."""
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def read_text(path: Path) -> str:
    """A UTF-8 file, less a byte-order mark. Raises UserError if it is none, or can't be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror or error}", where=path) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        raise UserError(
            "a table must be UTF-8 text; save it as UTF-8 (spreadsheets: 'CSV UTF-8')",
            where=path,
            line=line,
        ) from error


def _as_cell(text: str, delimiter: str) -> str:
    # A bare tab in a header would pass for the delimiter.
    if any(mark in text for mark in (delimiter, TAB, '"', "\n", "\r")) or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text
