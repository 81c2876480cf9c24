"""A model in; the same as ONNX graphs out, that run without torch."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from earmark.errors import UserError, first_line
from earmark.tasks.progress import counted, progress
from earmark.tasks.recordings import made_folder
from earmark.writing import filling, writing

if TYPE_CHECKING:
    from earmark.inference.recogniser import Recogniser, Samples
    from earmark.runtime import ExportedFusion, ExportedSystem, Input
    from earmark.scores import ScoreTrack

LARGEST_DIFFERENCE = 1e-4
"""By which a probability may differ from the model's."""

_LEVEL = 0.1
_SECONDS_OF_SCENE = 20.0


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported model.

    Attributes:
        out: its folder.
        graphs: how many graphs it has.
        compared: on how many sounds it was compared with the model.
        difference: of probabilities, the largest found.
    """

    out: Path
    graphs: int
    compared: int
    difference: float

    def text(self) -> str:
        """What was written and how near it is, in two lines."""
        return (
            f"exported {counted(self.graphs, 'graph')}: {self.out}\n"
            f"probabilities of {self.compared} sounds differ by at most {self.difference:.1e}"
        )


def export(
    model: Path,
    *,
    out: Path,
    to: Literal["onnx"] = "onnx",
    features: bool = False,
    check_audio: Path | None = None,
) -> Exported:
    """Writes a model as ONNX graphs, which run without torch: in Python, a browser, a phone.

    What was written is compared with the model on noise, silence, a tone and a scene, of several
    lengths; where a probability differs by more than 1e-4, before it is calibrated, nothing is
    left of it. The graphs' outputs are those before calibration, which ``earmark.json`` has.

    Args:
        model: a model folder, fused or not.
        out: the folder to make; ``earmark.runtime.load`` reads it.
        to: the format: onnx.
        features: has the graphs compute their features: they take samples.
        check_audio: a recording to compare on as well.

    Raises:
        UserError: no model, or one whose graphs say something else, or it can't be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("the folder for what is exported must be new or empty", where=out)
    from earmark.inference.fusion import load_recogniser
    from earmark.runtime import DESCRIPTION
    from earmark.runtime import load as load_exported

    recogniser = load_recogniser(model, "cpu", "float32")
    with filling(out):
        partial = made_folder(out) / ".partial"
        graphs = _write(model, partial, "samples" if features else "features")
        found = load_exported(partial)
        sounds: list[tuple[str, Samples | Path]] = [*_sounds(recogniser)]
        if check_audio is not None:
            sounds.append((str(check_audio), check_audio))
        # Calibration is the same here and there; next to 1 it widens what rounding does.
        raw = recogniser.uncalibrated(), found.uncalibrated()
        difference = 0.0
        with progress("comparing", len(sounds)) as step:
            for name, sound in sounds:
                difference = max(difference, _compared(name, *raw, sound))
                step()
        with writing(out):
            # The description comes last: a folder that has it is whole.
            for path in sorted(partial.iterdir(), key=lambda path: path.name == DESCRIPTION):
                os.replace(path, out / path.name)
            partial.rmdir()
    return Exported(out, graphs, len(sounds), difference)


def _write(model: Path, folder: Path, takes: "Input") -> int:
    """Writes a model, and its members, if it has any; gives how many graphs these are."""
    from earmark.model.bundle import Description, load, members_of, read_description
    from earmark.outputs.onnx_export import write_graph
    from earmark.runtime import FORMAT_VERSION, GRAPH, ExportedFusion, ExportedSystem

    description = read_description(model)
    made_folder(folder)
    if isinstance(description, Description):
        settings = description.settings
        networks = load(model).networks
        front_end = settings.features if takes == "samples" else None
        write_graph(folder / GRAPH, networks, front_end)
        system = ExportedSystem(
            format_version=FORMAT_VERSION,
            package_version=version("earmark"),
            class_names=description.class_names,
            input=takes,
            features=settings.features,
            clock=settings.clock,
            window_frames=description.window_frames,
            stitching=settings.stitching,
            localisation=settings.network.localisation,
            members=len(networks),
            decoding=description.decoding,
            decoding_settings=settings.decoding,
            calibration=description.calibration.classes,
        )
        _describe(folder, system)
        return 1
    names = [f"members/{number}" for number in range(len(description.members))]
    found = zip(members_of(model, description), names, strict=True)
    graphs = sum(_write(member, folder / name, takes) for member, name in found)
    fused = ExportedFusion(
        format_version=FORMAT_VERSION,
        package_version=version("earmark"),
        class_names=description.class_names,
        members=tuple(names),
        decoding=description.decoding,
        decoding_settings=description.decoding_settings,
        calibration=description.calibration.classes,
    )
    _describe(folder, fused)
    return graphs


def _describe(folder: Path, description: "ExportedSystem | ExportedFusion") -> None:
    from earmark.runtime import DESCRIPTION

    text = json.dumps(description.model_dump(mode="json"), indent=1, ensure_ascii=False)
    with writing(folder):
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def _sounds(recogniser: "Recogniser") -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Noise, silence, a tone and a scene of several lengths, by what they are called."""
    from earmark.audio import resample
    from earmark.data.demo_sounds import LOWEST_RATE_HZ, demo_sounds
    from earmark.data.scenes import SceneSettings, mix_scene, scene_rng

    rate = recogniser.rate_hz
    window = max(1, round(recogniser.window_seconds * rate))
    hop = max(1, round(float(recogniser.clock.hop_seconds) * rate))
    longest = 2 * window + window // 3
    # A sample, a part of a window, one, a little more than one, several.
    lengths = [1, window // 3 + 1, window, window + 2 * hop, longest]
    rng = np.random.default_rng(0)
    tone = _LEVEL * np.sin(2 * np.pi * 0.06 * np.arange(longest))
    scene_rate = max(rate, LOWEST_RATE_HZ)
    settings = SceneSettings(
        duration_seconds=_SECONDS_OF_SCENE, rate_hz=scene_rate, events_min=6, events_max=12
    )
    scene = mix_scene(demo_sounds(2, scene_rate, 0), settings, scene_rng(0, 0)).samples
    kinds = {
        "noise": _LEVEL * rng.standard_normal(longest),
        "silence": np.zeros(longest),
        "a tone": tone,
        "a scene": np.resize(resample(scene, scene_rate, rate), longest),
    }
    for kind, samples in kinds.items():
        for length in lengths:
            yield f"{kind} of {length / rate:.3g} s", samples[:length].astype(np.float32)


def _compared(
    name: str, model: "Recogniser", exported: "Recogniser", sound: "Samples | Path"
) -> float:
    """The largest difference of probabilities. Raises UserError if it is too large."""
    try:
        difference = _difference(model.scores(sound), exported.scores(sound))
    except UserError:
        raise
    except Exception as error:  # of onnxruntime, which has many kinds of them
        message = f"the graph fails on {name}: {first_line(error)}; nothing is left of it"
        raise UserError(message) from error
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(
            f"what was exported says something else than the model: of {name}, a probability "
            f"differs by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}; nothing is left of it"
        )
    return difference


def _difference(one: "ScoreTrack", two: "ScoreTrack") -> float:
    """The largest of all probabilities of two tracks of one recording; NaN where one is NaN."""
    if one.probabilities.shape != two.probabilities.shape or one.clock != two.clock:
        return np.inf
    pairs = [
        (one.probabilities, two.probabilities),
        (one.local_tags, two.local_tags),
        (one.tags, two.tags),
    ]
    return max(float(np.abs(a - b).max()) for a, b in pairs if a is not None and b is not None)
