"""The command line: the tasks by their names, their parameters as options. No logic."""

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from earmark.errors import UserError, printable
from earmark.model.hub import BUNDLED, named
from earmark.model.hub import offline as no_fetching
from earmark.tasks import MODULE_OF
from earmark.writing import writing

SUMMARIES = {
    "prepare": "Computes the features of a large set into shards, which a training streams.",
    "train": "Trains a model on clip-level tags.",
    "fuse": "Makes one model of several: the mean of their probabilities.",
    "tune": "Chooses anew how a model decides, on labels it wasn't trained on; its weights stay.",
    "detect": "Finds which classes sound in recordings, and from when to when.",
    "tag": "Finds which classes sound anywhere in recordings.",
    "listen": "Says what sounds, as it happens: from a microphone, a line as each event ends.",
    "evaluate": "Scores predicted tags, events or frame scores; which of them, the columns tell.",
    "compare": "Trains and scores recipes over several seeds, and writes the paper's tables.",
    "plot": "Draws what was found in a recording, or how a model was trained.",
    "serve": "Shows what models find, in the browser: look, listen, correct, and take labels home.",
    "report": "Makes a page of what was detected: counts over time, examples to look at and hear.",
    "export": "Writes a model as ONNX graphs, which run without torch.",
    "push": "Puts a model on the Hugging Face hub, for others to use.",
    "info": "Says what a model knows, where it comes from and how it decides.",
    "recipes": "Lists the recipes, or shows one.",
    "check": "Says what to mend in a labelled data set before a model learns from it.",
    "audit": "Finds the tags that are probably wrong, and the moments to listen to.",
    "synth": "Mixes isolated sounds into labelled scenes.",
    "demo": "Shows all of it on sounds that it makes itself.",
}

EXAMPLES = {
    "": [
        "earmark detect recording.wav",
        "earmark train clips.tsv --audio clips/ --out model",
        "earmark detect recordings/ --model model --out events.csv",
        "earmark detect --help",
    ],
    "prepare": [
        "earmark prepare clips.tsv --audio clips/ --out shards",
        "earmark prepare clips.tsv --audio clips/ --out s3://bucket/shards",
        "earmark prepare clips.tsv --audio clips/ --out shards --engine ray",
    ],
    "train": [
        "earmark train clips.tsv --audio clips/ --out model",
        "earmark train clips.tsv --audio clips/ --out model --resume",
        "earmark train clips.tsv --audio clips/ --out model --set training.epochs=40",
        "earmark train clips.tsv --audio clips/ --out model --from bundled",
        "earmark train shards --out model",
    ],
    "fuse": ["earmark fuse model-1 model-2 --out model"],
    "tune": ["earmark tune model held_out.tsv --audio held_out/ --target event_f1"],
    "detect": [
        "earmark detect recording.wav",
        "earmark detect recordings/ --model model --out events.csv",
        "earmark detect recordings/ --model model --out events --scores probabilities",
        "earmark detect recordings/ --model model --out events.csv --format csv,raven",
    ],
    "tag": [
        "earmark tag recordings/ --model model --out tags.csv",
        "earmark tag recordings/ --model model --out tags.csv --labels",
    ],
    "listen": [
        "earmark listen",
        "earmark listen --list-inputs",
        "earmark listen --model model --input 3 --out heard.csv",
    ],
    "evaluate": [
        "earmark evaluate reference.tsv events.csv",
        "earmark evaluate reference.tsv tags.csv --thresholds model",
        "earmark evaluate reference.tsv probabilities/ --audio recordings/",
        "earmark evaluate reference.tsv events.csv --against other_events.csv",
    ],
    "compare": ["earmark compare clips.tsv --audio clips/ --test test.tsv --out tables"],
    "plot": [
        "earmark plot recording.wav --model model --out picture.png",
        "earmark plot model --out curves.png",
    ],
    "serve": [
        "earmark serve --model model --open",
        "earmark serve --model model --audio recordings/ --work reviews/",
        "earmark serve --model model --audio recordings/ --host 0.0.0.0",
    ],
    "report": ["earmark report events.csv --audio recordings/ --model model --out report.html"],
    "export": [
        "earmark export model --out exported",
        "earmark export model --out exported --features",
    ],
    "push": ["earmark push model USER/NAME --private"],
    "info": ["earmark info model"],
    "recipes": ["earmark recipes", "earmark recipes fusion"],
    "check": ["earmark check clips.tsv --audio clips/ --validation held_out.tsv"],
    "audit": [
        "earmark audit clips.tsv --audio clips/ --out audit.csv",
        "earmark audit new_clips.tsv --audio clips/ --out audit.csv --model model",
    ],
    "synth": ["earmark synth sounds.csv --audio sounds/ --out scenes --scenes 1000 --seed 1"],
    "demo": ["earmark demo --out demo"],
}
"""What ``--help`` of each command shows at its end; of the whole program, under no name."""

