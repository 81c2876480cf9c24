"""Can the recordings be learnt from: whole, heard, as long as the labels, each once?"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from earmark.config import FeatureSettings, TrainingSettings
from earmark.data.check.findings import Case, Finding, Severity, are, have, tags_text, tally
from earmark.data.check.hearing import CLIPPED_RUN, Heard
from earmark.data.check.tables import LabelledSet
from earmark.data.labels import Clip

CLIPPED_SHARE = 0.001
"""The share of clipped samples from which on a recording is said to be."""

OFFSET = 0.01
"""A mean of the samples this far from 0 is an offset."""

SHORT_RATIO, LONG_RATIO = 0.1, 5.0
"""Clips below and above these multiples of the median length are odd."""

TOLERANCE_SECONDS = 0.1
"""Times in a table may be rounded by that much beyond a recording's end."""


def of_recordings(
    of_set: LabelledSet, heard: Mapping[Path, Heard], unreadable: Mapping[Path, str]
) -> Iterator[Finding]:
    """Recordings that can't be read, or are damaged, silent, clipped or off centre."""
    filename_of = {clip.path: clip.filename for clip in of_set.clips}
    if bad := [
        Case(filename_of[path], why) for path, why in unreadable.items() if path in filename_of
    ]:
        yield Finding(
            "error",
            "unreadable recordings",
            of_set.name,
            f"{tally(bad, 'recording')} can't be read",
            "mend or replace them, or leave them out with --skip-missing",
            tuple(bad),
        )
    of_files = [(name, heard[path]) for path, name in filename_of.items() if path in heard]
    damaged = [
        Case(name, "; ".join((*found.damage, *_infinite(found))))
        for name, found in of_files
        if found.damage or found.infinite
    ]
    if damaged:
        yield Finding(
            "warning",
            "damaged recordings",
            of_set.name,
            f"{tally(damaged, 'recording')} {are(damaged)} damaged; what can be decoded is used",
            "replace them, or look whether the labels still hold",
            tuple(damaged),
        )
    silent = [
        clip
        for clip in of_set.clips
        if (found := heard.get(clip.path)) and found.silent(*clip.span) and clip.labels
    ]
    if silent:
        yield Finding(
            "warning",
            "silent clips",
            of_set.name,
            f"{tally(silent, 'clip')} with tags {are(silent)} silent (peak below -80 dB)",
            "replace the recordings, or remove the rows: nothing can be learnt from them",
            tuple(Case(clip.name, tags_text(clip.labels)) for clip in silent),
        )
    clipped = [
        Case(name, f"{found.clipped:.1%} of the samples")
        for name, found in of_files
        if found.clipped >= CLIPPED_SHARE
    ]
    if clipped:
        yield Finding(
            "warning",
            "clipped recordings",
            of_set.name,
            f"{tally(clipped, 'recording')} {are(clipped)} clipped: at least "
            f"{CLIPPED_SHARE:.1%} of the samples stand at full scale, {CLIPPED_RUN} or more in a "
            "row",
            "record at a lower level; harmless if what the model will hear is clipped, too",
            tuple(clipped),
        )
    offset = [
        Case(name, f"{found.offset:+.3f}")
        for name, found in of_files
        if abs(found.offset) >= OFFSET
    ]
    if offset:
        yield Finding(
            "note",
            "constant offset",
            of_set.name,
            f"the samples of {tally(offset, 'recording')} have a mean that is not 0 "
            f"({OFFSET:.0%} of full scale or more)",
            "filter it out if the model will hear other recorders",
            tuple(offset),
        )


def _infinite(found: Heard) -> list[str]:
    return [f"{found.infinite:,} samples are not finite"] if found.infinite else []


def of_times(of_set: LabelledSet, heard: Mapping[Path, Heard]) -> Iterator[Finding]:
    """Lengths, and labels beyond a recording's end."""
    lengths: list[tuple[Clip, float]] = []
    outside, beyond = [], []
    for clip in of_set.clips:
        if clip.path not in heard:
            continue
        end = heard[clip.path].seconds
        start, stop = clip.span
        spans = [(start, stop, "the part")] if math.isfinite(stop) else []
        spans += [(e.onset_seconds, e.offset_seconds, e.label) for e in clip.events or ()]
        for onset, offset, label in spans:
            times = f"{label} from {onset:g} to {offset:g} s, the recording ends at {end:.3f} s"
            if onset >= end:
                outside.append(Case(clip.filename, times))
            elif offset > end + TOLERANCE_SECONDS:
                beyond.append(Case(clip.filename, times))
        if start < end:
            lengths.append((clip, min(stop, end) - start))
    kinds: tuple[tuple[Severity, list[Case], str], ...] = (
        ("error", outside, "lie beyond the end"),
        ("warning", beyond, f"reach more than {TOLERANCE_SECONDS} s beyond the end"),
    )
    for severity, cases, where in kinds:
        if cases:
            yield Finding(
                severity,
                "labels beyond the end",
                of_set.name,
                f"times of {tally(cases, 'label')} {where} of the recording",
                "look whether they are in seconds, and the recording is the right one and whole",
                tuple(cases),
            )
    if not lengths or (of_set.table.strong and not of_set.learnt):
        return  # recordings to detect in may have any length
    longest = TrainingSettings().max_clip_seconds
    if too_long := [(clip, length) for clip, length in lengths if length > longest]:
        yield Finding(
            "error",
            "clips too long",
            of_set.name,
            f"{tally(too_long, 'clip')} {are(too_long)} longer than {longest:g} s",
            "label parts of them (columns onset and offset), or set training.max_clip_seconds",
            _lengths(too_long),
        )
    median = statistics.median(length for _, length in lengths)
    features = FeatureSettings()
    least = max(SHORT_RATIO * median, features.window_samples / features.rate_hz)
    if short := [(clip, length) for clip, length in lengths if length < least]:
        yield Finding(
            "warning",
            "clips too short",
            of_set.name,
            f"{tally(short, 'clip')} {are(short)} shorter than {least:.3g} s (the median is "
            f"{median:.3g} s)",
            "look whether the recordings are whole; remove what is nothing",
            _lengths(short),
        )
    most = LONG_RATIO * median
    if long := [(clip, length) for clip, length in lengths if most < length <= longest]:
        yield Finding(
            "warning",
            "clips oddly long",
            of_set.name,
            f"{tally(long, 'clip')} {are(long)} longer than {most:.3g} s (the median is "
            f"{median:.3g} s)",
            "a tag says little of a long clip: label parts of it (columns onset and offset)",
            _lengths(long),
        )


