"""Which network the settings ask for."""

from earmark.config import (
    ContextMlpSettings,
    CrnnSettings,
    FrameCnnSettings,
    MultiScaleCnnSettings,
    Section,
)
from earmark.features import Normaliser
from earmark.model.baselines.context_mlp import ContextMlp
from earmark.model.baselines.frame_cnn import FrameCnn
from earmark.model.baselines.multi_scale_cnn import MultiScaleCnn
from earmark.model.crnn import GatedCRNN
from earmark.model.network import Network


def build(settings: Section, bands: int, classes: int, normaliser: Normaliser) -> Network:
    """A network with fresh weights.

    Args:
        settings: of the network, of any kind.
        bands: F of the features.
        classes: K of the probabilities.
        normaliser: of the features.
    """
    match settings:
        case CrnnSettings():
            return GatedCRNN(settings, bands, classes, normaliser)
        case ContextMlpSettings():
            return ContextMlp(settings, bands, classes, normaliser)
        case FrameCnnSettings():
            return FrameCnn(settings, bands, classes, normaliser)
        case MultiScaleCnnSettings():
            return MultiScaleCnn(settings, bands, classes, normaliser)
    raise TypeError(f"no network has settings of {type(settings).__name__}")
