"""The model card: what a model folder says of itself to people."""

from collections.abc import Sequence

from earmark.config import ClassDecoding
from earmark.model.bundle import Description, FusedDescription

USE = "Use it with `earmark detect RECORDING --model THIS_FOLDER --out events.csv`."


def card(description: Description | FusedDescription) -> str:
    """The text of a model folder's ``README.md``."""
    if isinstance(description, FusedDescription):
        about, scores = _of_fused(description), description.validation
    else:
        about, scores = _of_system(description), description.training.validation
    lines = ["# A sound event detection model", "", *about, "", *_rules(description)]
    if scores:
        lines += ["", "Scores on the validation clips, on which the thresholds were tuned:", ""]
        lines += [f"- {name}: {value:.3f}" for name, value in scores.items()]
    return "\n".join([*lines, "", USE]) + "\n"


def _of_system(description: Description) -> list[str]:
    training = description.training
    window = float(description.window_frames * description.settings.features.clock.hop_seconds)
    return [
        f"Trained by earmark {description.package_version} on clip-level tags alone: recipe "
        f"`{training.recipe}`, {training.clips} clips, seed {training.seed}, "
        f"{training.epochs} epochs, {training.precision} convolutions.",
        "",
        f"- Weights: {training.weights}.",
        f"- Thresholds: {training.thresholds}.",
        f"- Frames of {float(description.settings.clock.hop_seconds) * 1000:.1f} ms; windows of "
        f"{window:.1f} s, as the longest training clip.",
        f"- Licence of the training data: {description.licence_of_training_data}.",
    ]


def _of_fused(description: FusedDescription) -> list[str]:
    return [
        f"Fused by earmark {description.package_version}: the mean of the posteriors of "
        f"{len(description.members)} models, each with a card of its own: "
        + ", ".join(f"[{member}]({member}/README.md)" for member in description.members)
        + ".",
        "",
        f"- Thresholds: {description.thresholds}.",
        f"- Frames of {description.clock.hop_seconds * 1000:.1f} ms.",
        f"- Licence of the training data: {description.licence_of_training_data}.",
    ]


def _rules(description: Description | FusedDescription) -> list[str]:
    """The table of classes and how each is decided."""
    rules: Sequence[ClassDecoding] = description.decoding
    counted = isinstance(description, Description)
    columns = ["class", *(["training clips"] if counted else [])]
    columns += ["tag threshold", "frame threshold", "joins gaps of", "shortest event"]
    columns += ["gate", "median", "found as"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name, rule in zip(description.class_names, rules, strict=True):
        cells = [name.replace("|", "\\|")]
        if isinstance(description, Description):
            cells.append(str(description.training.clips_of_class[name]))
        cells += [f"{rule.tag_threshold:.4g}", f"{rule.threshold:.4g}"]
        cells += [f"{rule.max_gap_seconds:.3g} s", f"{rule.min_event_seconds:.3g} s"]
        cells += [f"{rule.gate_threshold:.4g}", f"{rule.median_seconds:.3g} s"]
        boxes = f"boxes, steps of {rule.step_seconds:.3g} s"
        cells.append(boxes if rule.step_seconds else f"runs above {rule.low_threshold:.4g}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines
