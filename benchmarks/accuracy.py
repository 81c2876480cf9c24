"""Accuracy on real recordings, end to end: scenes, training, prediction, scores.

    python -m benchmarks.accuracy b1 --data DATA --out build/b1 --page RESULTS.md
    python -m benchmarks.accuracy b1 --data DATA --out build/b1 --page RESULTS.md --tables
    python -m benchmarks.accuracy b1 --data DATA --out build/b1 --page RESULTS.md --tables small

trains and scores the benchmark's recipe, or every system of the paper over several seeds, or the
recipes of another comparison that the benchmark's file names. It reads
``benchmarks/b1.toml`` and uses the program's own commands, which it prints. It goes on where it was
stopped, and writes what came out into its section of the page.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.pages import check, made_on, put

HERE = Path(__file__).parent
EVERY_SYSTEM = "tables"
"""The comparison of all systems of the paper."""


def run(arguments: list[str], made: Path) -> None:
    """One command of the program, unless what it makes is there."""
    if made.exists():
        return
    print("$ earmark " + shlex.join(arguments), flush=True)
    started = time.monotonic()
    try:
        subprocess.run([sys.executable, "-m", "earmark", *arguments], check=True)
    except BaseException:
        if made.is_file():  # of a part of the recordings alone
            made.unlink()
        raise
    print(f"  {time.monotonic() - started:.0f} s", flush=True)


def options(settings: dict[str, Any]) -> list[str]:
    """Settings as words of a command; a list's values follow one option."""
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
        last = folder / "weak.tsv"
        if folder.exists() and not last.exists():
            shutil.rmtree(folder)
        sounds, audio = data / plan["sounds"]["table"], data / plan["sounds"]["audio"]
        words = ["synth", str(sounds), "--audio", str(audio), "--out", str(folder)]
        run([*words, *options({**plan["scenes"], **own})], last)
        tables[name] = (last if name == "train" else folder / "strong.tsv", folder / "audio")
    return tables


def train(plan: dict[str, Any], tables: dict[str, tuple[Path, Path]], model: Path) -> None:
    """Trains the plan's recipe on the training table, tuned on the validation table."""
    # One folder that holds the audio of both tables.
    audio = os.path.commonpath([tables["train"][1], tables["validation"][1]])
    words = ["train", str(tables["train"][0]), "--audio", audio, "--out", str(model)]
    words += ["--validation", str(tables["validation"][0]), *options(plan["train"]), "--resume"]
    run(words, model / "model.json")


