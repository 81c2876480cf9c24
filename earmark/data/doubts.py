"""Which tags are probably wrong, by what models say of clips that they didn't learn from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from earmark.scores import ScoreTrack

# A network's probability is no more certain than that.
_SUREST = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Doubts:
    """How far models contradict each tag, and each tag that isn't given.

    Attributes:
        doubt: (N, K) how probable the contrary is, if it were as frequent as not; nan where
            nothing can be said.
        suspected: (N, K) True where the contrary is probably so.
    """

    doubt: NDArray[np.float64]
    suspected: NDArray[np.bool_]


def doubts(tags: NDArray[np.bool_], probabilities: NDArray[np.floating[Any]]) -> Doubts:
    """Tags held against the probabilities of models that didn't learn from them.

    After confident learning (Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty
    in Dataset Labels", JAIR 2021), for each class by itself. A model is confident that a class
    sounds where its probability is above the mean of the clips that have the tag, and confident
    that it doesn't where it is below the mean of those that don't. A tag is suspected where the
    model is confident of its contrary, and where that is also more probable than not.

    For both the probabilities are calibrated, class by class (Platt 1999): networks are too sure,
    and of some classes they know little. The doubt weighs clips with and without the tag equally,
    so that in the order of the doubts a rare class stands beside a frequent one.

    Args:
        tags: (N, K) what the table says.
        probabilities: (N, K) of each class; nan where there is none.

    Returns:
        Doubts that are nan where the probability is, and throughout for a class that models can't
        tell: with the tag it is on average no more probable than without.
    """
    doubt = np.full(tags.shape, np.nan)
    suspected = np.zeros(tags.shape, np.bool_)
    for k in range(tags.shape[1]):
        known = np.flatnonzero(~np.isnan(probabilities[:, k]))
        tagged, sounds = tags[known, k], probabilities[known, k].astype(np.float64)
        if not 0 < tagged.sum() < len(tagged):
            continue
        with_tag, without = sounds[tagged].mean(), sounds[~tagged].mean()
        if with_tag <= without:
            continue
        odds = _log_odds(sounds, tagged)
        contrary = np.where(tagged, -1, 1)
        frequency = np.log(tagged.sum() / (~tagged).sum())
        confident = np.where(tagged, sounds < without, sounds > with_tag)
        doubt[known, k] = expit(contrary * odds)
        suspected[known, k] = confident & (contrary * (odds + frequency) > 0)
    return Doubts(doubt, suspected)


def _log_odds(sounds: NDArray[np.float64], tagged: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) calibrated log odds, if clips with the tag were as many as those without.

    Logistic regression on the logit, with Platt's targets, which keep it finite.
    """
    at = logit(np.clip(sounds, _SUREST, 1 - _SUREST))
    count, other = int(tagged.sum()), int((~tagged).sum())
    target = np.where(tagged, (count + 1) / (count + 2), 1 / (other + 2))
    weight = np.where(tagged, 0.5 / count, 0.5 / other)

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = line[0] * at + line[1]
        excess = weight * (expit(odds) - target)
        value = weight * (np.logaddexp(0, odds) - target * odds)
        return float(value.sum()), np.array([(excess * at).sum(), excess.sum()])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True).x
    odds: NDArray[np.float64] = slope * at + offset
    return odds


def surest_stretch(track: ScoreTrack) -> NDArray[np.float64]:
    """(K, 2) onset and offset, in seconds, of where each class is most probable in a recording.

    The frames around the highest probability whose own is at least half as high.
    """
    edges = track.edges_seconds
    found = np.zeros((len(track.class_names), 2))
    for k, of_class in enumerate(track.probabilities.T):
        peak = int(of_class.argmax())
        low = np.flatnonzero(of_class < of_class[peak] / 2)
        after = int(np.searchsorted(low, peak))
        first = low[after - 1] + 1 if after else 0
        last = low[after] if after < len(low) else len(of_class)
        found[k] = edges[first], edges[last]
    return found
