"""What the program can do, in words. Each is a function here and a command of the program.

The functions load on first use, so that asking for help does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earmark.tasks.comparison import compare as compare
    from earmark.tasks.demonstration import demo as demo
    from earmark.tasks.description import info as info
    from earmark.tasks.description import recipes as recipes
    from earmark.tasks.detection import detect as detect
    from earmark.tasks.detection import tag as tag
    from earmark.tasks.evaluation import evaluate as evaluate
    from earmark.tasks.fusion import fuse as fuse
    from earmark.tasks.picture import plot as plot
    from earmark.tasks.synthesis import synth as synth
    from earmark.tasks.training import train as train
    from earmark.tasks.tuning import tune as tune

MODULE_OF = {
    "train": "training",
    "fuse": "fusion",
    "tune": "tuning",
    "detect": "detection",
    "tag": "detection",
    "evaluate": "evaluation",
    "compare": "comparison",
    "plot": "picture",
    "info": "description",
    "recipes": "description",
    "synth": "synthesis",
    "demo": "demonstration",
}
__all__ = [*MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"there is no task '{name}'")
    return getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
