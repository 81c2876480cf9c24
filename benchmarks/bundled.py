"""The model that comes with the program: from the sounds to ``earmark/bundled``.

    python -m benchmarks.bundled --data DATA --out build/bundled
    python -m benchmarks.bundled --data DATA --out build/bundled --install

collects the recordings whose licences allow it, mixes scenes, trains, scores, and writes the model
card with everybody's credit; ``--install`` then puts the model into the package. It reads
``benchmarks/bundled.toml``, uses the program's own commands, which it prints, and goes on where it
was stopped. ``--without ESC-10`` leaves out the classes of a set, to measure on that set what
``benchmarks.few_labels`` tells: what it is worth to start from such a model.
"""

import argparse
import csv
import re
import shutil
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import HERE, add_data, data_of, make_scenes, recordings_of, run, train
from earmark.audio import duration_seconds, write
from earmark.outputs.card import earlier_card, escaped, table_lines, with_section

LICENCES = {
    "CC0": "CC0 1.0",
    "Creative Commons Zero 1.0": "CC0 1.0",
    "CC-BY": "CC BY 3.0",
    "CC BY 3.0": "CC BY 3.0",
    "Creative Commons Attribution 3.0 Unported": "CC BY 3.0",
}
"""The licences that allow it, as they are stated and as they are called here."""

SETS = ESC10, DCASE2016, OPENSFX = "ESC-10", "DCASE 2016", "OpenSFX"
PARTS = ("train", "validation", "test")
INSTALLED = ("model.json", "model.safetensors", "README.md")
PACKAGED = HERE.parent / "earmark" / "bundled"


@dataclass(frozen=True, slots=True)
class Source:
    """A sound to mix scenes from.

    Attributes:
        file: relative to the folder of all data.
        label: its class.
        part: train, validation or test.
        recording: what it was cut from; all sounds of a recording are in one part.
        licence: as it is stated.
        author, title, url: of the recording.
        active: where in the file it sounds, from and to, in seconds; "" for its ends.
        set: the data set that it is from.
    """

    file: str
    label: str
    part: str
    recording: str
    licence: str
    author: str
    title: str
    url: str
    set: str
    active: tuple[str, str] = ("", "")


# -- which sounds


def esc10_sources(rows: Iterable[Mapping[str, str]], plan: Mapping[str, Any]) -> list[Source]:
    """The clips of ESC-10's table, in parts by fold."""
    return [
        Source(
            f"{plan['audio']}/{row['file']}",
            plan["classes"][row["class"]],
            plan["parts"][row["fold"]],
            f"{row['source_title']} by {row['author']}",
            row["licence"],
            row["author"],
            row["source_title"],
            row["source_url"],
            ESC10,
            (row["active_start_s"], row["active_end_s"]),
        )
        for row in rows
    ]


def dcase2016_sources(names: Iterable[str], plan: Mapping[str, Any]) -> list[Source]:
    """The isolated events called so; of each class the first are to train on, the last to test."""
    of_class: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        of_class[plan["classes"][name.rstrip("0123456789.og")]].append(name)
    parts = [part for part in PARTS for _ in range(plan["parts"][part])]
    return [
        Source(
            f"{plan['audio']}/{name}",
            label,
            part,
            name,
            plan["licence"],
            plan["author"],
            plan["title"],
            plan["url"],
            DCASE2016,
        )
        for label, of in of_class.items()
        for name, part in zip(of, parts, strict=True)
    ]


_PSFO = re.compile(r'^"src/wav/(\w+)\.wav" "(.*?)"\. (.*?) ?License: (.+?)\.(?: |$)', re.MULTILINE)
_ORIGINAL = re.compile(r'Original "(.+?)" by "(.+?)"')


def opensfx_sources(text: str, plan: Mapping[str, Any]) -> list[Source]:
    """The files of OpenSFX that are of a class, by its list; to train on."""
    sources = []
    for name, title, words, licence in _PSFO.findall(text):
        if name not in plan["classes"]:
            continue
        original = _ORIGINAL.search(words)
        about = words.rstrip(". ").replace('"', "")
        sources.append(
            Source(
                f"{plan['audio']}/{name}.ogg",
                plan["classes"][name],
                "train",
                " by ".join(original.groups()) if original else name,
                licence,
                plan["author"],
                f"{title} ({about})",
                plan["url"],
                OPENSFX,
            )
        )
    return sources


def together(sources: Iterable[Source]) -> list[Source]:
    """All sounds of a recording in the part of the first of them."""
    parts: dict[str, str] = {}
    return [
        replace(source, part=parts.setdefault(source.recording, source.part)) for source in sources
    ]


def allowed(sources: Iterable[Source]) -> list[Source]:
    """Those whose licence allows it, which is called by its usual name then."""
    return [
        replace(source, licence=LICENCES[source.licence])
        for source in sources
        if source.licence in LICENCES
    ]


