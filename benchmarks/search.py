"""What brings what: one change at a time to a recipe, judged on validation scenes alone.

    python -m benchmarks.search build/rotations/fold-5 --page RESULTS.md

trains every row of ``benchmarks/search.toml`` on the scenes that ``benchmarks.rotations`` has
made, all with the same epochs, and ranks the tags of the validation scenes and their segments.
No threshold is chosen, and the test scenes are not looked at. What the package can do is asked of
the package; what it can't, since it didn't earn its place, is written here. It goes on where it
was stopped (``benchmarks/kept.py``), and several of it share the work.
"""

import argparse
import math
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from benchmarks.kept import add_option, keep, kept, made
from benchmarks.pages import check, tell
from earmark import audio
from earmark.config import Settings, merge, settings_from
from earmark.data.augment import Augmentation
from earmark.data.sampler import BalancedSampler, ShuffledSampler
from earmark.events import Event
from earmark.features import FeatureExtractor, Normaliser
from earmark.formats.labels import read_labels
from earmark.metrics.tagging import average_precision
from earmark.model.build import build
from earmark.model.localisation import Localised, pool
from earmark.model.network import Network
from earmark.recipes import tables
from earmark.training.course import Course
from earmark.training.devices import choose_precision, keep_freed_memory
from earmark.training.loop import FRAMES_WEIGH, frame_loss
from earmark.training.self_labels import changed_with_frames, frame_labels

PLAN = Path(__file__).with_name("search.toml")
SEGMENT_SECONDS = 1
AT_ONCE = 50


@dataclass(frozen=True)
class Ideas:
    """What was tried outside the package; each does nothing at its default.

    Attributes:
        mixup: the parameter of the Beta distribution by which two clips and their tags are mixed.
        masks: how many times a fifth of the bands and a tenth of the frames are hidden at most.
        noise: the deviation of what is added to features.
        tempo: how much faster or slower parts of a clip go, as the exponent of e.
        label_smoothing: how much of a tag is uncertain.
        bootstrap: how much of a tag is what the network itself says.
        focal: the power by which what is known already weighs less.
        mix_style: the Beta distribution by which means and deviations of maps are exchanged.
        teacher: the weight of frames that the averaged network labels all along, beside what those
            of the network before weigh.
        pcen: whether energies are normalised by what went before in each band.
        weight_decay: of AdamW.
        learned_pooling: whether each class learns between mean and largest frame.
        attention_layers: of a transformer in place of the recurrent layer.
        told: whether every frame is labelled as it is: what no change to weak labels can give.
        second_pass: how many seconds around each segment are heard once more, without the rest.
    """

    mixup: float = 0.0
    masks: int = 0
    noise: float = 0.0
    tempo: float = 0.0
    label_smoothing: float = 0.0
    bootstrap: float = 0.0
    focal: float = 0.0
    mix_style: float = 0.0
    teacher: float = 0.0
    pcen: bool = False
    weight_decay: float = 0.0
    learned_pooling: bool = False
    attention_layers: int = 0
    told: bool = False
    second_pass: float = 0.0


@dataclass(frozen=True)
class Clips:
    """Features (N, T, F), tags (N, K), active frames (N, T, K) and segments (N, S, K) of scenes."""

    features: NDArray[np.float16]
    tags: NDArray[np.float32]
    frames: NDArray[np.bool_]
    segments: NDArray[np.bool_]


def clips_of(folder: Path, settings: Settings, ideas: Ideas, names: Sequence[str]) -> Clips:
    """The scenes of a folder."""
    extract = FeatureExtractor(settings.features)
    rows = read_labels(folder / "strong.tsv").rows
    features, tags, frames, segments = [], [], [], []
    hop_seconds = settings.features.hop_samples / settings.features.rate_hz
    for row in rows:
        samples = audio.read(folder / "audio" / row.filename, settings.features.rate_hz)
        of_clip = extract(torch.from_numpy(samples)[None])[0]
        features.append((_pcen(of_clip) if ideas.pcen else of_clip).numpy().astype(np.float16))
        tags.append([name in row.labels for name in names])
        seconds = math.ceil(len(samples) / settings.features.rate_hz / SEGMENT_SECONDS)
        frames.append(_active(row.events or (), names, len(of_clip), hop_seconds))
        segments.append(_active(row.events or (), names, seconds, SEGMENT_SECONDS))
    labels = np.array(tags, np.float32)
    return Clips(np.stack(features), labels, np.stack(frames), np.stack(segments))


def _active(
    events: Iterable[Event], names: Sequence[str], parts: int, seconds: float
) -> NDArray[np.bool_]:
    """(parts, K) which classes sound in each part of so many seconds."""
    active = np.zeros((parts, len(names)), np.bool_)
    for event in events:
        first, stop = int(event.onset_seconds / seconds), math.ceil(event.offset_seconds / seconds)
        active[first:stop, names.index(event.label)] = True
    return active


