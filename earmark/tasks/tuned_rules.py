"""Which thresholds a trained model gets, and what it scores with them on what was held out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earmark.config import ClassDecoding, Settings
from earmark.data.labels import Clip
from earmark.inference.decoding import decode
from earmark.inference.recogniser import Recogniser
from earmark.metrics.segments import segment_scores
from earmark.metrics.tagging import tagging_scores
from earmark.tasks.progress import progress, say
from earmark.tasks.training import TrainingData
from earmark.tuning import rule_for, tuned_on_events, tuned_on_tags, untuned


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rules, one a class.

    Attributes:
        rules: how probabilities become tags and events.
        note: how they were chosen, for the model card.
        scores: what they give on the validation clips, by name.
    """

    rules: list[ClassDecoding]
    note: str = ""
    scores: dict[str, float] = field(default_factory=dict)


def choose_untuned(classes: int, settings: Settings) -> Chosen:
    """The settings' rules, where nothing was held out."""
    threshold = settings.decoding.threshold
    note = f"{threshold} for every class, since nothing was held out to tune them on"
    return Chosen(untuned(classes, settings.decoding), note)


def choose_on_tags(
    data: TrainingData,
    settings: Settings,
    tags: NDArray[np.bool_],
    posteriors: NDArray[np.float32],
) -> Chosen:
    """Rules whose tag thresholds are the best for validation clips (N, K)."""
    tuning = settings.tuning
    rules = tuned_on_tags(tags, posteriors, settings.decoding, tuning)
    absent = [name for k, name in enumerate(data.class_names) if not tags[:, k].any()]
    for k, name in enumerate(data.class_names):
        if name in absent:
            rules[k] = rule_for(settings.decoding.threshold, settings.decoding)
    thresholds = np.array([rule.tag_threshold for rule in rules])
    tagging = tagging_scores(tags, posteriors, thresholds, data.class_names)
    scores = {
        "tagging micro F1": float(tagging.micro.f1),
        "tagging macro F1": tagging.macro_f1,
        "tagging mAP": tagging.mean_average_precision,
    }
    note = (
        f"tag thresholds maximise {tuning.average} F1 on {data.described}; frame thresholds are "
        "the same, gaps and shortest events are the settings', since there were no times to tune "
        "them on"
    )
    if absent:
        # The best threshold for a class that nothing held out has is to never give it.
        note += f"; nothing held out has {', '.join(absent)}: {settings.decoding.threshold}"
        say(f"no clip is held out of {', '.join(absent)}: the threshold is not tuned")
    return Chosen(rules, note, {k: v for k, v in scores.items() if math.isfinite(v)})


def choose_on_events(
    data: TrainingData,
    settings: Settings,
    on_tags: Chosen,
    recogniser: Recogniser,
    recordings: Mapping[str, Clip],
) -> Chosen:
    """Rules that are the best for the events of the validation recordings, too.

    Args:
        data: what is held out has events.
        settings: what "best" means, and the tag gate.
        on_tags: the tag thresholds, which stay.
        recogniser: the trained model.
        recordings: what is held out and can be read, by name.
    """
    decoding, tuning = settings.decoding, settings.tuning
    tracks = {}
    with progress("tuning", len(recordings)) as step:
        for name, clip in recordings.items():
            tracks[name] = recogniser.scores(clip.path)
            step()
    references = {name: list(clip.events or ()) for name, clip in recordings.items()}
    rules = tuned_on_events(
        on_tags.rules, list(tracks.values()), list(references.values()), decoding, tuning
    )
    found = {
        name: decode(track, rules, tag_gate=decoding.tag_gate) for name, track in tracks.items()
    }
    segments = segment_scores(references, found, data.class_names, tuning.resolution_seconds)
    scores = {
        **on_tags.scores,
        "segment F1": float(segments.overall.f1),
        "segment error rate": segments.error_rate,
    }
    scores = {name: value for name, value in scores.items() if math.isfinite(value)}
    note = (
        f"tag thresholds, frame thresholds, gaps and shortest events maximise {tuning.average} F1 "
        f"(events: in segments of {tuning.resolution_seconds:g} s) on {data.described}"
    )
    return Chosen(rules, note, scores)
