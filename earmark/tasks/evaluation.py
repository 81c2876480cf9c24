"""``evaluate``: how good predicted tags or events are, held against a reference."""

import math
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.config import SEGMENT_SECONDS
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.durations import read_durations
from earmark.formats.labels import LabelRow, LabelTable, read_labels
from earmark.formats.tables import NAME_COLUMNS, read_table, seconds_text
from earmark.formats.tags import read_tags
from earmark.metrics.segments import MOST_SEGMENTS, SegmentScores, segment_scores
from earmark.metrics.tagging import TaggingScores, tagging_scores

DEFAULT_THRESHOLD = 0.5
SIGNIFICANT_DIGITS = 12

_REMARKS = {
    "clips_missing_from_prediction": "clips without a row in the prediction, taken as empty",
    "clips_missing_from_reference": "clips without a row in the reference, taken as empty",
    "predicted_clips_outside_list": "predicted clips that are not in the clip list, left out",
    "reference_clips_outside_list": "reference clips that are not in the clip list, left out",
    "classes_missing_from_prediction": "classes missing from the prediction, missed throughout",
    "classes_missing_from_reference": "classes missing from the reference, all false alarms",
    "zero_length_events_in_reference": "reference events of 0 s, set aside",
    "zero_length_events_in_prediction": "predicted events of 0 s, set aside",
}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The scores of one prediction, and what they rest on.

    Attributes:
        reference: the table that is taken as true.
        prediction: the table that is scored.
        clips: how many clips were scored.
        scores: of tags, or of events in segments.
        thresholds_from: where the thresholds of probabilities come from; None where there are
            no probabilities, and then ``scores.average_precision`` means nothing.
        left_out: how many clips, classes and events were left out or repaired, by what.
    """

    reference: Path
    prediction: Path
    clips: int
    scores: TaggingScores | SegmentScores
    thresholds_from: str | None
    left_out: Mapping[str, int]

    def text(self) -> str:
        """A report of one page: headline numbers, a class table, what was left out."""
        origin = self.thresholds_from
        if isinstance(self.scores, TaggingScores):
            kind = "Tags"
            about = [] if origin is None else [f"thresholds: {origin}"]
            headline, classes = _tagging_tables(self.scores, origin is not None)
        else:
            kind, about = "Events", [f"segments of {self.scores.resolution_seconds:g} s"]
            headline, classes = _segment_tables(self.scores)
        head = [
            f"{kind} of {self.prediction} against {self.reference}",
            f"clips: {self.clips}, classes: {len(self.scores.class_names)}; "
            "F1, precision, recall and AP in percent",
            *about,
        ]
        remarks = [f"{_REMARKS[name]}: {count}" for name, count in self.left_out.items() if count]
        blocks = [head, _aligned(headline), _aligned(classes), remarks]
        return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Everything by stable names, as fractions; None for what has no finite value."""
        scores = self.scores
        content: dict[str, Any] = {
            "task": "tagging" if isinstance(scores, TaggingScores) else "segments",
            "reference": str(self.reference),
            "prediction": str(self.prediction),
            "clips": self.clips,
            "left_out": dict(self.left_out),
        }
        by_class: dict[str, NDArray[Any]] = {
            "f1": scores.counts.f1,
            "precision": scores.counts.precision,
            "recall": scores.counts.recall,
            "n_reference": scores.counts.n_reference,
        }
        if isinstance(scores, TaggingScores):
            content |= {
                "thresholds_from": self.thresholds_from,
                "micro_f1": scores.micro.f1,
                "micro_precision": scores.micro.precision,
                "micro_recall": scores.micro.recall,
                "macro_f1": scores.macro_f1,
                "macro_precision": scores.macro_precision,
                "macro_recall": scores.macro_recall,
                "f1_of_mean_precision_and_recall": scores.f1_of_mean_precision_and_recall,
                "classes_without_positives": scores.classes_without_positives,
            }
            if self.thresholds_from is not None:
                content["mean_average_precision"] = scores.mean_average_precision
                by_class["average_precision"] = scores.average_precision
                by_class["threshold"] = scores.thresholds
        else:
            content |= {
                "resolution_seconds": scores.resolution_seconds,
                "f1": scores.overall.f1,
                "precision": scores.overall.precision,
                "recall": scores.overall.recall,
                "error_rate": scores.error_rate,
                "substitutions": scores.substitutions,
                "deletions": scores.deletions,
                "insertions": scores.insertions,
                "n_reference": scores.n_reference,
                "macro_f1": scores.macro_f1,
            }
            by_class["error_rate"] = scores.class_error_rate
        content["classes"] = {
            name: {key: values[k] for key, values in by_class.items()}
            for k, name in enumerate(scores.class_names)
        }
        plain: dict[str, Any] = _plain(content)
        return plain


