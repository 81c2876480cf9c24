"""Every example of README and docs runs, page by page, in a folder with made recordings.

What runs is what the page says, but for what would only take longer: trainings are of a small
network, the demonstration is one made before, and what an example writes to may be there from the
example before it. The rest that does not run stands in ``NOT_RUN``, each with its reason.
"""

import csv
import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import TINY, Scenes, scenes

from earmark.audio import read, write
from earmark.cli import app, main
from earmark.data.demo_sounds import demo_sounds
from earmark.data.scenes import SceneSettings
from earmark.tasks.synthesis import mix_data_set

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

NOT_RUN = {
    "installs": "a test installs nothing; CI does, on a clean checkout",
    "server": "runs until it is stopped; tests/web starts it",
    "microphone": "needs one; tests/inference/test_live.py has recordings in its place",
    "cluster": "needs several machines; tests/test_ray_engine.py and "
    "tests/test_distributed_training.py have several processes",
    "sets": "needs data sets and an hour; tests/test_bundled_benchmark.py has its parts",
    "network": "sends to a server; tests/test_hub.py has one of its own",
    "start-up file": "changes the shell's start-up file; tests/test_manners.py writes elsewhere",
}
"""Why a block that is marked ``<!-- not run: WHY -->`` isn't run."""

RUN_ELSEWHERE = {
    "docs/dcase2017.md": "tests/test_dcase2017_protocol.py",
    "docs/reference/commands.md": "tests/test_docs_reference.py",
}
# The README is read where comments would show, so its marks stand here, by how a block begins.
MARKS_OF_README = {"make demo": "installs"}

SHOWN = {"text", "csv", "tsv", "toml", "json", "html", "bibtex", ""}
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[\w -]+) -->\n+)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """Some code of a page.

    Attributes:
        why: the mark above it: why it isn't run.
    """

    language: str
    text: str
    line: int
    why: str | None

    @property
    def commands(self) -> list[str]:
        """The lines of a shell, those that go on joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, code, why = match["language"], match["text"], match["why"]
        if page.name == "README.md":
            language = language or ("bash" if code.startswith(("earmark ", "make ")) else "text")
            why = next((MARKS_OF_README[m] for m in MARKS_OF_README if code.startswith(m)), why)
        found.append(Block(language, code, text[: match.start()].count("\n") + 1, why))
    return found


ALL = [(page, block) for page in PAGES for block in blocks(page)]


def name_of(page: object) -> str:
    return page.relative_to(ROOT).as_posix() if isinstance(page, Path) else ""


def earmark_commands(block: Block) -> Iterator[list[str]]:
    for line in block.commands:
        words = shlex.split(line, comments=True) if "<<" not in line else []
        if words[:1] == ["earmark"]:
            yield words[1:]


def test_every_block_says_what_it_is() -> None:
    for page, block in ALL:
        known = SHOWN if page.name == "README.md" else SHOWN - {""}
        assert block.language in known | {"bash", "python", "pycon", "r", "javascript"}, (
            f"{page}, line {block.line}"
        )


def test_every_mark_has_its_reason_and_every_reason_its_mark() -> None:
    marks = {block.why for _, block in ALL if block.why}
    assert marks <= set(NOT_RUN)
    assert set(NOT_RUN) <= marks
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert text.count("<!-- not run") == sum(
        block.why is not None for page, block in ALL if page.name != "README.md"
    )
    named = re.findall(
        r"tests/[\w/]+(?:\.py)?", " ".join([*NOT_RUN.values(), *RUN_ELSEWHERE.values()])
    )
    assert all((ROOT / name).exists() for name in named), named


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_can_be_typed(page: Path) -> None:
    for block in blocks(page):
        for words in earmark_commands(block) if block.language == "bash" else ():
            if not words[0].startswith("-") and "--help" not in words:
                app.parse_args(words, exit_on_error=False, print_error=False)


# -- the folder that pages run in


@pytest.fixture(scope="module")
def prepared(model: Path, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whatever pages speak of, by the names that they use."""
    folder = tmp_path_factory.mktemp("pages") / "prepared"
    made = {
        name: scenes(folder / "made" / name, count, seed, seconds)
        for name, count, seed, seconds in (
            ("clips", 24, 1, 2.0),
            ("held", 10, 2, 2.0),
            ("test", 6, 3, 2.0),
        )
    }
    long = SceneSettings(
        rate_hz=8000, duration_seconds=16, events_min=9, events_max=12, max_event_seconds=1.0
    )
    mix_data_set(demo_sounds(3, 8000, 4), long, folder / "made" / "long", 4, 4)
    made["long"] = Scenes(folder / "made" / "long")
    shutil.copytree(made["clips"].audio, folder / "clips")
    for name in ("held", "test"):
        for file in made[name].audio.iterdir():
            shutil.copy(file, folder / "clips")
    shutil.copytree(made["held"].audio, folder / "held_out")
    shutil.copytree(noises, folder / "background")
    for name in ("clips.tsv", "new.tsv"):
        shutil.copy(made["clips"].weak, folder / name)
    shutil.copy(made["held"].strong, folder / "held_out.tsv")
    shutil.copy(made["test"].strong, folder / "test.tsv")
    _recordings(made["long"].audio, made["long"].strong, folder)
    _sounds(folder)
    _demonstration(made["clips"], made["held"], folder)
    for name in ("model", "model-1", "model-2"):
        shutil.copytree(model, folder / name)
    shutil.rmtree(folder / "made")
    old = Path.cwd()
    os.chdir(folder)
    try:
        where = ["recordings", "--model", "model", "--device", "cpu"]
        assert main(["detect", *where, "--out", "events.csv", "--scores", "probabilities"]) == 0
        assert main(["tag", *where, "--out", "tags.csv"]) == 0
        shutil.copy("events.csv", "other_events.csv")
    finally:
        os.chdir(old)
    return folder


