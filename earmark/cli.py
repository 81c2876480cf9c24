"""The command line: the tasks by their names, their parameters as options. No logic."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from earmark.errors import UserError
from earmark.tasks import MODULE_OF

SUMMARIES = {
    "train": "Trains a model on clip-level tags.",
    "fuse": "Makes one model of several: the mean of their probabilities.",
    "tune": "Chooses anew how a model decides, on labels it wasn't trained on; its weights stay.",
    "detect": "Finds which classes sound in recordings, and from when to when.",
    "tag": "Finds which classes sound anywhere in recordings.",
    "evaluate": "Scores predicted tags, events or frame scores; which of them, the columns tell.",
    "compare": "Trains and scores recipes over several seeds, and writes the paper's tables.",
    "plot": "Draws a recording's spectrogram, probabilities and events.",
    "info": "Says what a model knows, where it comes from and how it decides.",
    "recipes": "Lists the recipes, or shows one.",
    "synth": "Mixes isolated sounds into labelled scenes.",
    "demo": "Shows all of it on sounds that it makes itself.",
}

AFTER_INTERRUPTION = {
    "train": "what was learnt stays, and the same command with --resume goes on",
    "detect": "what is done stays, and the same command goes on",
    "tag": "what is done stays, and the same command goes on",
    "compare": "what is done stays, and the same command goes on",
    "demo": "the next demo makes everything anew",
}
"""What stays of a command that was stopped; of the others, all is as it was."""

app = App(
    name="earmark",
    help="From clip labels to timestamps: weakly supervised sound event detection.",
    default_parameter=Parameter(negative="", consume_multiple=True),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _name, _module in MODULE_OF.items():
    app.command(f"earmark.tasks.{_module}:{_name}", name=_name, help=SUMMARIES[_name])
app.meta.suppress_keyboard_interrupt = False


@app.meta.default
def _command(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    verbose: bool = False,
) -> object:
    """Runs the command that the words name.

    Args:
        verbose: says on the way what runs the networks, and what would be faster.
    """
    with _telling() if verbose else nullcontext():
        return app(words, exit_on_error=False, print_error=False)


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
        return _fail(str(error))
    except KeyboardInterrupt:
        words = sys.argv[1:] if arguments is None else arguments
        command = next((word for word in words if word in SUMMARIES), "")
        after = AFTER_INTERRUPTION.get(command, "what was there is as it was")
        print(f"earmark: interrupted; {after}", file=sys.stderr)
        return 130
    text = getattr(result, "text", None)
    if isinstance(result, str) or text is not None:
        try:
            print(result if text is None else text(), flush=True)
        except OSError as error:
            _leave_stdout()
            return _fail(f"stdout: can't be written: {error.strerror}")
    return 1 if getattr(result, "failures", None) else 0


def _leave_stdout() -> None:
    """Lets what stdout could not take go, which Python would try to write again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _fail(message: str) -> int:
    print(f"earmark: {' '.join(message.split())}", file=sys.stderr)
    return 2
