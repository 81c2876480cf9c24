"""What the program can do, in words. Each is a function here and a command of the program.

The functions load on first use, so that asking for help does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earmark.tasks.auditing import audit as audit
    from earmark.tasks.checking import check as check
    from earmark.tasks.comparison import compare as compare
    from earmark.tasks.demonstration import demo as demo
    from earmark.tasks.description import info as info
    from earmark.tasks.description import recipes as recipes
    from earmark.tasks.detection import detect as detect
    from earmark.tasks.detection import tag as tag
    from earmark.tasks.evaluation import evaluate as evaluate
    from earmark.tasks.exporting import export as export
    from earmark.tasks.fusion import fuse as fuse
    from earmark.tasks.hub import push as push
    from earmark.tasks.listening import listen as listen
    from earmark.tasks.picture import plot as plot
    from earmark.tasks.preparing import prepare as prepare
    from earmark.tasks.reporting import report as report
    from earmark.tasks.serving import serve as serve
    from earmark.tasks.synthesis import synth as synth
    from earmark.tasks.training import train as train
    from earmark.tasks.tuning import tune as tune

MODULE_OF = {
    "prepare": "preparing",
    "train": "training",
    "fuse": "fusion",
    "tune": "tuning",
    "detect": "detection",
    "tag": "detection",
    "listen": "listening",
    "evaluate": "evaluation",
    "compare": "comparison",
    "plot": "picture",
    "serve": "serving",
    "report": "reporting",
    "export": "exporting",
    "push": "hub",
    "info": "description",
    "recipes": "description",
    "check": "checking",
    "audit": "auditing",
    "synth": "synthesis",
    "demo": "demonstration",
}
__all__ = [*MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"there is no task '{name}'")
    return getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