def shipped(sources: Sequence[Source], least: int) -> list[Source]:
    """Those of the classes that have so many recordings to test on."""
    tested: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        if source.part == "test":
            tested[source.label].add(source.recording)
    return [source for source in sources if len(tested[source.label]) >= least]


def collected(data: Path, plan: Mapping[str, Any], without: str | None = None) -> list[Source]:
    """All sounds that the model is made of, without the classes of a set."""
    with open(data / plan["esc10"]["table"], encoding="utf-8", newline="") as table:
        sources = esc10_sources(csv.DictReader(table), plan["esc10"])
    events = (path.name for path in (data / plan["dcase2016"]["audio"]).iterdir())
    sources += dcase2016_sources(events, plan["dcase2016"])
    listed = (data / plan["opensfx"]["table"]).read_text(encoding="utf-8")
    sources += opensfx_sources(listed, plan["opensfx"])
    left = {source.label for source in sources if source.set == without}
    sources = [source for source in sources if source.label not in left]
    return shipped(together(allowed(sources)), plan["least_test_recordings"])


def write_sounds(table: Path, sources: Iterable[Source]) -> None:
    """The table that ``earmark synth`` reads; the parts are its folds."""
    with open(table, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["filename", "event_label", "fold", "active_start_s", "active_end_s"])
        writer.writerows([s.file, s.label, s.part, *s.active] for s in sources)


def make_silence(folder: Path, scenes: Mapping[str, Any]) -> Path:
    """A folder with a recording of nothing, for backgrounds of hardly anything."""
    folder.mkdir(exist_ok=True)
    samples = np.zeros(round((scenes["duration_seconds"] + 1) * scenes["rate_hz"]), np.float32)
    write(folder / "silence.wav", samples, scenes["rate_hz"])
    return folder


