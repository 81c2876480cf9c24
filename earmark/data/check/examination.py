"""All that is wrong with a labelled data set: its tables, its recordings, and its parts."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from earmark.data.check.classes import of_classes
from earmark.data.check.findings import Case, Finding, are, tally
from earmark.data.check.hearing import Heard
from earmark.data.check.padding import of_padding
from earmark.data.check.parts import of_hold_out, of_leaks
from earmark.data.check.recordings import of_copies, of_formats, of_recordings, of_times
from earmark.data.check.tables import LabelledSet, of_rows


def examine(
    sets: Sequence[LabelledSet],
    heard: Mapping[Path, Heard],
    unreadable: Mapping[Path, str],
    recordings: Sequence[tuple[str, Path]],
) -> list[Finding]:
    """All findings, the worst first; ``sets`` begins with the one to learn from."""
    findings: list[Finding] = []
    for of_set in sets:
        findings += of_rows(of_set, recordings)
        findings += of_recordings(of_set, heard, unreadable)
        findings += of_times(of_set, heard)
        findings += of_copies(of_set, heard)
        findings += of_padding(of_set, heard)
    findings += of_classes(sets)
    if len(sets) == 1:
        findings += of_hold_out(sets[0])
    for one, other in combinations(sets, 2):
        findings += of_leaks(one, other, heard)
    findings += of_formats(sets, heard)
    used = {path for of_set in sets for path in of_set.matched}
    if unused := [name for name, path in recordings if path not in used]:
        findings.append(
            Finding(
                "note",
                "recordings without labels",
                "",
                f"{tally(unused, 'recording')} of the folder {are(unused)} in no table",
                "label them if they are to be learnt from; without a row they are left alone",
                tuple(map(Case, unused)),
            )
        )
    order = ("error", "warning", "note")
    return sorted(findings, key=lambda finding: order.index(finding.severity))
