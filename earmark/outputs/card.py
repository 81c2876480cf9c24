"""The model card: what a model folder says of itself to people."""

from earmark.model.bundle import Description


def card(description: Description) -> str:
    """The text of a model folder's ``README.md``."""
    training = description.training
    rules = zip(description.class_names, description.decoding, strict=True)
    counts = training.clips_of_class
    lines = [
        "# A sound event detection model",
        "",
        f"Trained by earmark {description.package_version} on clip-level tags alone: recipe "
        f"`{training.recipe}`, {training.clips} clips, seed {training.seed}, "
        f"{training.epochs} epochs, {training.precision} convolutions.",
        "",
        f"- Weights: {training.weights}.",
        f"- Thresholds: {training.thresholds}.",
        f"- Frames of {float(description.settings.clock.hop_seconds) * 1000:.1f} ms; windows of "
        f"{float(description.window_frames * description.settings.features.clock.hop_seconds):.1f}"
        " s, as the longest training clip.",
        f"- Licence of the training data: {description.licence_of_training_data}.",
        "",
        "| class | training clips | tag threshold | frame threshold | joins gaps of | "
        "shortest event |",
        "|---|---|---|---|---|---|",
    ]
    for name, rule in rules:
        shown = name.replace("|", "\\|")
        lines.append(
            f"| {shown} | {counts[name]} | {rule.tag_threshold:.4g} | {rule.threshold:.4g} | "
            f"{rule.max_gap_seconds:.3g} s | {rule.min_event_seconds:.3g} s |"
        )
    if training.validation:
        lines += ["", "Scores on the validation clips, on which the thresholds were tuned:", ""]
        lines += [f"- {name}: {value:.3f}" for name, value in training.validation.items()]
    lines += ["", "Use it with `earmark detect RECORDING --model THIS_FOLDER --out events.csv`."]
    return "\n".join(lines) + "\n"