def unknown(data: Path, plan: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Recordings of none of the classes, for validation and for the test."""
    finch, numbers = plan["unknown"]["finch"], plan["unknown"]["opensfx"]
    found: dict[str, list[Path]] = {}
    for odd, part in enumerate(("validation", "test")):
        lines = (data / finch[part]).read_text(encoding="utf-8").splitlines()[1:]
        names = sorted({line.partition("\t")[0] for line in lines})
        effects = [f"osfx_{number:02}.ogg" for number in numbers if number % 2 == odd]
        found[part] = [data / finch["audio"] / name for name in names]
        found[part] += [data / plan["opensfx"]["audio"] / name for name in effects]
    return found


def in_folder(recordings: Iterable[Path], folder: Path) -> Path:
    """A folder with links to recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    for recording in recordings:
        link = folder / recording.name
        if not link.exists():
            link.symlink_to(recording.absolute())
    return folder


def join(tables: Sequence[Path], out: Path) -> Path:
    """The rows of tables with one header, in one."""
    texts = [table.read_text(encoding="utf-8").partition("\n") for table in tables]
    header = texts[0][0]
    out.write_text(f"{header}\n" + "".join(rows for _, _, rows in texts), encoding="utf-8")
    return out


# -- what the card says


def counts(sources: Iterable[Source]) -> list[str]:
    """How many sounds and recordings each class has in each part, as a table."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for source in sources:
        found[source.label][source.part].append(source.recording)
    rows = [["class", *(f"sounds (recordings) for {part}" for part in PARTS)]]
    for label, of in sorted(found.items()):
        cells = (f"{len(of[part])} ({len(set(of[part]))})" for part in PARTS)
        rows.append([label, *cells])
    return table_lines(rows)


def credits(sources: Iterable[Source]) -> list[str]:
    """A line of thanks for each recording, or for each set that is one person's work."""
    lines = (
        f"- {source.set}: {escaped(source.title)} by {escaped(source.author)}, {source.licence}, "
        f"<{source.url}>"
        for source in sources
    )
    return [
        f"{line} ({number} sounds)" if number > 1 else line
        for line, number in Counter(lines).items()
    ]


def about(
    sources: Sequence[Source],
    plan: Mapping[str, Any],
    false_alarms: int,
    of_unknown: tuple[int, float],
) -> str:
    """The card's section on what the model was made of.

    ``of_unknown`` are the false events in recordings of none of the classes, and their hours.
    """
    minutes = plan["sets"]["noise"]["scenes"] * plan["scenes"]["duration_seconds"] / 60
    wrong, hours = of_unknown
    folds = plan["esc10"]["parts"]
    learnt = [fold for fold, part in folds.items() if part != "test"]
    return "\n".join(
        [
            "## What it was made of",
            "",
            "This model comes with Earmark: `--model bundled` names it, and detection takes it "
            "where no other is named. `python -m benchmarks.bundled --data DATA --out "
            "build/bundled --install` makes it, with the settings of `benchmarks/bundled.toml`.",
            "",
            "It learnt from synthetic mixtures of real recordings: single sounds were placed at "
            "random over coloured noise, up to four in ten seconds, or none. Recordings of real "
            "places, with echoes, with other sounds and with many sounds at once, are harder: it "
            "is there to try Earmark out and to start from (`earmark train --from bundled`), not "
            "to rely on. It is not for alarms, and not for watching people. Its scores above and "
            "below are of such mixtures, too; those on the data `test` are of recordings that it "
            "neither learnt from nor was tuned on.",
            "",
            f"In {minutes:.0f} minutes of noise alone it found {false_alarms} events; in "
            f"{60 * hours:.0f} minutes of a singing finch and of other sounds that it doesn't "
            f"know, on which nothing was tuned, {wrong}, which is {wrong / hours:.0f} an hour.",
            "",
            f"It has learnt from, or was tuned on, ESC-10's folds {', '.join(sorted(learnt))}: its "
            "scores on these folds, in ESC-50 and in mixtures of them, too, mean nothing.",
            "",
            *counts(sources),
            "",
            "## Whose recordings these are",
            "",
            "The recordings are not in this folder. Excerpts of them were mixed with noise and "
            "with each other. The licence of DCASE 2016's recordings is stated by "
            f"{plan['dcase2016']['stated_by']}. Licences: CC0 1.0, "
            "<https://creativecommons.org/publicdomain/zero/1.0/>; CC BY 3.0, "
            "<https://creativecommons.org/licenses/by/3.0/>.",
            "",
            *credits(sources),
        ]
    )


# -- the work


def score(name: str, table: Path, folder: Path, model: Path) -> None:
    """Scores of tags and events, in the model's card."""
    recordings = recordings_of(table, folder)
    for command, kind, how in (
        ("tag", "tags", ["--thresholds", str(model)]),
        ("detect", "events", []),
    ):
        found, report = model / f"{name}-{kind}.csv", model / f"{name}-{kind}.json"
        run([command, *recordings, "--model", str(model), "--out", str(found)], found)
        words = ["evaluate", str(table), str(found), "--json", str(report), "--card", str(model)]
        run([*words, "--data-name", name, *how], report)


def found_in(folder: Path, model: Path, name: str) -> int:
    """How many events a model finds in the recordings of a folder."""
    found = model / f"{name}.csv"
    run(["detect", str(folder), "--model", str(model), "--out", str(found)], found)
    return len(found.read_text(encoding="utf-8").splitlines()) - 1


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without", choices=SETS, help="leaves out the classes of a set")
    parser.add_argument("--tiny", action="store_true", help="of little, to see that all runs")
    parser.add_argument("--install", action="store_true", help="puts the model into the package")
    arguments = parser.parse_args(argv)
    if (arguments.tiny or arguments.without) and arguments.install:
        parser.error("the model that is shipped is whole: leave out --tiny and --without")
    plan = tomllib.loads((HERE / "bundled.toml").read_text(encoding="utf-8"))
    if arguments.tiny:
        for own in plan["sets"].values():
            own["scenes"] = plan["tiny"]["scenes"]
        plan["train"]["set"] = plan["tiny"]["set"]
    data, out = data_of(parser, arguments.data, plan["esc10"]["table"]), arguments.out
    out.mkdir(parents=True, exist_ok=True)
    sources = collected(data, plan, arguments.without)
    sounds = out / "sounds.csv"
    write_sounds(sounds, sources)
    plan["sounds"] = {"table": sounds.absolute(), "audio": ""}
    plan["sets"]["silence"]["background_audio"] = make_silence(out / "nothing", plan["scenes"])
    tables = make_scenes(plan, data, out)
    learnt = [tables["train"][0], tables["silence"][0].with_name("weak.tsv")]
    tables["train"] = (join(learnt, out / "train.tsv"), tables["train"][1])
    quiet = {
        part: in_folder(recordings, out / "unknown" / part)
        for part, recordings in unknown(data, plan).items()
    }
    plan["train"]["negatives"] = quiet["validation"]
    model = out / "model"
    train(plan, tables, model)
    score("test", *tables["test"], model)
    alarms = found_in(tables["noise"][1], model, "noise")
    hours = sum(duration_seconds(path) for path in quiet["test"].iterdir()) / 3600
    wrong = found_in(quiet["test"], model, "unknown"), hours
    text = with_section(earlier_card(model), "bundled", about(sources, plan, alarms, wrong))
    (model / "README.md").write_text(text, encoding="utf-8")
    if arguments.install:
        for name in INSTALLED:
            shutil.copyfile(model / name, PACKAGED / name)
    print(f"{model}: {len({source.label for source in sources})} classes, {alarms} false alarms")


if __name__ == "__main__":
    main()