AFTER_INTERRUPTION = {
    "prepare": "shards that are done stay, and the same command goes on",
    "train": "what was learnt stays, and the same command with --resume goes on",
    "detect": "with --out, what is done stays, and the same command goes on",
    "tag": "with --out, what is done stays, and the same command goes on",
    "listen": "what was heard till then is printed",
    "compare": "what is done stays, and the same command goes on",
    "audit": "folds that are done stay, and the same command goes on",
    "serve": "reviews and analyses stay, uploads are gone, and the same command goes on",
    "demo": "the next demo makes everything anew",
}
"""What stays of a command that was stopped; of the others, all is as it was."""


def _examples(command: str) -> str:
    """The examples as Markdown: a list stays a line each, however wide the terminal is."""
    return "\n".join(["Examples:", "", *(f"* {line}" for line in EXAMPLES.get(command, ()))])


app = App(
    name="earmark",
    help="From clip labels to timestamps: weakly supervised sound event detection.",
    help_epilogue=_examples(""),
    default_parameter=Parameter(negative="", consume_multiple=True),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _place, (_name, _module) in enumerate(MODULE_OF.items()):
    app.command(
        f"earmark.tasks.{_module}:{_name}",
        name=_name,
        help=SUMMARIES[_name],
        help_epilogue=_examples(_name),
        sort_key=_place,
    )
app.meta.suppress_keyboard_interrupt = False


@app.meta.default
def _command(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    verbose: bool = False,
    offline: bool = False,
) -> object:
    """Runs the command that the words name.

    Args:
        verbose: says on the way what runs the networks, and what would be faster.
        offline: lets nothing be fetched: models of the hub (hf://USER/NAME) come from the cache.
    """
    with _telling() if verbose else nullcontext(), no_fetching() if offline else nullcontext():
        return app([_word(word) for word in words], exit_on_error=False, print_error=False)


def _word(word: str) -> str:
    """A word, with a folder ``./bundled`` as an absolute path: as one, it would be ``bundled``."""
    option, equals, name = word.rpartition("=")
    return f"{option}{equals}{named(name)}" if Path(name) == BUNDLED else word


@app.command(name="--install-completion", help_epilogue="")
def install_completion(
    *,
    shell: Literal["bash", "zsh", "fish", "powershell"] | None = None,
    out: Path | None = None,
) -> str:
    """Has the shell complete commands, options and paths.

    Args:
        shell: which shell; without, the one that this is typed into.
        out: where its script goes; without, where the shell looks, and its start-up file says so.
    """
    from cyclopts.completion.detect import ShellDetectionError

    with writing(out or Path.home()):
        try:
            path = app.install_completion(shell=shell, output=out, add_to_startup=out is None)
        except ShellDetectionError as error:
            raise UserError("which shell this is can't be seen; say it with --shell") from error
    return f"{path}: completes what is typed, from the next start of the shell"


@contextmanager
def _telling() -> Iterator[None]:
    """Has what the package logs printed to stderr."""
    logger = logging.getLogger("earmark")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("earmark: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 0 if all went well, 1 if some recordings failed, 2 for a user's error."""
    try:
        result = app.meta(arguments, exit_on_error=False, print_error=False)
    except UserError as error:
        return _fail(str(error))
    except CycloptsError as error:
        page = " ".join(["earmark", *filter(None, [_command_of(arguments)]), "--help"])
        told = str(error).rstrip()
        return _fail(f"{told if told.endswith('...') else told.rstrip('.')}; see {page}")
    except KeyboardInterrupt:
        command = _command_of(arguments)
        after = AFTER_INTERRUPTION.get(command, "what was there is as it was")
        print(f"earmark: interrupted; {after}", file=sys.stderr)
        return 130
    text = getattr(result, "text", None)
    said = text() if text is not None else result
    if isinstance(said, str) and said:
        try:
            if sys.stdout is not None and sys.stdout.isatty():
                said = _shown(said)
            elif isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8")  # as a table in a file is
            print(said, flush=True)
        except OSError as error:
            _leave_stdout()
            return _fail(f"stdout: can't be written: {error.strerror}")
    return 1 if getattr(result, "failures", None) else 0


def _shown(text: str) -> str:
    """What a terminal may show of a text: names of files in it command nothing."""
    return re.sub(r"[^\n\t]+", lambda found: printable(found[0]), text)


def _command_of(arguments: Sequence[str] | None) -> str:
    words = sys.argv[1:] if arguments is None else arguments
    return next((word for word in words if word in SUMMARIES), "")


def _leave_stdout() -> None:
    """Lets what stdout could not take go, which Python would try to write again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _fail(message: str) -> int:
    print(f"earmark: {' '.join(message.split())}", file=sys.stderr)
    return 2
