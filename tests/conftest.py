"""What several test files need: a small labelled data set, and a model that learnt from it."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import soundfile

from earmark.data.demo_sounds import DEMO_CLASSES, demo_sounds
from earmark.data.scenes import SceneSettings
from earmark.model.bundle import TrainingSummary
from earmark.tasks.synthesis import mix_data_set

# The same examples at every run of CI, so that it judges the change; new ones everywhere else.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

# Started in the background, a shell's children ignore Ctrl-C, and so would theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

AS_THE_PAPER = (
    "network.background=false",
    "network.activation=gated",
    "network.localisation=attention",
    "training.schedule=constant",
    "training.average_decay=0",
    "training.min_epoch_clips=1",
    "training.frame_share=0",
    "augmentation.shift=false",
    "augmentation.pitch_bands=0",
    "augmentation.pitch_stretch=0",
    "augmentation.filter_db=0",
    "augmentation.level_db=0",
    "augmentation.mixed_share=0",
    "tuning.one_rule=false",
    "tuning.average=macro",
)
"""What takes off of the default recipe what comes on top of the paper."""

TINY = (
    *AS_THE_PAPER,
    "features.rate_hz=8000",
    "features.window_samples=512",
    "features.hop_samples=320",
    "features.mel_bands=24",
    "features.high_hz=4000",
    "network.filters=8",
    "network.layers_per_block=1",
    "network.time_pooling=[1, 1]",
    "network.frequency_pooling=[4, 3]",
    "network.recurrent_units=8",
    "training.batch_size=8",
    "training.epochs=3",
)


@dataclass(frozen=True)
class Scenes:
    """A folder of scenes as ``earmark synth`` makes them."""

    folder: Path

    @property
    def audio(self) -> Path:
        return self.folder / "audio"

    @property
    def weak(self) -> Path:
        return self.folder / "weak.tsv"

    @property
    def strong(self) -> Path:
        return self.folder / "strong.tsv"


ABLE = ("beep", "bell", "horn", "siren")
"""What the able model knows."""


def scenes(
    folder: Path,
    count: int,
    seed: int,
    seconds: float = 2.0,
    *,
    labels: Sequence[str] = DEMO_CLASSES,
    longest: float = 1.0,
) -> Scenes:
    """Scenes of synthetic sirens, horns, beeps and the like."""
    settings = SceneSettings(
        rate_hz=8000, duration_seconds=seconds, events_max=2, max_event_seconds=longest
    )
    sounds = [sound for sound in demo_sounds(3, 8000, seed) if sound.label in labels]
    mix_data_set(sounds, settings, folder, count, seed)
    return Scenes(folder)


def training_summary(*class_names: str) -> TrainingSummary:
    """What a model that was never trained says of its training."""
    return TrainingSummary(
        recipe="none",
        seed=0,
        epochs=1,
        precision="float32",
        clips=3,
        clips_of_class=dict.fromkeys(class_names, 3),
        weights="of nothing",
        thresholds="untuned",
        tuned_on={},
        validation={},
        seconds=1.5,
    )


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """Clips to train on."""
    return scenes(tmp_path_factory.mktemp("data") / "train", 32, seed=1)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """Clips to judge by, of other names than those to train on."""
    return scenes(tmp_path_factory.mktemp("data") / "held", 12, seed=2)


@pytest.fixture(scope="session")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of 2 s that hold no class: noise of several loudnesses."""
    folder = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(0)
    for level in (0.01, 0.1, 0.3):
        soundfile.write(folder / f"{level}.wav", level * rng.uniform(-1, 1, 16_000), 8000)
    return folder


@pytest.fixture(scope="session")
def model(clips: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder after a short training."""
    from earmark.tasks.training import train

    out = tmp_path_factory.mktemp("models") / "model"
    train(clips.weak, audio=clips.audio, out=out, set=TINY, device="cpu")
    return out


@pytest.fixture(scope="session")
def able_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt its four classes well; for slow tests."""
    from earmark.tasks.training import train

    folder = tmp_path_factory.mktemp("able")
    given = scenes(folder / "data", 120, seed=21, seconds=4.0, labels=ABLE, longest=2.0)
    settings = (*TINY, "network.filters=16", "network.recurrent_units=16")
    settings += ("training.epochs=25", "training.learning_rate=0.003")
    train(given.weak, audio=given.audio, out=folder / "model", set=settings, device="cpu")
    return folder / "model"