def _lengths(clips: Sequence[tuple[Clip, float]]) -> tuple[Case, ...]:
    return tuple(Case(clip.name, f"{length:.3g} s") for clip, length in clips)


def of_copies(of_set: LabelledSet, heard: Mapping[Path, Heard]) -> Iterator[Finding]:
    """Several files with the same samples, or the same name."""
    clips_of: defaultdict[str, dict[Path, list[Clip]]] = defaultdict(dict)
    for clip in of_set.clips:
        if (found := heard.get(clip.path)) and not found.silent():
            clips_of[found.digest].setdefault(clip.path, []).append(clip)
    same, other = [], []
    for files in clips_of.values():
        if len(files) == 1:
            continue
        names = " = ".join(clips[0].filename for clips in files.values())
        # Of parts of a recording the tags belong to the times.
        tags = {
            tuple(sorted((*clip.span, tags_text(clip.labels)) for clip in clips))
            for clips in files.values()
        }
        shown = " against ".join(sorted({tags_text(c.labels) for cs in files.values() for c in cs}))
        if len(tags) > 1:
            other.append(Case(names, shown))
        else:
            same.append(Case(names))
    named: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for clip in of_set.clips:
        named[clip.path.name][clip.filename] = None
    if alike := [Case(" and ".join(names)) for names in named.values() if len(names) > 1]:
        yield Finding(
            "note",
            "equal file names",
            of_set.name,
            f"{tally(alike, 'file name')} {are(alike)} in several folders",
            "nothing, as long as the table has the folders, too",
            tuple(alike),
        )
    if other:
        yield Finding(
            "error",
            "copies with different tags",
            of_set.name,
            f"{tally(other, 'recording')} {are(other)} there several times, with the same "
            "samples and different tags",
            "decide which tags are right, and keep one file of each",
            tuple(other),
        )
    if same:
        yield Finding(
            "warning",
            "copies",
            of_set.name,
            f"{tally(same, 'recording')} {are(same)} there several times, with the same samples",
            "keep one file of each, or give all of them one value in a column 'group': what is "
            "held out must not be learnt from",
            tuple(same),
        )


def of_formats(sets: Sequence[LabelledSet], heard: Mapping[Path, Heard]) -> Iterator[Finding]:
    """Rates and channels of all recordings together."""
    filename_of = {clip.path: clip.filename for of_set in sets for clip in of_set.clips}
    of_files = [(name, heard[path]) for path, name in filename_of.items() if path in heard]
    high_hz = FeatureSettings().high_hz
    rates = Counter(found.rate_hz for _, found in of_files)
    low = [(name, found) for name, found in of_files if found.rate_hz < 2 * high_hz]
    if low and len(low) < len(of_files):
        yield Finding(
            "warning",
            "low rates",
            "",
            f"{tally(low, 'recording')} of {len(of_files):,} {have(low)} a rate below "
            f"{2 * high_hz:g} Hz, and nothing to hear up to the model's {high_hz:g} Hz, which "
            "others have",
            "a model may learn the rate in place of the class: find them at a higher rate, or set "
            f"features.rate_hz={min(rates)} and features.high_hz={min(rates) / 2:g} for all",
            tuple(Case(name, f"{found.rate_hz} Hz") for name, found in low),
        )
    elif low:
        yield Finding(
            "note",
            "low rates",
            "",
            f"all recordings have rates below {2 * high_hz:g} Hz",
            f"set features.rate_hz={max(rates)} and features.high_hz={max(rates) / 2:g}",
        )
    channels = Counter(found.channels for _, found in of_files)
    for counts, what, unit in ((rates, "rates", " Hz"), (channels, "channels", "")):
        if len(counts) > 1:
            shown = ", ".join(f"{key}{unit}: {counts[key]:,}" for key in sorted(counts))
            yield Finding(
                "note",
                f"mixed {what}",
                "",
                f"recordings have different {what} ({shown})",
                "nothing, if classes don't differ in it: all are resampled, and channels averaged",
            )
