"""The model card: what a model folder says of itself to people.

It is Markdown with the front matter of the Hugging Face hub. Commands write what stands between
their own marks, and write it anew; all else in the file is somebody's own text, and stays.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from earmark.config import ClassDecoding, LogitLine
from earmark.model.bundle import Calibration, Description, FusedDescription, Judged

USE = "Use it with `earmark detect RECORDING --model THIS_FOLDER --out events.csv`."

FEW_CLIPS = 50
"""A class that was learnt from fewer clips is named in the card."""

_MOST_NAMED = 20
_MODEL = "model"
_NOTE = "; written anew by commands: write your own text outside"
_OF_SCORES = re.compile(
    r"<!-- earmark: begin (?P<key>scores of [^\n]*?)(?:;[^\n]*?)? -->"
    r"(?P<content>(?:(?!<!-- earmark: ).)*?)<!-- earmark: end (?P=key) -->",
    re.DOTALL,
)
_SCORES_OF = "## Scores of "
_BEFORE = ", before the thresholds were tuned anew"
_TITLE = re.compile(rf"^({_SCORES_OF}[^\r\n]*?)(?:{_BEFORE})?(?=\r?$)", re.MULTILINE)
_LICENCES = re.compile(
    r"unknown|mit|apache-2\.0|cc0-1\.0|odbl|pddl|odc-by|cc-by-2\.[05]|cc-by-nc(?:-sa)?-2\.0"
    r"|cc-by(?:-sa|-nc|-nc-sa|-nc-nd)?-[34]\.0|cc-by-nd-4\.0"
)
"""Of the hub's identifiers those of data."""

_CITATION = """
```bibtex
@inproceedings{xu2018large,
  author = {Xu, Yong and Kong, Qiuqiang and Wang, Wenwu and Plumbley, Mark D.},
  title = {Large-Scale Weakly Supervised Audio Classification Using Gated Convolutional Neural
           Network},
  booktitle = {IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)},
  year = {2018},
  pages = {121--125},
  url = {https://ieeexplore.ieee.org/document/8461975},
  eprint = {1710.00343},
  archiveprefix = {arXiv}
}
@software{earmark,
  author = {{The Earmark authors}},
  title = {Earmark: from clip labels to timestamps},
  version = {%s},
  year = {2026}
}
```
"""


def card(description: Description | FusedDescription, earlier: str = "") -> str:
    """The text of a model folder's ``README.md``.

    Args:
        description: of the model.
        earlier: the text that is there, of which all stays but what is written of the model.
    """
    about = about_model(description)
    if earlier.strip():
        return with_section(earlier, _MODEL, about)
    title = "# A sound event detection model\n"
    return with_section(f"{front_matter(description)}\n{title}", _MODEL, about)


def earlier_card(folder: Path) -> str:
    """The card that a folder has; "" if it has none.

    Bytes that are no UTF-8 come back as they were where a card is written; nobody's text is lost.
    """
    path = folder / "README.md"
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""


def with_section(text: str, key: str, content: str) -> str:
    """A text in which what stands between the marks of ``key`` is ``content``; at the end if there
    are no such marks yet."""
    begin, end = f"<!-- earmark: begin {key}", f"<!-- earmark: end {key} -->"
    section = f"{begin}{_NOTE} -->\n\n{content.strip()}\n\n{end}"
    # A mark whose other one is gone is nobody's section.
    between = rf"{re.escape(begin)}(?:;[^\n]*?)? -->(?:(?!<!-- earmark: ).)*?{re.escape(end)}"
    found = re.search(between, text, re.DOTALL)
    if found is None:
        gap = "" if text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}{section}\n"
    return f"{text[: found.start()]}{section}{text[found.end() :]}"


def scores_key(kind: str, data_name: str) -> str:
    """The marks of the scores of one kind on one data set."""
    return f"scores of {quote(kind)} on {quote(data_name, ' ', errors='surrogateescape')}"


def sections_of_scores(text: str) -> list[str]:
    """What stands in a card between the marks of scores, a section each."""
    return [found["content"].strip() for found in _OF_SCORES.finditer(text)]


def with_scores_of_before(text: str) -> str:
    """A card whose scores are said to be of the thresholds that the model had before."""
    return _OF_SCORES.sub(lambda found: _TITLE.sub(rf"\1{_BEFORE}", found[0]), text)


