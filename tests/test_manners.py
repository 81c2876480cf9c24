"""How the program speaks: examples, completion, what is shown while it works, no blame."""

import ast
import io
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

import earmark
from earmark import tasks
from earmark.cli import EXAMPLES, app, main
from earmark.tasks import progress, recordings

PACKAGE = Path(earmark.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


# -- help


def test_every_command_has_examples() -> None:
    assert set(EXAMPLES) == {"", *tasks.MODULE_OF}
    assert all(EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_ends_with_examples_that_can_be_typed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = shown(capsys, *filter(None, [name]))
    for line in EXAMPLES[name]:
        assert line in page.partition("Examples:")[2]
        assert len(line) < 78, "a line of a terminal"
        program, *words = shlex.split(line)
        assert program == "earmark"
        assert words[0] == name or not name
        if "--help" not in words:
            app.parse_args(words, exit_on_error=False, print_error=False)


def test_commands_stand_in_the_order_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    page = shown(capsys)
    places = [page.index(f"│ {name} ") for name in tasks.MODULE_OF]
    assert places == sorted(places)


def test_a_mistyped_command_points_to_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "--modle", "m"]) == 2
    assert "--model" in (told := capsys.readouterr().err)
    assert told.endswith("; see earmark detect --help\n")
    assert main(["detekt"]) == 2
    assert capsys.readouterr().err.endswith("see earmark --help\n")


def test_one_option_means_one_thing() -> None:
    """The types of what several commands share; ``evaluate`` and ``check`` differ in --json."""
    types: dict[str, set[str]] = {}
    for name in tasks.MODULE_OF:
        for option, kind in getattr(tasks, name).__annotations__.items():
            types.setdefault(option, set()).add(str(kind))
    for option in ("audio", "out", "model", "seed", "device", "skip_missing", "resume"):
        kinds = {re.sub(r" \| None|pathlib\.|<class '|'>", "", kind) for kind in types[option]}
        kinds = {re.sub(r".*Sequence\[(\w+)\]", r"\1", kind) for kind in kinds}
        assert len(kinds - {"NoneType"}) == 1, (option, kinds)


# -- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_of_each_shell(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script"
    assert main(["--install-completion", "--shell", shell, "--out", str(script)]) == 0
    assert str(script) in capsys.readouterr().out
    text = script.read_text(encoding="utf-8")
    for name in tasks.MODULE_OF:
        assert name in text
    assert "skip-missing" in text
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(script)], check=True)


def test_bash_completes(tmp_path: Path) -> None:
    script = tmp_path / "script"
    assert main(["--install-completion", "--shell", "bash", "--out", str(script)]) == 0

    def completed(*words: str) -> list[str]:
        program = (
            f'source "{script}"; COMP_WORDS=({shlex.join(words)}); '
            f'COMP_CWORD={len(words) - 1}; _earmark; printf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        done = subprocess.run(["bash", "-c", program], check=True, capture_output=True, text=True)
        return done.stdout.split()

    assert "detect" in completed("earmark", "det")
    assert "--model" in completed("earmark", "detect", "--mo")


def test_completion_that_can_not_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = ["--install-completion", "--shell", "bash", "--out", str(tmp_path / "file" / "x")]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


# -- while it works


def test_bars_and_signs_of_life_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        out = io.StringIO()
        monkeypatch.setattr(
            progress, "console", Console(file=out, force_terminal=terminal, width=80)
        )
        with progress.progress("reading", 2) as step:
            step()
        with progress.working("thinking"):
            time.sleep(0.02)
        for what in ("reading", "thinking"):
            assert (what in out.getvalue()) == terminal


def test_a_long_recording_moves_the_bar_bit_by_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(8000), 1000)
    for terminal, soon, moves in (
        (True, 0.0, [0.25, 0.25, 0.5]),
        (True, 60.0, [1.0]),
        (False, 0.0, [1.0]),
    ):
        console = Console(file=io.StringIO(), force_terminal=terminal)
        monkeypatch.setattr(progress, "console", console)
        monkeypatch.setattr(recordings, "SOON_SECONDS", soon)
        moved: list[float] = []

        def step(steps: float = 1.0, moved: list[float] = moved) -> None:
            moved.append(steps)

        with recordings.one_recording(path, step) as reached:
            reached(2.0)
            reached(4.0)
        assert moved == moves
        with recordings.one_recording(tmp_path / "none.wav", step) as reached:
            reached(2.0)
        assert moved == [*moves, 1.0]


@pytest.mark.parametrize("command", ["detect", "tag", "check", "plot"])
def test_it_is_told_how_much_of_a_recording_is_done(
    command: str, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16_000 * 90), 16_000)
    moved: list[float] = []

    @contextmanager
    def watched(what: str, total: int) -> Iterator[Callable[[float], None]]:
        yield lambda steps=1.0: moved.append(steps)

    monkeypatch.setattr(progress, "progress", watched)
    monkeypatch.setattr("earmark.tasks.picture.progress", watched)
    monkeypatch.setattr(progress, "console", Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setattr(recordings, "SOON_SECONDS", 0.0)
    (tmp_path / "labels.tsv").write_text("filename\tevent_labels\nlong.wav\tsiren\n")
    words = {
        "detect": f"{path} --model {model} --out {tmp_path}/events.csv",
        "tag": f"{path} --model {model} --out {tmp_path}/tags.csv",
        "check": f"{tmp_path}/labels.tsv --audio {tmp_path}",
        "plot": f"{path} --model {model} --out {tmp_path}/picture.png",
    }
    main([command, *words[command].split()])
    total = 2 if command == "plot" else 1
    assert sum(moved) == pytest.approx(total)
    assert len([step for step in moved if 0 < step < 1]) >= 2 * total


# -- words


def test_no_message_blames() -> None:
    blame = re.compile(r"\byou must\b|\billegal\b|\binvalid\b|\bwrong\b|\bbad\b|\bstupid\b", re.I)
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls:
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name not in ("UserError", "AudioError", "say"):
                continue
            for part in ast.walk(call):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    assert not blame.search(part.value), f"{file.name}: {part.value}"


# -- Windows and macOS


def test_text_is_utf_8_whatever_the_system_thinks() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            named = {keyword.arg for keyword in node.keywords}
            if isinstance(node.func, ast.Attribute) and name in ("read_text", "write_text"):
                ok = "encoding" in named or (name == "read_text" and node.args)
            elif isinstance(node.func, ast.Name) and name == "open":
                mode = node.args[1] if len(node.args) > 1 else None
                ok = "encoding" in named or "b" in str(getattr(mode, "value", ""))
            else:
                continue
            assert ok, f"{file.name}, line {node.lineno}"


def test_nothing_is_imported_that_only_unix_has() -> None:
    unix = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "syslog"}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not unix & {alias.name for alias in node.names}, file
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in unix, file


def test_what_is_synced_may_be_written() -> None:
    """Windows syncs no file that is open for reading alone."""
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        if "os.fsync" in text:
            opened = re.findall(r'open\([^)\n]*"(\w+\+?b)"[^\n]*as file:[^\n]*\n\s*os\.fsync', text)
            assert all(mode != "rb" for mode in opened), file