def evaluate(
    reference: Path,
    prediction: Path,
    *,
    durations: Path | None = None,
    thresholds: str | float | Path | None = None,
    resolution: float = SEGMENT_SECONDS,
    json: Path | None = None,
) -> Evaluation:
    """Scores predicted tags or events; which of the two, the columns tell.

    Events are scored in segments against a strong reference. Tags, or the probabilities of
    clips, are scored against the tags of the reference or, where it is strong, the classes of
    its events. A clip that the prediction leaves out counts with its misses, and the classes are
    those of both sides together.

    Args:
        reference: a table of labels in any format that is read.
        prediction: a table of events, of clip probabilities or of tags.
        durations: the files to score; without it those of the reference. A file that the
            reference leaves out is scored as empty.
        thresholds: for probabilities: one number, or a model folder with one a class. Without
            it 0.5.
        resolution: seconds of a segment, for events.
        json: a file ending in .json to write the result to.

    Raises:
        UserError: a table that can't be read, tables that don't fit each other, no clip in
            common, or an option that the prediction has no use for.
    """
    if json is not None and json.suffix != ".json":
        raise UserError("the result goes to a file ending in .json", where=json)
    if not 0 < resolution < math.inf:
        raise UserError(f"a resolution must be above 0 s, came as {resolution}")
    truth = read_labels(reference)
    true_rows = _by_clip(truth)
    found = _read_prediction(prediction, thresholds)
    predicted = (found.tags if found.events is None else found.events).keys()
    if found.events is None and resolution != SEGMENT_SECONDS:
        raise UserError(f"a resolution is for events; leave it out to score {prediction}")
    if found.events is not None and not truth.strong:
        raise UserError(
            "events need a strong reference (filename, onset, offset, event_label), but this one "
            "has tags only; give the strong one, or predict tags",
            where=reference,
        )

    clips = list(true_rows) if durations is None else _listed(durations, true_rows)
    if not clips:
        raise UserError("there is no clip to score", where=durations or reference)
    if predicted and predicted.isdisjoint(clips):
        raise _nothing_in_common(prediction, predicted, durations or reference, clips)
    names = sorted({*truth.class_names, *found.class_names})
    left_out = {
        "clips_missing_from_prediction": len(set(clips) - predicted),
        "clips_missing_from_reference": len(set(clips) - true_rows.keys()),
        "predicted_clips_outside_list": len(predicted - set(clips)),
        "reference_clips_outside_list": len(true_rows.keys() - set(clips)),
        "classes_missing_from_prediction": len(names) - len(found.class_names),
        "classes_missing_from_reference": len(names) - len(truth.class_names),
        "zero_length_events_in_reference": truth.zero_length_events,
        "zero_length_events_in_prediction": found.zero_length_events,
    }
    result = Evaluation(
        reference=reference,
        prediction=prediction,
        clips=len(clips),
        scores=(
            _score_tags(clips, names, true_rows, found)
            if found.events is None
            else _score_events(clips, names, true_rows, found.events, resolution)
        ),
        thresholds_from=found.thresholds_from,
        left_out=left_out,
    )
    if json is not None:
        _write_json(json, result.as_dict())
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Prediction:
    """Tags or events by clip; events are None where it is tags.

    ``tags`` holds probabilities (K,) of ``class_names``, 0 and 1 where they were decided before.
    """

    class_names: tuple[str, ...]
    tags: Mapping[str, NDArray[np.float64]]
    events: Mapping[str, Sequence[Event]] | None = None
    thresholds: NDArray[np.float64] | float = DEFAULT_THRESHOLD
    thresholds_from: str | None = None
    zero_length_events: int = 0


