"""The clips of a training, as it learns from them and is validated on them."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from scipy import sparse

from earmark.audio import AudioError, duration_seconds
from earmark.config import Settings
from earmark.data.clips import ClipFeatures, clip_features
from earmark.data.labels import Clip, known_matrix, tag_matrix
from earmark.data.shards import ShardedFeatures, StoredClips
from earmark.data.windows import windows
from earmark.errors import UserError
from earmark.features import FeatureExtractor
from earmark.tasks.progress import progress, say
from earmark.tasks.training_data import TrainingData


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFeatures:
    """Clips that could be read, their features, and their tags (N, K), sparse.

    ``known`` (N, K) says which of these are known, None if all are.
    """

    clips: list[Clip]
    features: ClipFeatures | ShardedFeatures
    tags: sparse.csr_array
    known: sparse.csr_array | None


class TrainingClips:
    """What is learnt from and validated on, each read when it is first asked for.

    Features are kept in ``folder``. Shards that are open are closed at the end of its context.
    """

    def __init__(
        self,
        data: TrainingData,
        settings: Settings,
        folder: Path,
        *,
        skip_missing: bool,
        rank: int,
    ) -> None:
        self._data = data
        self._settings = settings
        self._folder = folder
        self._skip_missing = skip_missing
        self._rank = rank
        # On the CPU whatever the device: decoding takes longer, and the numbers are the same.
        self._extractor = FeatureExtractor(settings.features)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @cached_property
    def training(self) -> LabelledFeatures:
        labelled = self._labelled(self._data.training, "training")
        given = {label for clip in self._data.training for label in clip.labels}
        for name, clips in zip(self._data.class_names, labelled.tags.sum(axis=0), strict=True):
            if not clips and name in given:
                raise UserError(f"no clip of class '{name}' can be read; leave the class out")
        return labelled

    @cached_property
    def validation(self) -> LabelledFeatures | None:
        """Validation clips as prediction will see them: no longer than training clips."""
        held = self._data.held.clips
        if not held:
            return None
        if self._data.held.strong:
            held = [part for clip in self._lasting(held) for part in self._windows(clip)]
        return self._labelled(held, "validation")

    @property
    def window_frames(self) -> int:
        return int(self.training.features.lengths.max())

    def _lasting(self, clips: Sequence[Clip]) -> Iterator[Clip]:
        """The clips whose length is known."""
        failures = []
        for clip in clips:
            try:
                duration_seconds(clip.path)
            except AudioError as error:
                failures.append(str(error))
            else:
                yield clip
        self._report_unreadable(failures, len(clips))

    def _windows(self, clip: Clip) -> Iterator[Clip]:
        clock = self._settings.features.clock
        seconds = duration_seconds(clip.path)
        if clock.frame_count(round(seconds * clock.rate_hz)) <= self.window_frames:
            yield clip
            return
        window = clock.samples_for(self.window_frames) / clock.rate_hz
        yield from windows(clip, seconds, min(window, self._settings.training.max_clip_seconds))

    def _labelled(self, clips: Sequence[Clip], name: str) -> LabelledFeatures:
        stored = self._data.stored if name == "training" else self._data.held_stored
        if stored is not None:
            return self._in_shards(stored, name)
        with progress(f"features of the {name} clips", len(clips)) as step:
            features = clip_features(
                clips,
                self._extractor,
                self._folder / f"{name}_features",
                max_clip_seconds=self._settings.training.max_clip_seconds,
                after_clip=step,
            )
        self._report_unreadable(features.failures, len(clips))
        readable = [clips[number] for number in features.readable]
        names = self._data.class_names
        return LabelledFeatures(
            readable, features, tag_matrix(readable, names), known_matrix(readable, names)
        )

    def _in_shards(self, stored: StoredClips, name: str) -> LabelledFeatures:
        """Clips whose features were prepared, with these settings."""
        was = stored.contents.features.model_dump()
        now = self._settings.features.model_dump()
        if other := [key for key in now if now[key] != was[key]]:
            raise UserError(
                f"the shards' features.{other[0]} is {was[other[0]]}, the recipe's "
                f"{now[other[0]]}; give the recipe and the settings that they were prepared with, "
                "or prepare others",
                where=stored.where,
            )
        folder = self._folder / f"open_shards-{name}-{self._rank}"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        features = ShardedFeatures(stored, self._settings.training.open_shards, folder)
        self._open.callback(features.close)
        names, clips = self._data.class_names, stored.clips
        return LabelledFeatures(
            clips, features, tag_matrix(clips, names), known_matrix(clips, names)
        )

    def _report_unreadable(self, failures: Sequence[str], clips: int) -> None:
        """Lists clips that can't be read; raises UserError unless they may be skipped."""
        if not failures:
            return
        what = f"{len(failures)} of {clips} clips can't be read"
        for failure in failures:
            say(f"unreadable: {failure}")
        if not self._skip_missing:
            raise UserError(f"{what}: {failures[0]}; mend or remove them, or pass --skip-missing")
        say(f"{what}; going on without them")
