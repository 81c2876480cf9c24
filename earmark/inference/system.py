"""One system at work: features and networks by torch, or by what is quicker."""

import threading

import torch

from earmark.features import FeatureExtractor
from earmark.inference.engines import choose_engine
from earmark.inference.pipeline import Workers
from earmark.inference.windowed import WindowedRecogniser
from earmark.model.bundle import Bundle


def _one_thread() -> None:
    """Lets this thread of several work alone; threads that come later are as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Which also set what new threads begin with, in this thread or any other.
    restoring = threading.Thread(target=torch.set_num_threads, args=(before,))
    restoring.start()
    restoring.join()


WORKERS = Workers(torch.get_num_threads(), _one_thread)


class SystemRecogniser(WindowedRecogniser):
    """The recogniser of a model folder's system.

    Args:
        model: the system.
        device: where features and networks are computed.
        precision: float32, bfloat16, or auto for what is quickest; see ``choose_engine``.
    """

    def __init__(
        self, model: Bundle, device: str | torch.device = "cpu", precision: str = "float32"
    ) -> None:
        self.description = model.description
        self.device = torch.device(device)
        settings = self.description.settings
        super().__init__(
            self.description.class_names,
            settings.clock,
            self.description.decoding,
            settings.decoding,
            window_frames=self.description.window_frames,
            overlap=settings.stitching.overlap,
            localisation=settings.network.localisation,
            members=len(model.networks),
            front_end=FeatureExtractor(settings.features, self.device),
            engine=choose_engine(model.networks, self.device, precision, WORKERS.count),
            calibration=self.description.calibration.classes,
        )

    @property
    def workers(self) -> Workers:
        return WORKERS
