"""The program from outside: what it prints, and with which code it ends."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, Scenes

from earmark import tasks
from earmark.cli import SUMMARIES, main


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in tasks.MODULE_OF:
        assert main([name, "--help"]) == 0
        page = " ".join(capsys.readouterr().out.split())
        for parameter in inspect.signature(getattr(tasks, name)).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                assert f"--{parameter.name.strip('_').replace('_', '-')}" in page


def test_summaries_are_the_functions_first_lines() -> None:
    assert list(SUMMARIES) == list(tasks.MODULE_OF)
    for name, summary in SUMMARIES.items():
        documentation = inspect.getdoc(getattr(tasks, name)) or ""
        assert " ".join(documentation.partition("\n\n")[0].split()).startswith(summary[:-1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["detekt"], "detekt"),
        (["detect", "--modle", "x"], "--modle"),
        (["detect", "nowhere.wav", "--model", "nowhere", "--out", "e.csv"], "model"),
        (["train", "nowhere.tsv", "--audio", ".", "--out", "m"], "nowhere.tsv"),
        (["recipes", "nothing"], "no recipe 'nothing'"),
        (["export", "m"], "--out"),
    ],
)
def test_a_users_error_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("earmark: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_the_whole_way(
    clips: Scenes, held_out: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, events = str(tmp_path / "model"), str(tmp_path / "events.csv")
    tags = str(tmp_path / "tags.csv")
    words = ["train", str(clips.weak), "--audio", str(clips.audio), "--out", model]
    settings = [word for setting in TINY for word in ("--set", setting)]
    assert main([*words, *settings, "--validation", "0.2", "--device", "cpu"]) == 0
    held = str(held_out.audio)
    assert main(["detect", held, "--model", model, "--out", events]) == 0
    assert main(["tag", held, "--model", model, "--out", tags]) == 0
    assert main(["evaluate", str(held_out.strong), events, "--resolution", "0.5"]) == 0
    assert main(["evaluate", str(held_out.weak), tags, "--thresholds", model]) == 0
    assert main(["info", model]) == 0
    assert "parameters" in capsys.readouterr().out
    picture = str(tmp_path / "p.png")
    recording = str(sorted(held_out.audio.iterdir())[0])
    words = ["plot", recording, "--model", model, "--out", picture]
    assert main([*words, "--reference", str(held_out.strong)]) == 0
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_some_bad_recordings_end_with_1(
    model: Path, held_out: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sorted(held_out.audio.iterdir())[0]
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    words = ["tag", str(good), str(bad), "--model", str(model), "--out", str(tmp_path / "t.csv")]
    assert main(words) == 1
    assert "bad.wav" in capsys.readouterr().out


def test_verbose_says_what_runs_the_networks(
    model: Path, held_out: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(sorted(held_out.audio.iterdir())[0])
    words = ["tag", good, "--model", str(model), "--out", str(tmp_path / "t.csv")]
    words += ["--device", "cpu", "--precision", "float32"]
    assert main(words) == 0
    line = "earmark: 1 network on cpu by torch, float32, "
    assert line not in capsys.readouterr().err
    for verbose in (["--verbose", *words], [*words, "--verbose"]):
        assert main(verbose) == 0
        assert capsys.readouterr().err.count(line) == 1


def test_help_does_not_load_torch() -> None:
    program = (
        "import sys; from earmark.cli import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'scipy')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