def _read_prediction(path: Path, thresholds: str | float | Path | None) -> _Prediction:
    header = read_table(path).records[0].cells
    decided = {"event_label", "event_labels", "onset", "offset"}
    if header[0] in NAME_COLUMNS and decided.isdisjoint(header):
        filenames, class_names, probabilities = read_tags(path)
        limits, origin = _thresholds(thresholds, class_names)
        tags = dict(zip(filenames, probabilities, strict=True))
        return _Prediction(class_names, tags, None, limits, origin)
    if thresholds is not None:
        raise UserError(
            "thresholds are for clip probabilities, but this table is decided already; leave "
            "them out",
            where=path,
        )
    table = read_labels(path)
    rows = _by_clip(table)
    if table.strong:
        events = {clip: row.events or () for clip, row in rows.items()}
        return _Prediction(
            table.class_names, {}, events, zero_length_events=table.zero_length_events
        )
    return _Prediction(
        table.class_names,
        {
            clip: np.array([name in row.labels for name in table.class_names], np.float64)
            for clip, row in rows.items()
        },
    )


def _thresholds(
    given: str | float | Path | None, class_names: Sequence[str]
) -> tuple[NDArray[np.float64] | float, str]:
    """One threshold for all classes or one each (K,), and where from, in words."""
    if given is None:
        return DEFAULT_THRESHOLD, f"{DEFAULT_THRESHOLD}, for none were given"
    try:
        number = float(str(given))
    except ValueError:
        return _model_thresholds(Path(str(given)), class_names), f"those of the model {given}"
    if not 0 <= number <= 1:
        raise UserError(f"a threshold must lie in [0, 1], came as {given}")
    return number, f"{number}"