def _recordings(audio: Path, strong: Path, folder: Path) -> None:
    """Recordings that are named after when they began, with their tables."""
    (folder / "recordings").mkdir()
    table = strong.read_text(encoding="utf-8")
    names = [*(f"20250131_05{n}200.wav" for n in range(3)), "recording.wav"]
    for file, name in zip(sorted(audio.iterdir()), names, strict=True):
        write(folder / "recordings" / name, read(file, 8000), 8000)
        table = table.replace(file.name, name)
    for name in ("reference.tsv", "strong.tsv", "validation.tsv"):
        (folder / name).write_text(table, encoding="utf-8")
    durations = "".join(f"{name}\t16.0\n" for name in names)
    (folder / "durations.tsv").write_text(f"filename\tduration\n{durations}", encoding="utf-8")
    shutil.copy(folder / "recordings" / "recording.wav", folder)
    _review(table, names, folder)


def _review(strong: str, names: list[str], folder: Path) -> None:
    """What the review page gives for training: of each half what is there, and what isn't."""
    events = [line.split("\t") for line in strong.splitlines()[1:]]
    classes = {event[3] for event in events}
    rows = ["filename\tonset\toffset\tevent_labels\tabsent_labels"]
    for name in names:
        for start in (0, 8):
            there = {
                label
                for file, onset, offset, label in events
                if file == name and float(onset) < start + 8 and float(offset) > start
            }
            cells = (",".join(sorted(labels)) for labels in (there, classes - there))
            rows.append("\t".join([name, str(start), str(start + 8), *cells]))
    (folder / "reviewed.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _sounds(folder: Path) -> None:
    (folder / "sounds").mkdir()
    with open(folder / "sounds.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "event_label"])
        for number, sound in enumerate(demo_sounds(1, 16_000, 5)):
            name = f"{number}.wav"
            write(folder / "sounds" / name, sound.samples, 16_000)
            rows.writerow([name, sound.label])


def _demonstration(clips: object, held: object, folder: Path) -> None:
    """What ``earmark demo`` leaves, as far as pages use it."""
    demo = folder / "made-demo"
    for made, name in ((clips, "clips"), (held, "unseen")):
        shutil.copytree(made.folder, demo / name)
    shutil.copytree(folder / "recordings", demo / "recording" / "audio")
    shutil.copy(folder / "reference.tsv", demo / "recording" / "strong.tsv")


# -- running a page


def quicker(words: list[str]) -> list[str]:
    """The command with what would only take longer made small."""
    name = words[0]
    if name in ("train", "compare", "fuse", "synth", "export"):
        out = Path(words[words.index("--out") + 1])
        if out.is_dir():
            shutil.rmtree(out)  # the example before made it
    if "--processes" in words:
        at = words.index("--processes")
        words = words[:at] + words[at + 2 :]
    if name == "synth":
        words[words.index("--scenes") + 1] = "4"
    small: tuple[str, ...] = ()
    if name == "compare":
        small = ("training.epochs=1", "training.batch_size=8")
        words += ["--recipes", "dcase2017-baseline", "--seeds", "1"]
    elif "--from" in words:
        small = ("training.epochs=1",)
    elif name in ("train", "prepare") or (name == "audit" and "--model" not in words):
        small = TINY
    if small:
        small = tuple(s for s in small if f"{s.partition('=')[0]}=" not in " ".join(words))
        words = [re.sub(r"^training.epochs=.*", "training.epochs=1", word) for word in words]
        words += ["--set", *small]
        words += [] if "--device" in words or name == "prepare" else ["--device", "cpu"]
    return words


def run_command(words: list[str]) -> int:
    """A command as it stands, but for what would only take longer."""
    if words[0] == "demo":
        out = words[words.index("--out") + 1] if "--out" in words else "demo"
        shutil.copytree("made-demo", out, dirs_exist_ok=True)
        return 0
    return main(quicker(words))


def run_bash(block: Block) -> None:
    plain = [line for line in block.commands if not re.search(r"[|<>$;&*]", line)]
    if plain == block.commands and all(line.startswith("earmark ") for line in plain):
        for words in earmark_commands(block):
            assert run_command(words) == 0, shlex.join(words)
        return
    program = Path("bin") / "earmark"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from test_docs_examples import run_command\nsys.exit(run_command(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent.absolute()}{os.pathsep}{os.environ['PATH']}"
    }
    subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], check=True, env=environment)


