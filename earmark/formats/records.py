"""Tables as records: JSON (a list of objects), JSON Lines (an object a line) and Parquet.

Their fields are the columns that the other tables have, so that any table may come as one of
these. An event's are ``filename``, ``onset``, ``offset``, ``event_label`` and ``score``.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from earmark.errors import UserError
from earmark.formats.recorded import FIELDS, START_TIME, Recorded
from earmark.formats.tables import COMMA, Row, Table, parquet_parts, read_text, text_file
from earmark.formats.weak import join_labels
from earmark.writing import replacing

_ROWS_AT_ONCE = 1 << 16
_SPACE = " \t\n\r"
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_records(path: Path, kind: str) -> Table:
    """The table of records of a ``kind``: json, jsonl or parquet.

    Columns are the fields of all records, in order of appearance; what a record lacks, null and
    NaN are empty cells. Labels may be a list. Without a record, it is a table of no events.
    A row's line is that of its record; of Parquet, its number. Parquet may be a folder, too, of
    ``parquet_parts``.

    Raises:
        UserError: it can't be read, or holds something else.
    """
    if kind == "parquet":
        columns = _parquet_columns(path)
        header = list(columns)
        rows = [
            Row(number, cells, cells)
            for number, cells in enumerate(map(list, zip(*columns.values(), strict=True)), start=1)
        ]
    else:
        records = list(_json(path) if kind == "json" else _json_lines(path))
        header = list(dict.fromkeys(name for _, record in records for name in record))
        rows = []
        for line, record in records:
            cells = [_cell(path, line, name, record.get(name)) for name in header]
            rows.append(Row(line, cells, cells))
    for name in header:
        if _SURROGATE.search(name):
            raise UserError(f"a field's name must be valid Unicode, came as {name!r}", where=path)
    header = header or list(FIELDS)
    return Table(path, COMMA, [Row(1, header, header), *rows])


def write_json(path: Path, recordings: Iterable[Recorded], clock_times: bool) -> None:
    """A list of events, a line each. Raises UserError if it can't be written."""
    with text_file(path) as file:
        between = "[\n"
        for record in _records(recordings, clock_times):
            file.write(between + json.dumps(record, ensure_ascii=False))
            between = ",\n"
        file.write("[]\n" if between == "[\n" else "\n]\n")


def write_json_lines(path: Path, recordings: Iterable[Recorded], clock_times: bool) -> None:
    """An event a line. Raises UserError if it can't be written."""
    with text_file(path) as file:
        for record in _records(recordings, clock_times):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def write_parquet(path: Path, recordings: Iterable[Recorded], clock_times: bool) -> None:
    """A row an event; times and scores are doubles.

    Raises:
        UserError: it can't be written, a name is not Unicode, or pyarrow is missing.
    """
    pa, pq = _arrow()
    types = {name: pa.float64() for name in ("onset", "offset", "score")}
    names = [*FIELDS, START_TIME] if clock_times else FIELDS
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    records = _records(recordings, clock_times)
    with replacing(path) as part, pq.ParquetWriter(part, schema) as writer:
        while some := list(islice(records, _ROWS_AT_ONCE)):
            try:
                table = pa.Table.from_pylist(some, schema)
            except UnicodeEncodeError as error:
                raise UserError(
                    f"a name must be valid Unicode to be written ({error}); rename it", where=path
                ) from error
            writer.write_table(table)


def require_parquet() -> None:
    """Raises UserError if what Parquet needs is not installed."""
    _arrow()


def _records(recordings: Iterable[Recorded], clock_times: bool) -> Iterator[dict[str, Any]]:
    """An event's fields, its numbers rounded as in every other table."""
    for recorded in recordings:
        for event in recorded.events:
            if not event.label:
                raise ValueError("a label may not be empty")
            record: dict[str, Any] = {
                "filename": recorded.filename,
                "onset": float(round(event.onset_seconds, 6)),
                "offset": float(round(event.offset_seconds, 6)),
                "event_label": event.label,
                "score": None if event.score is None else float(round(event.score, 4)),
            }
            if clock_times:
                record[START_TIME] = recorded.clock_time(event) or None
            yield record


def _json(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a list, one by one, so that each has its line."""
    text = read_text(path)
    at, line = _next(text, 0, 1)
    if text[at : at + 1] != "[":
        raise UserError(
            "a table in JSON must be a list of objects, [{...}, ...]", where=path, line=line
        )
    at, line = _next(text, at + 1, line)
    more = text[at : at + 1] != "]"
    while more:
        record, stop = _decoded(path, text, at, line)
        yield line, record
        line += text.count("\n", at, stop)
        at, line = _next(text, stop, line)
        more = text[at : at + 1] == ","
        if more:
            at, line = _next(text, at + 1, line)
    if text[at : at + 1] != "]" or text[at + 1 :].strip(_SPACE):
        raise UserError(
            "a list in JSON needs commas between its objects and a ] at the end; is it cut?",
            where=path,
            line=line,
        )


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if bare := text.strip(_SPACE):
            record, stop = _decoded(path, bare, 0, line)
            if stop < len(bare):
                raise UserError("a line must hold one object", where=path, line=line)
            yield line, record


_DECODER = json.JSONDecoder()


def _decoded(path: Path, text: str, at: int, line: int) -> tuple[Mapping[str, Any], int]:
    try:
        found, stop = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        if isinstance(error, json.JSONDecodeError):
            line += text.count("\n", at, error.pos)
        raise UserError(f"is no valid JSON: {reason}", where=path, line=line) from error
    if not isinstance(found, dict):
        raise UserError(
            f"each record must be an object with fields, came as {str(found)[:40]}",
            where=path,
            line=line,
        )
    return found, stop


def _next(text: str, at: int, line: int) -> tuple[int, int]:
    """Where the next character that is no white space is, and its line."""
    start = at
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at, line + text.count("\n", start, at)


def _parquet_columns(path: Path) -> dict[str, list[str]]:
    pa, pq = _arrow()
    tables = []
    for part in parquet_parts(path) or [path]:
        with _reading(part):
            tables.append(pq.ParquetFile(part).read())
    with _reading(path):
        table = pa.concat_tables(tables)
        columns = dict(zip(table.column_names, table.columns, strict=True))
        if len(columns) < len(table.column_names):
            raise UserError("each column needs a name of its own", where=path)
        return {
            name: [
                _cell(path, number, name, value)
                for number, value in enumerate(column.to_pylist(), start=1)
            ]
            for name, column in columns.items()
        }


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    pa, _ = _arrow()
    try:
        yield
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"can't be read as Parquet: {reason}", where=path) from error


def _cell(path: Path, line: int, name: str, value: Any) -> str:
    """A value as the text that a table would have."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        if all(isinstance(label, str) and label for label in value):
            return join_labels(value)
    elif isinstance(value, str):
        if value.isascii() or not _SURROGATE.search(value):
            return value
    elif not isinstance(value, dict | bytes):
        return str(value)
    raise UserError(
        f"field '{name}' must be text, a number or, of labels, a list of texts, came as "
        f"{value!r:.40}",
        where=path,
        line=line,
    )


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("Parquet needs pyarrow: pip install 'earmark[parquet]'") from error
    return pyarrow, pyarrow.parquet