def _model_thresholds(folder: Path, class_names: Sequence[str]) -> NDArray[np.float64]:
    # Read as plain JSON: the code for model folders takes seconds to import.
    path = folder / "model.json"
    if not path.is_file():
        raise UserError(
            f"thresholds must be a number in [0, 1] or a model folder (with a model.json), "
            f"came as '{folder}'"
        )
    try:
        model = loads(path.read_text(encoding="utf-8"))
        limits = [float(rule["tag_threshold"]) for rule in model["decoding"]]
        if not all(0 <= limit <= 1 for limit in limits):
            raise ValueError("a threshold outside [0, 1]")
        of_class = dict(zip(model["class_names"], limits, strict=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"must hold class_names and for each a tag_threshold in decoding ({error!r})",
            where=path,
        ) from error
    if unknown := [name for name in class_names if name not in of_class]:
        raise UserError(
            f"the model has no class '{unknown[0]}' of the prediction; give the folder of the "
            "model that made it",
            where=path,
        )
    return np.array([of_class[name] for name in class_names], np.float64)


def _by_clip(table: LabelTable) -> dict[str, LabelRow]:
    """The rows by clip: a filename, with its times where a part of the file is meant."""
    rows: dict[str, LabelRow] = {}
    for row in table.rows:
        clip = row.filename
        if row.start_seconds is not None and row.stop_seconds is not None:
            part = f"{seconds_text(row.start_seconds)}-{seconds_text(row.stop_seconds)}"
            clip = f"{clip} ({part} s)"
        if clip in rows:
            raise UserError(
                f"a clip may have one row, but '{clip}' has one in line {rows[clip].line} too; "
                "join them or remove one",
                where=table.path,
                line=row.line,
            )
        rows[clip] = row
    return rows


def _listed(durations: Path, true_rows: Mapping[str, LabelRow]) -> list[str]:
    clips = list(read_durations(durations))
    if clips and true_rows and true_rows.keys().isdisjoint(clips):
        raise _nothing_in_common(durations, clips, "the reference", true_rows)
    return clips


def _nothing_in_common(
    path: Path, clips: Collection[str], other: object, others: Collection[str]
) -> UserError:
    here, there = (", ".join(f"'{clip}'" for clip in sorted(side)[:2]) for side in (clips, others))
    return UserError(
        f"no clip is also in {other}: here {here}, there {there}; write them alike (usual causes "
        "are a leading 'Y', a folder, another suffix, or times of parts of files)",
        where=path,
    )


def _score_tags(
    clips: Sequence[str],
    names: Sequence[str],
    true_rows: Mapping[str, LabelRow],
    found: _Prediction,
) -> TaggingScores:
    index = {name: k for k, name in enumerate(names)}
    columns = [index[name] for name in found.class_names]
    reference = np.zeros((len(clips), len(names)), np.bool_)
    # What the prediction leaves out has probability 0, which no threshold is below.
    probabilities = np.zeros(reference.shape)
    limits = np.full(len(names), DEFAULT_THRESHOLD)
    limits[columns] = found.thresholds
    for n, clip in enumerate(clips):
        if clip in true_rows:
            reference[n, [index[label] for label in true_rows[clip].labels]] = True
        if clip in found.tags:
            probabilities[n, columns] = found.tags[clip]
    return tagging_scores(reference, probabilities, limits, names)


def _score_events(
    clips: Sequence[str],
    names: Sequence[str],
    true_rows: Mapping[str, LabelRow],
    found: Mapping[str, Sequence[Event]],
    resolution_seconds: float,
) -> SegmentScores:
    reference = {
        clip: (true_rows[clip].events or ()) if clip in true_rows else () for clip in clips
    }
    estimate = {clip: found[clip] for clip in clips if clip in found}
    for side in (reference, estimate):
        for clip, events in side.items():
            last = max((event.offset_seconds for event in events), default=0.0)
            if last / resolution_seconds >= MOST_SEGMENTS:
                raise UserError(
                    f"an event of '{clip}' ends at {last:g} s, too far for segments of "
                    f"{resolution_seconds:g} s; mend the time or take longer segments"
                )
    return segment_scores(reference, estimate, names, resolution_seconds)


def _tagging_tables(scores: TaggingScores, ranked: bool) -> tuple[list[list[str]], list[list[str]]]:
    """Headline and class table; ``ranked`` says whether there were probabilities."""
    micro, both = scores.micro, scores.f1_of_mean_precision_and_recall
    headline = [
        ["", "F1", "precision", "recall"],
        ["micro", *_percents(micro.f1, micro.precision, micro.recall)],
        ["macro", *_percents(scores.macro_f1, scores.macro_precision, scores.macro_recall)],
        ["F1 of mean precision and recall", *_percents(both), "", ""],
    ]
    classes = [
        [name, str(n), *values]
        for name, n, values in zip(
            scores.class_names,
            scores.counts.n_reference.tolist(),
            _class_percents(scores),
            strict=True,
        )
    ]
    header = ["class", "clips", "F1", "precision", "recall"]
    if ranked:
        known = len(classes) - scores.classes_without_positives
        name = f"mAP (of the {known} classes that occur)"
        headline.append([name, *_percents(scores.mean_average_precision), "", ""])
        header += ["AP", "threshold"]
        for k, row in enumerate(classes):
            row += [*_percents(scores.average_precision[k]), f"{scores.thresholds[k]:.6g}"]
    return headline, [header, *classes]


def _segment_tables(scores: SegmentScores) -> tuple[list[list[str]], list[list[str]]]:
    overall = scores.overall
    headline = [
        ["", "F1", "precision", "recall", "error rate"],
        [
            "overall",
            *_percents(overall.f1, overall.precision, overall.recall),
            f"{scores.error_rate:.2f}",
        ],
        ["macro", *_percents(scores.macro_f1), "", "", ""],
        [f"active segments: {scores.n_reference}", "", "", "", ""],
        [f"substitutions: {scores.substitutions}", "", "", "", ""],
        [f"deletions: {scores.deletions}", "", "", "", ""],
        [f"insertions: {scores.insertions}", "", "", "", ""],
    ]
    classes = [
        [name, str(n), *values, f"{rate:.2f}"]
        for name, n, values, rate in zip(
            scores.class_names,
            scores.counts.n_reference.tolist(),
            _class_percents(scores),
            scores.class_error_rate,
            strict=True,
        )
    ]
    return headline, [["class", "segments", "F1", "precision", "recall", "error rate"], *classes]


def _class_percents(scores: TaggingScores | SegmentScores) -> list[list[str]]:
    counts = scores.counts
    return [
        _percents(*values)
        for values in zip(counts.f1, counts.precision, counts.recall, strict=True)
    ]


def _percents(*values: float | np.floating[Any] | NDArray[np.float64]) -> list[str]:
    return ["-" if math.isnan(value) else f"{100 * float(value):.1f}" for value in values]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, the first column to the left, numbers to the right."""
    # A class name may hold a line break.
    names = [" ".join(row[0].split()) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    width = max(map(len, names))
    return [
        "  ".join(
            [name.ljust(width), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for name, row in zip(names, rows, strict=True)
    ]


def _plain(value: Any) -> Any:
    """Values as JSON has them: numbers with 12 digits, None for one that is not finite."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    return value


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file that appears whole or not at all."""
    text = dumps(content, indent=1, ensure_ascii=False) + "\n"
    beside = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:8]}.part")
    try:
        # A device such as /dev/stdout is written to, never replaced.
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        try:
            beside.write_text(text, encoding="utf-8")
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"can't be written: {error.strerror or error}", where=path) from error
