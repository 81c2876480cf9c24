"""Accuracy on real recordings, end to end: scenes, training, prediction, scores.

    python benchmarks/accuracy.py b1 --data DATA --out build/b1

reads ``benchmarks/b1.toml``, uses the program's own commands, which it prints, and goes on where
it was stopped. The scores end in ``OUT/scores.json`` and as a table on stdout.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any


def run(arguments: list[str], made: Path) -> None:
    """One command of the program, unless what it makes is there."""
    if made.exists():
        return
    print("$ earmark " + shlex.join(arguments), flush=True)
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "earmark", *arguments], check=True)
    print(f"  {time.monotonic() - started:.0f} s", flush=True)


def options(settings: dict[str, Any]) -> list[str]:
    """Settings as options: lists repeat their values behind one option."""
    words: list[str] = []
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)] if values else []
    return words


def make_scenes(plan: dict[str, Any], data: Path, out: Path) -> dict[str, tuple[Path, Path]]:
    """(table, audio folder) of each set, mixed if need be."""
    tables = {}
    for name, own in plan["sets"].items():
        folder = out / name
        sounds, audio = data / plan["sounds"]["table"], data / plan["sounds"]["audio"]
        settings = {**plan["scenes"], **own}
        words = ["synth", str(sounds), "--audio", str(audio), "--out", str(folder)]
        run([*words, *options(settings)], folder / "strong.tsv")
        weak_or_strong = "weak.tsv" if name == "train" else "strong.tsv"
        tables[name] = (folder / weak_or_strong, folder / "audio")
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("benchmark", help="b1 or b2, a TOML file beside this program")
    parser.add_argument("--data", type=Path, default=os.environ.get("EARMARK_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", help="another recipe than the benchmark's")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the recordings are: --data, or the variable EARMARK_DATA")
    text = Path(__file__).with_name(f"{arguments.benchmark}.toml").read_text(encoding="utf-8")
    plan = tomllib.loads(text)
    data, out = Path(arguments.data), arguments.out
    if "sounds" in plan:
        tables = make_scenes(plan, data, out)
    else:
        files = plan["tables"]
        tables = {
            name: (data / files[name], data / files["audio"])
            for name in ("train", "validation", "test")
        }
    recipe = arguments.recipe or plan["train"]["recipe"]
    model = out / f"{recipe}-{arguments.seed}"
    # One folder holds the audio of both tables, so that each name is looked for in both.
    audio = out if "sounds" in plan else tables["train"][1]
    words = ["train", str(tables["train"][0]), "--audio", str(audio), "--out", str(model)]
    words += ["--validation", str(tables["validation"][0]), "--recipe", recipe]
    words += ["--seed", str(arguments.seed), *options({"set": plan["train"]["set"]}), "--resume"]
    run(words, model / "model.json")
    scores: dict[str, Any] = {}
    for name, (table, folder) in tables.items():
        if name in ("train", "validation"):
            continue
        kinds = {"detect": "events", "tag": "tags"}
        for command, kind in kinds.items():
            found = model / f"{name}-{kind}.csv"
            listed = recordings_of(table, folder)
            run([command, *listed, "--model", str(model), "--out", str(found)], found)
            report = model / f"{name}-{kind}.json"
            words = ["evaluate", str(table), str(found), "--json", str(report)]
            words += options(plan["score"]) if kind == "events" else ["--thresholds", str(model)]
            run(words, report)
            scores[f"{name} {kind}"] = json.loads(report.read_text(encoding="utf-8"))
    (model / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


def recordings_of(table: Path, folder: Path) -> list[str]:
    """The folder if the table lists all of it, else the files that it lists."""
    lines = table.read_text(encoding="utf-8").splitlines()[1:]
    names = {line.split("\t")[0] for line in lines}
    present = {path.name for path in folder.iterdir()}
    return [str(folder)] if names == present else [str(folder / name) for name in sorted(names)]


if __name__ == "__main__":
    main()