def run_python(block: Block, names: dict[str, object]) -> None:
    with warnings.catch_warnings():
        if "pandas" in block.text:  # warns of itself where it is imported
            warnings.simplefilter("ignore")
        exec(compile("\n" * block.line + block.text, "a page", "exec"), names)


def run_pycon(text: str) -> None:
    told: list[str] = []
    examples = doctest.DocTestParser().get_doctest(text, {}, "a page", None, 0)
    assert not doctest.DocTestRunner().run(examples, out=told.append).failed, "".join(told)


def run_page(page: Path, languages: tuple[str, ...]) -> None:
    names: dict[str, object] = {}
    listed = [block for block in blocks(page) if block.why is None]
    for block in listed:
        if block.language not in languages:
            continue
        if block.language == "bash":
            run_bash(block)
        elif block.language == "python":
            run_python(block, names)
        elif block.language == "r":
            subprocess.run(["Rscript", "-e", block.text], check=True)
    # Later examples use names of earlier ones.
    run_pycon("".join(block.text for block in listed if block.language == "pycon"))


def runs(*languages: str) -> list[Path]:
    found = dict.fromkeys(p for p, b in ALL if b.language in languages and b.why is None)
    return [page for page in found if name_of(page) not in RUN_ELSEWHERE]


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.slow
@pytest.mark.parametrize("page", runs("bash", "python", "pycon"), ids=name_of)
def test_a_page_runs(page: Path, folder: Path) -> None:
    run_page(page, ("bash", "python"))


@pytest.mark.slow
@pytest.mark.parametrize("page", runs("r"), ids=name_of)
def test_a_page_runs_in_r(page: Path, folder: Path) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    run_page(page, ("bash", "r"))


@pytest.mark.slow
def test_a_block_that_fails_is_noticed(folder: Path) -> None:
    def block(language: str, text: str) -> Block:
        return Block(language, text, 1, None)

    with pytest.raises(AssertionError, match="info nowhere"):
        run_bash(block("bash", "earmark info nowhere\n"))
    with pytest.raises(subprocess.CalledProcessError):
        run_bash(block("bash", "earmark info nowhere | cat\n"))
    with pytest.raises(FileNotFoundError):
        run_python(block("python", "open('nowhere')\n"), {})
    with pytest.raises(AssertionError):
        run_pycon(">>> 1 + 1\n3\n")
