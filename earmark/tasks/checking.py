"""Whether a labelled data set is ready to learn from, and what to mend where it isn't."""

import json as json_text
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earmark.audio import AudioError, find_recordings
from earmark.data.check.classes import class_counts
from earmark.data.check.examination import examine
from earmark.data.check.findings import Finding
from earmark.data.check.hearing import Heard, listen
from earmark.data.check.tables import LabelledSet, match
from earmark.errors import UserError, printable
from earmark.formats.labels import read_labels
from earmark.tasks.progress import counted
from earmark.tasks.recordings import Reached, each_recording

EXAMPLES, WIDTH = 3, 160
PLURALS = {"error": "errors", "warning": "warnings", "note": "notes"}


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found.

    Attributes:
        findings: the worst first.
        tables: of each table its name, clips, recordings, seconds of sound in the clips that
            could be read, and the clips of each class.
        json: whether ``text`` is JSON with all of it, or words.
    """

    findings: list[Finding]
    tables: list[dict[str, Any]]
    json: bool = False

    @property
    def failures(self) -> list[str]:
        """What training would refuse, or what makes its results wrong."""
        return [finding.what for finding in self.findings if finding.severity == "error"]

    @property
    def verdict(self) -> str:
        """Whether to train, in a sentence."""
        errors = len(self.failures)
        warnings = sum(finding.severity == "warning" for finding in self.findings)
        if errors:
            return (
                f"Mend {counted(errors, 'thing')} first: training would refuse the set, or its "
                "results would be wrong."
            )
        if warnings:
            return f"Ready to train, but look at {counted(warnings, 'warning')} before."
        return "Ready to train."

    def text(self) -> str:
        """The verdict, the findings with a few examples each, and the classes; or JSON."""
        if self.json:
            return json_text.dumps(
                {
                    "ready": not self.failures,
                    "verdict": self.verdict,
                    "tables": self.tables,
                    "findings": [asdict(finding) for finding in self.findings],
                },
                indent=1,
            )
        lines = [self.verdict]
        lines += [_summary(table) for table in self.tables]
        severity = ""
        for finding in self.findings:
            if finding.severity != severity:
                severity = finding.severity
                lines += ["", PLURALS[severity]]
            lines += _in_words(finding)
        return "\n".join(map(printable, [*lines, "", *_classes(self.tables)]))


def check(
    labels: Path,
    *,
    audio: Path,
    validation: Sequence[Path] = (),
    json: bool = False,
    labels_format: str = "auto",
    class_names: Path | None = None,
) -> Checked:
    """Says what to mend in a labelled data set before a model learns from it.

    Every recording is read once. The program ends with 1 where there are errors: what training
    would refuse, or what makes its results wrong.

    Args:
        labels: the table to learn from, as for ``train``.
        audio: the folder that holds the recordings, searched recursively.
        validation: tables to judge by, which must share nothing with the first, nor each other.
        json: prints everything as JSON, with all examples.
        labels_format: how to read ``labels`` where "auto" guesses wrong.
        class_names: AudioSet's class_labels_indices.csv, for tables of MIDs; one beside the
            table is found.

    Raises:
        UserError: a table can't be read at all, or the folder holds no recordings.
    """
    recordings = find_recordings([audio])
    sets: list[LabelledSet] = []
    tables = (labels, *validation)
    alike = len({table.name for table in tables}) < len(tables)
    for table in tables:
        defects: list[UserError] = []
        learnt = not sets
        read = read_labels(table, labels_format if learnt else "auto", class_names, defects=defects)
        name = str(table) if alike else table.name
        sets.append(match(name, read, defects, recordings, learnt=learnt))
    heard, unreadable = _listen_to_all(sets)
    findings = examine(sets, heard, unreadable, recordings)
    return Checked(findings, [_numbers(of_set, heard) for of_set in sets], json)


def _listen_to_all(sets: Sequence[LabelledSet]) -> tuple[dict[Path, Heard], dict[Path, str]]:
    """What each recording holds, or why it can't be read."""
    paths = {str(clip.path): clip.path for of_set in sets for clip in of_set.clips}
    heard: dict[Path, Heard] = {}
    unreadable: dict[Path, str] = {}

    def hear(_: str, path: Path, reached: Reached) -> None:
        try:
            heard[path] = listen(path, reached)
        except AudioError as error:
            reason = str(error).removeprefix(str(UserError("", where=path)))
            unreadable[path] = reason.strip()

    each_recording(paths, "listening", hear, os.cpu_count() or 1)
    in_order = [path for path in paths.values() if path in unreadable]
    return heard, {path: unreadable[path] for path in in_order}


def _numbers(of_set: LabelledSet, heard: dict[Path, Heard]) -> dict[str, Any]:
    seconds = 0.0
    for clip in of_set.clips:
        if clip.path in heard:
            start, stop = clip.span
            seconds += max(0.0, min(stop, heard[clip.path].seconds) - start)
    return {
        "table": of_set.name,
        "clips": len(of_set.clips),
        "recordings": len({clip.path for clip in of_set.clips}),
        "seconds": round(seconds, 3),
        "clips_of_class": dict(sorted(class_counts(of_set).items())),
    }


def _summary(table: dict[str, Any]) -> str:
    hours, minutes = divmod(round(table["seconds"] / 60), 60)
    lasting = f"{hours} h {minutes:02} min" if hours else f"{table['seconds'] / 60:.1f} min"
    clips, recordings = counted(table["clips"], "clip"), counted(table["recordings"], "recording")
    classes = counted(len(table["clips_of_class"]), "class", "classes")
    return f"{table['table']}: {clips} of {recordings}, {lasting}, {classes}"


def _in_words(finding: Finding) -> list[str]:
    table = f"{finding.table}: " if finding.table else ""
    lines = [f"  {table}{finding.what}", f"    -> {finding.remedy}"]
    for case in finding.cases[:EXAMPLES]:
        detail = f": {case.detail}" if case.detail else ""
        line = f"       {case.name}{detail}"
        lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}...")
    if len(finding.cases) > EXAMPLES:
        lines.append(f"       and {len(finding.cases) - EXAMPLES:,} more")
    return lines


def _classes(tables: Sequence[dict[str, Any]]) -> list[str]:
    """Clips of each class, a column a table."""
    every = sorted({name for table in tables for name in table["clips_of_class"]})
    width = max(map(len, ["class", *every]))
    heads = [table["table"] for table in tables]
    rows = [[f"{table['clips_of_class'].get(name, 0):,}" for table in tables] for name in every]
    lines = [f"{'class':{width}}  {'  '.join(heads)}"]
    for name, counts in zip(every, rows, strict=True):
        cells = [f"{count:>{len(head)}}" for count, head in zip(counts, heads, strict=True)]
        lines.append(f"{name:{width}}  {'  '.join(cells)}")
    return lines