def score(
    name: str, table: Path, folder: Path, model: Path, resolution: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores of the tags and of the events of a set."""
    reports = []
    for command, kind, how in (
        ("tag", "tags", {"thresholds": model}),
        ("detect", "events", {"resolution": resolution}),
    ):
        found, report = model / f"{name}-{kind}.csv", model / f"{name}-{kind}.json"
        recordings = recordings_of(table, folder)
        run([command, *recordings, "--model", str(model), "--out", str(found)], found)
        words = ["evaluate", str(table), str(found), "--json", str(report)]
        run([*words, *options(how)], report)
        reports.append(json.loads(report.read_text(encoding="utf-8")))
    return reports[0], reports[1]


def recordings_of(table: Path, folder: Path) -> list[str]:
    """The folder if the table lists all of it, else the files that it lists."""
    lines = table.read_text(encoding="utf-8").splitlines()[1:]
    names = {line.split("\t")[0] for line in lines}
    present = {path.name for path in folder.iterdir()}
    return [str(folder)] if names == present else [str(folder / name) for name in sorted(names)]


def section(benchmark: str, plan: dict[str, Any], model: Path, rows: list[str]) -> str:
    """What the page says of a benchmark."""
    training = json.loads((model / "model.json").read_text(encoding="utf-8"))["training"]
    seconds = training["seconds"]
    lines = [
        f"`python -m benchmarks.accuracy {benchmark} --data DATA --out build/{benchmark}`; "
        f"{made_on()}, {training['precision']} convolutions. "
        f"{training['epochs']} epochs of {training['clips']} clips took {seconds / 60:.0f} min. "
        f"Weights: {training['weights']}. Thresholds: {training['thresholds']}.",
        "",
        "Training: `earmark train ... "
        f"{shlex.join(options(plan['train']))}`; the other commands are printed.",
        "",
        "| scored on | recordings | tagging micro F1 | macro F1 | mAP | segment F1 | ER |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines)


def compare(
    name: str, which: str, plan: dict[str, Any], tables: dict[str, tuple[Path, Path]], out: Path
) -> str:
    """The recipes of a comparison; gives what the page says of them."""
    audio = os.path.commonpath([audio for _, audio in tables.values()])
    folder = out / which
    words = ["compare", str(tables["train"][0]), "--audio", audio, "--out", str(folder)]
    words += ["--validation", str(tables["validation"][0]), "--test", str(tables["test"][0])]
    words += options(plan["compare"][which])
    # It knows itself what is done already.
    run(words, out / "never")
    given = f"earmark compare ... {shlex.join(options(plan['compare'][which]))}"
    option = "--tables" if which == EVERY_SYSTEM else f"--tables {which}"
    head = f"`python -m benchmarks.accuracy {name} {option} ...`, which is `{given}`; {made_on()}."
    return f"{head}\n\n{(folder / 'tables.md').read_text(encoding='utf-8').strip()}"


def add_data(parser: argparse.ArgumentParser) -> None:
    """``--data``, a folder."""
    parser.add_argument("--data", type=Path, default=os.environ.get("EARMARK_DATA"))


def data_of(parser: argparse.ArgumentParser, data: Path | None, table: str = "") -> Path:
    """The folder that ``--data`` names, in which there is such a table."""
    if data is None:
        parser.error("say where the recordings are: --data, or the variable EARMARK_DATA")
    if not (data / table).exists():
        parser.error(f"{data / table} isn't there: --data holds the recordings and their tables")
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("benchmark", help="b1 or b2, a TOML file beside this program")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", help="another recipe than the benchmark's")
    parser.add_argument("--page", type=Path, help="a page with a section for this benchmark")
    parser.add_argument(
        "--tables", nargs="?", const=EVERY_SYSTEM, help="a comparison, by default of every system"
    )
    arguments = parser.parse_args()
    data = data_of(parser, arguments.data)
    plan = tomllib.loads((HERE / f"{arguments.benchmark}.toml").read_text(encoding="utf-8"))
    if arguments.tables and arguments.tables not in plan.get("compare", {}):
        parser.error(f"{arguments.benchmark}.toml has no [compare.{arguments.tables}]")
    place = arguments.benchmark + (f"-{arguments.tables}" if arguments.tables else "")
    check(arguments.page, place)
    plan["train"]["seed"] = arguments.seed
    if arguments.recipe:
        plan["train"]["recipe"] = arguments.recipe
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    made_with = out / "plan.json"
    text = json.dumps({key: plan.get(key) for key in ("sounds", "scenes", "sets", "tables")})
    if made_with.exists() and made_with.read_text(encoding="utf-8") != text:
        parser.error(f"{out} was made of other scenes; name another --out")
    made_with.write_text(text, encoding="utf-8")
    if "sounds" in plan:
        tables = make_scenes(plan, data, out)
    else:
        audio = data / plan["tables"].pop("audio")
        tables = {name: (data / table, audio) for name, table in plan["tables"].items()}
    if arguments.tables:
        words = compare(arguments.benchmark, arguments.tables, plan, tables, out)
        print(words)
        if arguments.page:
            put(arguments.page, place, words)
        return
    model = out / f"{Path(plan['train']['recipe']).stem}-{arguments.seed}"
    train(plan, tables, model)
    rows = []
    for name in tables.keys() - {"train", "validation"}:
        tags, events = score(name, *tables[name], model, plan["score"]["resolution"])
        rows.append(
            f"| {name} | {events['clips']} | {tags['micro_f1']:.3f} | {tags['macro_f1']:.3f} | "
            f"{tags['mean_average_precision']:.3f} | {events['f1']:.3f} | "
            f"{events['error_rate']:.3f} |"
        )
    words = section(arguments.benchmark, plan, model, sorted(rows, reverse=True))
    print(words)
    if arguments.page:
        put(arguments.page, place, words)


if __name__ == "__main__":
    main()
