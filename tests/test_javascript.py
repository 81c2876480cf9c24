"""The example in JavaScript says what Python says, to the last digits that both have."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_runtime import recalibrated, saved, sound

from earmark.config import LogitLine
from earmark.inference.fusion import load_recogniser
from earmark.tasks import export

EXAMPLE = Path(__file__).parents[1] / "examples" / "javascript"
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (EXAMPLE / "node_modules" / "onnxruntime-web").is_dir(),
        reason=f"onnxruntime-web is not installed: npm install --prefix {EXAMPLE}",
    ),
]


def run(folder: Path, recording: Path) -> subprocess.CompletedProcess[str]:
    words = [str(NODE), str(EXAMPLE / "probabilities.mjs"), str(folder), str(recording)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_its_numbers_are_those_of_python(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = saved(tmp_path / "model", members=2, time_pooling=[2, 1, 1])
    recalibrated(model, LogitLine(shift=1), LogitLine(scale=2), LogitLine(), LogitLine(shift=-1))
    export(model, out=tmp_path / "out", features=True)
    path = tmp_path / "sound.wav"
    for samples in (700, 5):
        soundfile.write(path, sound(samples), 1000, subtype="PCM_16")
        done = run(tmp_path / "out", path)
        assert done.returncode == 0, done.stderr
        head, whole, *rows = (line.split("\t") for line in done.stdout.splitlines())
        track = load_recogniser(model).scores(path)
        assert head == ["onset", *track.class_names]
        found = np.array(rows, np.float64)
        np.testing.assert_allclose(np.array(whole[1:], np.float64), track.tags, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found[:, 1:], track.probabilities, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found[:, 0], track.edges_seconds[:-1], rtol=0, atol=5.1e-4)
    soundfile.write(path, sound(700), 2000)
    done = run(tmp_path / "out", path)
    assert done.returncode == 1
    assert "must be mono, at 1000 Hz" in done.stderr
