"""The challenge's protocol by the documented commands, on made audio with the official names."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import scenes

from earmark.audio import duration_seconds, read, write
from earmark.cli import main
from earmark.formats.labels import read_labels

PAGE = Path(__file__).parent.parent / "docs" / "dcase2017.md"
MIDS = {"siren": "/m/03kmc9", "horn": "/m/0912c9", "Car, passing by": "/t/dd00134"}
ORIGINAL = {"siren": "siren", "horn": "horn", "beep": "Car, passing by"}
QUICK = ["--recipes", "dcase2017-baseline", "--seeds", "1", "--device", "cpu"]
QUICK += ["--set", "training.epochs=1", "training.batch_size=8"]


@pytest.fixture(scope="module")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the official tables' names and forms, and audio of scenes of three classes."""
    folder = tmp_path_factory.mktemp("challenge")
    (folder / "audio" / "evaluation").mkdir(parents=True)
    number = 0
    for name, count in {"training": 20, "testing": 6, "evaluation": 6}.items():
        made = scenes(folder / f"made-{name}", count, seed=count)
        rows = []
        for row in read_labels(made.strong).rows:
            events = [e for e in row.events or () if e.label in ORIGINAL]
            number += 1
            video = f"{'-' if number % 3 == 0 else 'a'}{number:03d}_bcDE-fg"[:11]
            start, seconds = 10.0 * number, duration_seconds(made.audio / row.filename)
            clip = f"{video}_{start:.3f}_{start + 10:.3f}.wav"
            to = folder / "audio" / ("evaluation" if name == "evaluation" else "") / f"Y{clip}"
            samples = read(made.audio / row.filename, 16_000)
            # One clip is much shorter than the table says.
            write(to, samples[:8000] if number == 5 else samples, 16_000)
            rows.append((video, start, seconds, clip, events))
        write_tables(folder, name, rows)
    return folder


def write_tables(folder: Path, name: str, rows: list) -> None:
    weak, strong, tags = [], [], []
    for video, start, _, clip, events in rows:
        labels = sorted({ORIGINAL[event.label] for event in events}) or ["siren"]
        mids = ",".join(MIDS[label] for label in labels)
        weak.append(f'{video},{start:.3f},{start + 10:.3f},"{",".join(labels)}","{mids}"\r\n')
        tags += [f"{clip}\t{start:.3f}\t{start + 10:.3f}\t{label}\r\n" for label in labels]
        strong += [
            f"{clip}\t{e.onset_seconds:.3f}\t{e.offset_seconds:.3f}\t{ORIGINAL[e.label]}\r\n"
            for e in events
        ] or [f"{clip}\t0.000\t0.000\tsiren\r\n"]
    ending = {"training": "training_set.csv", "testing": "testing_set.csv"}.get(name)
    if ending:
        # A video that is no longer to be had.
        gone = 'gone_000000,0.000,10.000,"siren","/m/03kmc9"\r\n' if name == "training" else ""
        (folder / ending).write_text("".join(weak) + gone, newline="")
    for kind, lines in (("strong", strong), ("weak", tags)):
        table = folder / f"groundtruth_{kind}_label_{name}_set.csv"
        table.write_text("".join(lines), newline="")


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("earmark ")]


@pytest.mark.slow
def test_the_documented_commands(
    challenge: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(challenge)
    compare, train, *rest = commands()
    assert main([*compare, *QUICK]) == 0
    page = (challenge / "dcase2017" / "tables.md").read_text()
    assert "with rules from tags alone" in page
    assert "their own labels" in page
    assert re.search(r"\| dcase2017-baseline \|.*\| 18\.2 / 15\.0 / 23\.1 \|", page)
    assert "gone_000000" in capsys.readouterr().err
    train[train.index("fusion")] = "dcase2017-baseline"
    assert main([*train, *QUICK[4:]]) == 0
    for command in rest:
        assert main(command) == 0, command
    assert "segments of 1 s" in capsys.readouterr().out
    names = {line.split("\t")[0] for line in Path("task_a.txt").read_text().splitlines()}
    rows = read_labels(challenge / "groundtruth_strong_label_evaluation_set.csv").rows
    assert {f"Y{name}" for name in names} == {row.filename for row in rows}
    assert np.all([not name.startswith("Y") for name in names])