def scores_section(
    kind: str, data_name: str, about: Sequence[str], tables: Iterable[Sequence[Sequence[str]]]
) -> str:
    """Scores as a section of a card.

    Args:
        kind: what is scored: tags, events or frame scores.
        data_name: what the data are called.
        about: what must be known to read the tables, a line each.
        tables: rows of cells, the header first.
    """
    parts = [f"{_SCORES_OF}{escaped(kind)} on {escaped(data_name)}"]
    parts.append("\n".join(f"- {escaped(line)}" for line in about))
    return "\n\n".join([*parts, *("\n".join(table_lines(rows)) for rows in tables)])


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown, of cells that are taken literally."""
    lines = [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return lines


def escaped(text: str) -> str:
    """Text in one line that no reader of Markdown takes for marks.

    >>> escaped("a|b <i>\\nc")
    'a\\\\|b &lt;i> c'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return re.sub(r"([\\`*|\[\]])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;")


def about_model(description: Description | FusedDescription) -> str:
    """What is known of a model: its origin, its classes, its scores, its limits."""
    if isinstance(description, FusedDescription):
        about = _of_fused(description)
        scores, judged = description.validation, description.judged
    else:
        about = _of_system(description)
        scores, judged = description.training.validation, description.training.judged
    parts = [
        *about,
        "",
        "## Classes, and how each is decided",
        "",
        *_rules(description),
        "",
        *_scores(scores, judged),
        *_false_alarms(judged),
        "## Use, and limits",
        "",
        USE,
        "",
        *_limits(description),
        "",
        "## How to cite",
        _CITATION % description.package_version,
    ]
    return "\n".join(parts)


def front_matter(description: Description | FusedDescription) -> str:
    """What the hub reads. The licence is that of the training data: of another nothing is known."""
    stated = description.licence_of_training_data
    known = re.sub(r"[\s_]+", "-", stated.strip().lower())
    known = {"cc0": "cc0-1.0", "not-stated": "unknown"}.get(known, known)
    licence = [f"license: {known}"]
    if not _LICENCES.fullmatch(known):
        # A text of JSON is one of YAML.
        licence = ["license: other", f"license_name: {json.dumps(stated)}"]
    lines = ["---", "library_name: earmark", "pipeline_tag: audio-classification", *licence]
    lines += ["tags:", "- audio", "- sound-event-detection", "- audio-tagging"]
    return "\n".join([*lines, "- weakly-supervised", "---", ""])


def _of_system(description: Description) -> list[str]:
    training = description.training
    window = float(description.window_frames * description.settings.features.clock.hop_seconds)
    return [
        f"Trained by earmark {description.package_version} on clip-level tags alone: recipe "
        f"`{training.recipe}`, {training.clips} clips, seed {training.seed}, "
        f"{training.epochs} epoch{'s' * (training.epochs > 1)}, {training.precision} convolutions.",
        "",
        f"- Licence of the training data: {escaped(description.licence_of_training_data)}.",
        *(f"- Started from the model {escaped(name)}." for name in training.started_from),
        f"- Weights: {escaped(training.weights)}.",
        *_calibration(description.calibration),
        f"- Thresholds: {escaped(training.thresholds)}.",
        f"- Frames of {float(description.settings.clock.hop_seconds) * 1000:.1f} ms; windows of "
        f"{window:.1f} s, as the longest training clip.",
    ]


def _of_fused(description: FusedDescription) -> list[str]:
    return [
        f"Fused by earmark {description.package_version}: the mean of the posteriors of "
        f"{len(description.members)} models, each with a card of its own: "
        + ", ".join(f"[{member}]({member}/README.md)" for member in description.members)
        + ".",
        "",
        f"- Licence of the training data: {escaped(description.licence_of_training_data)}.",
        *_calibration(description.calibration),
        f"- Thresholds: {escaped(description.thresholds)}.",
        f"- Frames of {description.clock.hop_seconds * 1000:.1f} ms.",
    ]


def _calibration(calibration: Calibration) -> list[str]:
    """What was done to the probabilities, and what came of it."""
    if not calibration.classes:
        return ["- Probabilities: as the network gives them, not calibrated."]
    errors = [
        f"of {what} {100 * before:.1f} % before, {100 * after:.1f} % after"
        for what, (before, after) in calibration.errors.items()
    ]
    there = f"; expected calibration error there {', '.join(errors)}" if errors else ""
    lines = any(of_class.frames != LogitLine() for of_class in calibration.classes)
    of_frames = "are as they were calibrated before" if lines else "are as the network gives them"
    stay = "" if "frames" in calibration.errors else f"; frames {of_frames}"
    return [f"- Probabilities: calibrated, {escaped(calibration.note)}{there}{stay}."]