def _pcen(features: Tensor, smoothing: float = 0.025) -> Tensor:
    """Per-channel energy normalisation (Wang et al., 2017) of log magnitudes (T, F)."""
    energies = features.exp().numpy()
    level = energies[0]
    levels = []
    for row in energies:
        level = (1 - smoothing) * level + smoothing * row
        levels.append(level)
    gained = energies / (1e-6 + np.array(levels)) ** 0.98
    return torch.from_numpy((gained + 2) ** 0.5 - 2**0.5).float()


def network_of(settings: Settings, ideas: Ideas, clips: Clips) -> Network:
    """A network with random weights, and the parts that are not in the package."""
    flat = clips.features.astype(np.float32)
    normaliser = Normaliser(flat.mean((0, 1)), flat.std((0, 1)))
    network = build(settings.network, settings.features.mel_bands, clips.tags.shape[1], normaliser)
    if ideas.attention_layers:
        network.recurrent = _Attention(network.recurrent, ideas.attention_layers)
    if ideas.learned_pooling:
        network.localisation = _LearnedPooling(network.localisation)
    if ideas.mix_style:
        first = network.layers[0]
        first.register_forward_pre_hook(partial(_mix_style, ideas.mix_style))
    return network


class _Attention(nn.Module):
    """A transformer over the frames, with sines for their places (Vaswani et al., 2017)."""

    def __init__(self, replaced: nn.Module, layers: int) -> None:
        super().__init__()
        gru = replaced.gru
        width = 2 * gru.hidden_size
        self.narrow = nn.Linear(gru.input_size, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        frames = self.narrow(inputs)
        places = torch.arange(frames.shape[1])[:, None]
        rates = torch.exp(-math.log(1e4) * torch.arange(0, frames.shape[2], 2) / frames.shape[2])
        sines = torch.cat([(places * rates).sin(), (places * rates).cos()], dim=1)
        out: Tensor = self.layers(frames + sines)
        return out


class _LearnedPooling(nn.Module):
    """Frames weighed by a power of themselves that each class learns; 1 is linear softmax."""

    def __init__(self, replaced: nn.Module) -> None:
        super().__init__()
        self.classifier = replaced.classifier
        self.power = nn.Parameter(torch.ones(replaced.classifier.out_features))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Localised:
        logits = self.classifier(inputs).float()
        weights = self.power * nn.functional.logsigmoid(logits)
        return Localised(logits, weights, *pool(logits, weights))


def _mix_style(alpha: float, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Means and deviations of half of the batches mixed with another clip's (Zhou et al., 2021)."""
    maps = inputs[0]
    if not layer.training or torch.rand(()) > 0.5:
        return None
    mean = maps.mean((1, 2), keepdim=True)
    deviation = (maps.var((1, 2), keepdim=True) + 1e-5).sqrt()
    other = torch.randperm(len(maps))
    share = torch.distributions.Beta(alpha, alpha).sample((len(maps), 1, 1, 1)).to(maps.dtype)
    mixed_mean = share * mean + (1 - share) * mean[other]
    mixed_deviation = share * deviation + (1 - share) * deviation[other]
    return ((maps - mean) / deviation * mixed_deviation + mixed_mean, *inputs[1:])


def changed(
    ideas: Ideas, features: Tensor, tags: Tensor, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Features and tags changed in the ways that are not in the package."""
    clips, frames, bands = features.shape
    if ideas.tempo:
        knots = ideas.tempo * (2 * torch.rand(clips, 1, 6, generator=draws) - 1)
        rates = nn.functional.interpolate(knots, size=frames, mode="linear").exp()[:, 0]
        at = rates.cumsum(dim=1) - rates[:, :1]
        at = at * ((frames - 1) / at[:, -1:])
        below = at.long().clamp(max=frames - 2)
        low, high = (
            features.gather(1, places[:, :, None].expand(clips, frames, bands))
            for places in (below, below + 1)
        )
        features = torch.lerp(low, high, (at - below)[:, :, None])
    for _ in range(ideas.masks):
        mean = features.mean((1, 2), keepdim=True)
        hidden = []
        for size, share in ((bands, 0.2), (frames, 0.1)):
            width = share * size * torch.rand(clips, 1, generator=draws)
            start = (size - width) * torch.rand(clips, 1, generator=draws)
            places = torch.arange(size)
            hidden.append((places >= start) & (places < start + width))
        features = torch.where(hidden[0][:, None] | hidden[1][:, :, None], mean, features)
    if ideas.mixup:
        other = torch.randperm(clips, generator=draws)
        share = torch.distributions.Beta(ideas.mixup, ideas.mixup).sample((clips, 1))
        share = torch.maximum(share, 1 - share)
        features = torch.lerp(features[other], features, share[:, :, None])
        tags = torch.lerp(tags[other], tags, share)
    if ideas.noise:
        features = features + ideas.noise * torch.randn(features.shape, generator=draws)
    return features, tags


def loss_of(ideas: Ideas, output: Localised, tags: Tensor) -> Tensor:
    """Eq. 1 with what was tried of it."""
    if ideas.bootstrap:
        said = output.clip_probabilities.detach()
        tags = torch.lerp(tags, said, ideas.bootstrap)
    tags = tags * (1 - ideas.label_smoothing) + ideas.label_smoothing / 2
    present = tags * output.log_present.clamp(min=-1e4)
    absent = (1 - tags) * output.log_absent.clamp(min=-1e4)
    if ideas.focal:
        present = present * output.log_absent.exp().detach() ** ideas.focal
        absent = absent * output.log_present.exp().detach() ** ideas.focal
    return -(present + absent).mean()


def train(settings: Settings, ideas: Ideas, clips: Clips, seed: int) -> Network:
    """The network that a training keeps."""
    training = settings.training
    torch.manual_seed(seed)
    network = network_of(settings, ideas, clips)
    optimiser: torch.optim.Optimizer = torch.optim.Adam(network.parameters())
    if ideas.weight_decay:
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=ideas.weight_decay)
    tags = sparse.csr_array(clips.tags.astype(np.int64))
    sampler: BalancedSampler | ShuffledSampler = ShuffledSampler(
        len(clips.tags), training.batch_size, seed
    )
    if training.balance:
        sampler = BalancedSampler(tags, training.batch_size, training.balance_ratio, seed)
    course = Course(network, optimiser, training, sampler.batches_per_epoch)
    draws = torch.Generator().manual_seed(seed)
    augment = Augmentation(settings.augmentation, draws)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=_precision() == "bfloat16")
    steps = training.epochs * sampler.batches_per_epoch
    to_one = settings.network.total_time_pooling
    for done, numbers in enumerate(_batches(sampler, training.epochs)):
        if done % sampler.batches_per_epoch == 0:
            course.begins(done // sampler.batches_per_epoch + 1)
        network.train()
        plain = torch.from_numpy(clips.features[numbers].astype(np.float32))
        told = torch.from_numpy(clips.tags[numbers])
        truth = torch.from_numpy(clips.frames[numbers].astype(np.float32))
        # Labels of frames are turned as the frames are.
        turned, truth = augment.turned(torch.cat([plain, truth], dim=2), None).split(
            [plain.shape[2], truth.shape[2]], dim=2
        )
        heard, teacher, weigh = None, course.teacher, FRAMES_WEIGH
        if ideas.teacher and course.averaged is not None:
            part = done / steps
            teacher = course.averaged if part > 0.3 else None
            weigh *= ideas.teacher * min(1.0, (part - 0.3) / 0.2)
        if ideas.told:
            heard = nn.functional.max_pool1d(truth.mT, to_one, ceil_mode=True).mT
        elif teacher is not None:
            heard = frame_labels(teacher, turned, None, told, to_one=to_one, precision=_precision())
        frames = None
        if heard is None:
            features, given, _ = augment(turned, None, told)
        else:
            features, given, _, frames = changed_with_frames(
                augment, turned, None, told, None, heard, to_one=to_one
            )
        features, given = changed(ideas, features, given, draws)
        with autocast():
            output = network(features)
        loss = loss_of(ideas, output, given)
        if frames is not None:
            loss = loss + weigh * frame_loss(output.frame_logits, frames)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.after_step()
    return course.kept


def _batches(
    sampler: BalancedSampler | ShuffledSampler, epochs: int
) -> Iterator[NDArray[np.int64]]:
    for _ in range(epochs):
        yield from sampler.epoch()


def _precision() -> str:
    return choose_precision("auto", torch.device("cpu"))


@torch.inference_mode()
def scores(network: Network, clips: Clips, ideas: Ideas) -> dict[str, float]:
    """Mean average precision of tags, and of segments with their clip's tag, over the classes."""
    network.eval()
    tags, segments = [], []
    for start in range(0, len(clips.tags), AT_ONCE):
        features = torch.from_numpy(clips.features[start : start + AT_ONCE].astype(np.float32))
        with torch.autocast("cpu", torch.bfloat16, enabled=_precision() == "bfloat16"):
            output = network(features)
        tags.append(output.clip_probabilities.numpy())
        parts = output.frame_probabilities.tensor_split(clips.segments.shape[1], dim=1)
        highest = torch.stack([part.amax(dim=1) for part in parts], dim=1)
        if ideas.second_pass:
            again = _heard_again(network, features, highest.shape[1], ideas.second_pass)
            highest = (highest * again).sqrt()
        segments.append(highest.numpy() * np.sqrt(tags[-1][:, None]))
    of_tags, of_segments = np.concatenate(tags), np.concatenate(segments)
    classes = range(clips.tags.shape[1])

    def mean(truth: NDArray[Any], given: NDArray[np.float32]) -> float:
        columns = [average_precision(truth[..., k].ravel(), given[..., k].ravel()) for k in classes]
        return float(np.mean(columns))

    return {"tags": mean(clips.tags > 0, of_tags), "segments": mean(clips.segments, of_segments)}


def _heard_again(network: Network, features: Tensor, parts: int, seconds: float) -> Tensor:
    """(B, S, K) what clips hold in so many seconds around each segment, these heard alone."""
    frames = features.shape[1]
    width = min(frames, round(frames / parts * seconds / SEGMENT_SECONDS))
    middles = (torch.arange(parts) + 0.5) * frames / parts
    starts = (middles - width / 2).round().long().clamp(0, frames - width)
    heard = [network(features[:, at : at + width]).clip_probabilities for at in starts.tolist()]
    return torch.stack(heard, dim=1)


def row_of(plan: Mapping[str, Any], name: str) -> tuple[Settings, Ideas]:
    """Settings and ideas of a row: those of the base, which is a recipe's, but for its own."""
    own = dict(plan["rows"][name])
    ideas = Ideas(**own.pop("ideas", {}))
    base = merge(tables(plan["recipe"]), plan["base"])
    return settings_from(merge(base, own)), ideas


def scored(plan: Mapping[str, Any], name: str, seed: int, folder: Path) -> dict[str, float]:
    """Trains a row, and ranks what it finds in the validation scenes."""
    settings, ideas = row_of(plan, name)
    names = sorted(
        {e for row in read_labels(folder / "train" / "weak.tsv").rows for e in row.labels}
    )
    clips, held = (
        clips_of(folder / part, settings, ideas, names) for part in ("train", "validation")
    )
    started = time.process_time()
    network = train(settings, ideas, clips, seed)
    found = scores(network, held, ideas) | {"cpu_seconds": time.process_time() - started}
    found["weights"] = sum(p.numel() for p in network.parameters())
    print(name, seed, found, flush=True)
    return found


def of(plan: Mapping[str, Any], name: str, folder: Path) -> list[object]:
    """What a row is of: settings, ideas, and scenes."""
    settings, ideas = row_of(plan, name)
    return [
        settings,
        ideas,
        folder / "train" / "weak.tsv",
        folder / "validation" / "strong.tsv",
    ]


def table(plan: Mapping[str, Any], results: Path) -> str:
    """The rows that are done, a line each, and by how much they differ from the base.

    Differences are of the seeds that both have: a seed that is lucky is so for most rows.
    """
    head = ["change", "seeds", "tags", "segments", "weights", "CPU minutes"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    base = kept(results, "base")
    for name in plan["rows"]:
        found = kept(results, name)
        if not found:
            continue
        cells = [name, str(len(found))]
        for key in ("tags", "segments"):
            value = _mean([100 * one[key] for one in found.values()])
            pairs = [100 * (found[seed][key] - base[seed][key]) for seed in found if seed in base]
            cells.append(value if name == "base" or not pairs else f"{value} ({_mean(pairs, '+')})")
        minutes = np.mean([one["cpu_seconds"] for one in found.values()]) / 60
        cells += [f"{next(iter(found.values()))['weights']:,}", f"{minutes:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(values: Sequence[float], sign: str = "") -> str:
    """A mean, and of several ± their standard deviation."""
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.1f}{spread}"


def main(argv: Sequence[str] | None = None) -> None:
    plan = tomllib.loads(PLAN.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenes", type=Path, help="a fold that benchmarks.rotations has made")
    add_option(parser, "search")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=plan["rows"], metavar="ROW")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args(argv)
    check(arguments.page, "search")
    if arguments.seeds and not (arguments.scenes / "train" / "weak.tsv").exists():
        parser.error(f"{arguments.scenes} holds no scenes: benchmarks.rotations mixes them")
    keep_freed_memory()
    for seed in range(arguments.seeds):
        for name in arguments.rows or plan["rows"]:
            make = partial(scored, plan, name, seed, arguments.scenes)
            keep(arguments.results, f"{name}-{seed}", make, of(plan, name, arguments.scenes))
    head = f"`python -m benchmarks.search build/rotations/fold-5 ...`; {made(arguments.results)}."
    tell(arguments.page, "search", f"{head}\n\n{table(plan, arguments.results)}")


if __name__ == "__main__":
    main()