def _rules(description: Description | FusedDescription) -> list[str]:
    """The table of classes and how each is decided."""
    rules: Sequence[ClassDecoding] = description.decoding
    counted = isinstance(description, Description)
    columns = ["class", *(["training clips"] if counted else [])]
    columns += ["tag threshold", "frame threshold", "joins gaps of", "shortest event"]
    columns += ["gate", "median", "found as"]
    rows = [columns]
    for name, rule in zip(description.class_names, rules, strict=True):
        cells = [name]
        if isinstance(description, Description):
            cells.append(str(description.training.clips_of_class[name]))
        cells += [f"{rule.tag_threshold:.4g}", f"{rule.threshold:.4g}"]
        cells += [f"{rule.max_gap_seconds:.3g} s", f"{rule.min_event_seconds:.3g} s"]
        cells += [f"{rule.gate_threshold:.4g}", f"{rule.median_seconds:.3g} s"]
        boxes = f"boxes, steps of {rule.step_seconds:.3g} s"
        cells.append(boxes if rule.step_seconds else f"runs above {rule.low_threshold:.4g}")
        rows.append(cells)
    return table_lines(rows)


def _scores(scores: Mapping[str, float], judged: Judged | None) -> list[str]:
    if not scores:
        return []
    where = "the validation clips" if judged is None else escaped(judged.on)
    lines = ["## Scores", "", f"On {where}, which also chose the thresholds:", ""]
    if judged is None or not judged.intervals:
        lines += [f"- {name}: {value:.3f}" for name, value in scores.items()]
        return [*lines, ""]
    rows = [["score", "value", "95 % interval"]]
    for name, value in scores.items():
        ends = judged.intervals.get(name)
        rows.append([name, f"{value:.3f}", f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-"])
    drawn = (
        f"Intervals are of bootstrap draws of the {judged.sources} clips, or sources that the "
        "clips come from. On recordings that had no part in choosing thresholds, expect less; "
        "`earmark evaluate REFERENCE EVENTS --card THIS_FOLDER` adds such scores below."
    )
    return [*lines, *table_lines(rows), "", drawn, ""]


def _false_alarms(judged: Judged | None) -> list[str]:
    """What it confuses: what there was where a class was wrongly found."""
    if judged is None or not judged.false_alarms:
        return []
    rows = [["wrongly found", f"in so many {judged.unit}", "and there was"]]
    for alarm in judged.false_alarms:
        there = [f"{name} in {count}" for name, count in alarm.there.items()]
        nothing = [f"none of the classes in {alarm.nothing}"] if alarm.nothing else []
        rows.append([alarm.label, str(alarm.count), ", ".join([*there, *nothing])])
    return ["## What it confuses", "", "On the same clips:", "", *table_lines(rows), ""]


def _limits(description: Description | FusedDescription) -> list[str]:
    """For what it is good, and for what not, in plain words."""
    count = len(description.class_names)
    fused = isinstance(description, FusedDescription)
    hop = description.clock.hop_seconds * 1000
    lines = [
        "- It is meant to say which of its classes sound in a recording, and about when, for "
        "people who look over what it finds or count with its errors.",
        f"- It knows {count} class{'' if count == 1 else 'es'}. Any other sound may be taken for "
        "one of them, or goes unnoticed.",
        f"- It decides in frames of {hop:.0f} ms, but {'its members' if fused else 'it'} learnt "
        "from tags of clips, not from times: where an event begins and ends is less sure than "
        "that it is there.",
        "- Scores hold for recordings like those they were measured on. With other microphones, "
        "places or noise they are mostly lower: label some recordings of your own, and evaluate.",
        "- It is no alarm: don't rely on it alone where a sound that is missed or made up does "
        "harm.",
    ]
    if isinstance(description, Description):
        clips = description.training.clips_of_class
        if rare := [name for name in description.class_names if clips[name] < FEW_CLIPS]:
            shown = ", ".join(map(escaped, rare[:_MOST_NAMED]))
            more = f" and {len(rare) - _MOST_NAMED} more" if len(rare) > _MOST_NAMED else ""
            lines.append(f"- Learnt from fewer than {FEW_CLIPS} clips each: {shown}{more}.")
    return lines
