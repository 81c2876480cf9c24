"""One training from clips to model folder; it goes on exactly where it was interrupted."""

import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from earmark.config import Settings
from earmark.data.augment import Augmentation
from earmark.data.clips import ClipFeatures
from earmark.data.labels import Clip
from earmark.data.sampler import BalancedSampler, ShardedSampler, ShuffledSampler
from earmark.data.shards import ShardedFeatures
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.inference.system import SystemRecogniser
from earmark.metrics.tagging import tagging_scores
from earmark.model import bundle
from earmark.model.build import build
from earmark.model.network import Network
from earmark.outputs.card import card, earlier_card
from earmark.scale.journal import alone
from earmark.tasks.progress import lasting, progress, say
from earmark.tasks.recordings import made_folder
from earmark.tasks.training import TrainingReport
from earmark.tasks.training_clips import TrainingClips
from earmark.tasks.training_data import TrainingData
from earmark.tasks.training_log import Epoch, Log
from earmark.tasks.training_start import Start
from earmark.tasks.tuned_rules import (
    Chosen,
    choose_on_events,
    choose_on_tags,
    choose_untuned,
    source_of,
)
from earmark.training.checkpoint import load_tensors, restore, save_tensors, training_state
from earmark.training.course import Course
from earmark.training.devices import choose_device, choose_precision, keep_freed_memory
from earmark.training.launch import ALONE, Group
from earmark.training.loop import Batch, train_epoch
from earmark.training.self_labels import changed_with_frames, frame_labels
from earmark.writing import replacing, unfinished, writing

CLIPS_AT_ONCE = 16


def chance_of(seed: int, draw: int) -> int:
    """What is drawn from: the seed itself at the first draw.

    >>> chance_of(7, 0), chance_of(7, 1) != chance_of(8, 0)
    (7, True)
    """
    return _seed_of(seed, draw) if draw else seed


def _seed_of(*parts: int) -> int:
    """A seed that torch takes, another for any other parts."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


class TrainingRun:
    """A training of ``data`` with ``settings`` into the folder ``out``.

    Features, checkpoints and the log live in ``out/training``; the log stays. Of the processes
    of ``group`` the first alone writes; all of them learn, and read what it wrote.
    """

    def __init__(
        self,
        data: TrainingData,
        settings: Settings,
        recipe: str,
        out: Path,
        *,
        seed: int,
        device: str,
        skip_missing: bool,
        licence: str,
        group: Group = ALONE,
        start: Start | None = None,
    ) -> None:
        self.data = data
        self.settings = settings
        self.recipe = recipe
        self.out = out
        self.seed = seed
        self.chance = chance_of(seed, settings.training.draw)
        self.device = choose_device(device)
        self.precision = choose_precision(settings.training.precision, self.device)
        self.licence = licence
        self.group = group
        self.start = start
        self.folder = out / "training"
        self.clips = TrainingClips(
            data, settings, self.folder, skip_missing=skip_missing, rank=group.rank
        )

    def complete(self, *, resume: bool) -> TrainingReport:
        """Runs, or goes on, to the end; gives what a finished run has already."""
        finished = self.group.from_first(lambda: self._prepare(resume))
        if finished is not None:
            say(f"{self.out} is finished; nothing is left to do")
            return finished
        if self.start is not None:
            self.start.say_classes(self.data.class_names)
        with ExitStack() as held:
            self.group.from_first(lambda: self._hold(held))
            held.enter_context(self.clips)
            self.group.from_first(self._read_clips)
            log = self._fit()
            return self.group.from_first(lambda: self._finished(log))

    def _hold(self, held: ExitStack) -> None:
        """Lets no other run, of a job that was started twice, say, write into the folder."""
        held.enter_context(alone(self.folder))

    def _read_clips(self) -> None:
        """All clips are read first: what can't be read should not stop hours of training."""
        try:
            _ = self.clips.training, self.clips.validation
        except UserError:
            # Nothing was learnt yet: leave nothing half-made behind.
            if not self._checkpoint.exists():
                shutil.rmtree(self.folder)
                if not any(self.out.iterdir()) and not self.out.is_symlink():
                    self.out.rmdir()
            raise

    def _finished(self, log: Log) -> TrainingReport:
        description = self._finish(log)
        self._clear()
        return self._report(description)

    def _clear(self) -> None:
        """Leaves of a finished run what people read."""
        for name in ("training", "validation"):
            shutil.rmtree(self.folder / f"{name}_features", ignore_errors=True)
        for folder in self.folder.glob("open_shards-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in [*self.folder.glob("epoch_*.safetensors"), self._checkpoint]:
            file.unlink(missing_ok=True)

    # Where the run stands

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def _epoch_file(self, number: int) -> Path:
        return self.folder / f"epoch_{number:04d}.safetensors"

    @cached_property
    def _key(self) -> str:
        """What must be the same for a run to be the same run."""

        def lines(clips: Sequence[Clip]) -> list[Any]:
            return [
                [c.filename, c.start_seconds, c.stop_seconds, sorted(c.labels), repr(c.events)]
                + ([] if c.absent is None else [sorted(c.absent)])
                for c in clips
            ]

        what = [
            version("earmark"),
            self.settings.model_dump(mode="json"),
            self.seed,
            self.precision,
            lines(self.data.training),
            lines(self.data.held.clips),
        ]
        if self.data.held.timed != self.data.held.clips:
            what.append(lines(self.data.held.timed))
        if self.data.held.negatives:
            what.append([str(path) for path in self.data.held.negatives])
        if self.start is not None:
            what += [self.start.digest, list(self.data.class_names)]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def _prepare(self, resume: bool) -> TrainingReport | None:
        """Makes the folder, or goes on in this run's; gives a finished run's report."""
        note = self.folder / "run.json"
        partial = unfinished(note)
        if note.exists():
            if self._checkpoint.exists() or (self.out / "model.json").exists():
                return self._earlier(note, resume)
        else:
            if self.folder.is_dir():  # a run that was killed before it had a note
                with alone(self.folder):  # whose lock goes with this one's
                    partial.unlink(missing_ok=True)
                if not any(self.folder.iterdir()):
                    self.folder.rmdir()
            if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
                raise UserError("the folder for the model must be new or empty", where=self.out)
            made_folder(self.folder)
        # Of a run that ended before its first epoch there are features at most, which may stay.
        with alone(self.folder), replacing(note, beside=partial) as part:
            part.write_text(json.dumps({"key": self._key}) + "\n", encoding="utf-8")
        return None

    def _earlier(self, note: Path, resume: bool) -> TrainingReport | None:
        """Checks that a run which has learnt something is this one; its report if it is done."""
        if not resume:
            raise UserError(
                "there is a training already; pass --resume to go on with it, or another --out",
                where=self.out,
            )
        try:
            key = json.loads(note.read_text(encoding="utf-8"))["key"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError("is damaged; start anew with another --out", where=note) from error
        if key != self._key:
            raise UserError(
                "--resume needs the settings, labels, seed, precision and version of earmark that "
                "the training was started with, and these differ; give them again, or another "
                "--out",
                where=self.out,
            )
        if (self.out / "model.json").exists():
            self._clear()
            description = bundle.read_description(self.out)
            if not isinstance(description, bundle.Description):
                raise UserError("holds a fused model; give another --out", where=self.out)
            return self._report(description)
        return None

    def _report(self, description: bundle.Description) -> TrainingReport:
        training = description.training
        return TrainingReport(self.out, training.clips, training.validation, training.seconds)

    # Training

    def _network(self) -> Network:
        return build(
            self.settings.network,
            self.settings.features.mel_bands,
            len(self.data.class_names),
            self._normaliser,
        ).to(self.device)

    @property
    def _normaliser(self) -> Normaliser:
        """Fitted on the training clips, or what the weights that it starts from are used to."""
        if self.start is not None:
            return self.start.normaliser
        return self.clips.training.features.normaliser

    def _fit(self) -> Log:
        if self.device.type == "cpu":
            keep_freed_memory()
        training = self.settings.training
        torch.manual_seed(self.chance)
        network = self._network()
        if self.start is not None:
            network.load_state_dict(self.start.weights_for(network, self.data.class_names))
        optimiser = torch.optim.Adam(network.parameters(), training.learning_rate)
        sampler = self._sampler()
        course = Course(network, optimiser, training, sampler.batches_per_epoch)
        log = self._resumed(network, optimiser, course)
        self.group.unite(network)
        for _ in log.epochs:  # the sampler's state is where its draws have led
            for _ in sampler.epoch():
                pass
        for number in range(len(log.epochs) + 1, training.epochs + 1):
            started = time.monotonic()
            what = f"epoch {number} of {training.epochs}"
            course.begins(number)
            self.group.seed_epoch(self.chance, number)
            with progress(what, sampler.batches_per_epoch) as step:

                def after_step(step: Callable[[], None] = step) -> None:
                    course.after_step()
                    step()

                loss = train_epoch(
                    network,
                    self._batches(sampler, number, course.teacher),
                    optimiser,
                    precision=self.precision,
                    group=self.group,
                    after_step=after_step,
                )
            self._check_finite(course.kept)
            score = self._validate(course.kept)
            epoch = Epoch(number, loss, score, time.monotonic() - started)
            log.add(epoch, training.fuse_epochs, training.tag_epochs)
            if self.group.rank == 0:
                self._save(network, optimiser, course, log)
            shown = "" if score is None else f", validation mAP {score:.3f}"
            left = (training.epochs - number) * statistics.median(e.seconds for e in log.epochs)
            then = f", {lasting(left)} left" if left else ""
            say(f"{what}: loss {loss:.4f}{shown} ({epoch.seconds:.0f} s{then})")
        return log

    def _sampler(self) -> BalancedSampler | ShuffledSampler | ShardedSampler:
        training, tags = self.settings.training, self.clips.training.tags
        size, most, stored = training.batch_size, training.open_shards, self.data.stored
        ratio = training.balance_ratio if training.balance else None
        least = training.min_epoch_clips
        if self.start is not None:  # what it knows it would only forget
            least = max(1, round(least * self.start.share_of_new(self.data.class_names)))
        sampler: BalancedSampler | ShardedSampler
        if stored is not None and len(np.unique(stored.shard_of)) > most:
            sampler = ShardedSampler(tags, stored.shard_of, most, size, ratio, self.chance, least)
        elif ratio is None:
            return ShuffledSampler(tags.shape[0], size, self.chance, least)
        else:
            sampler = BalancedSampler(tags, size, ratio, self.chance, least)
        if ratio is None:
            return sampler
        drawn = sampler.draw_probabilities[:-1] > 0  # of a class that is kept there are no clips
        draws, positives = sampler.draw_probabilities[:-1][drawn], sampler.positive_shares[drawn]
        say(
            "batches are balanced: of the most and the least frequent class, draws stand "
            f"{draws.max() / draws.min():.1f}:1 and clips {positives.max() / positives.min():.1f}:1"
        )
        return sampler

    def _batches(
        self,
        sampler: BalancedSampler | ShuffledSampler | ShardedSampler,
        epoch: int,
        teacher: Network | None,
    ) -> Iterator[Batch]:
        """The batches of an epoch, changed at random as the settings say.

        What the teacher hears in a clip that is no more than turned are its frames' labels.
        """
        augment = Augmentation(self.settings.augmentation, self._draws(epoch))
        known, clips = self.clips.training.known, self.clips.training.features
        to_one = self.settings.network.total_time_pooling
        for of_all in sampler.epoch():
            if isinstance(sampler, ShardedSampler) and isinstance(clips, ShardedFeatures):
                clips.hold(sampler.open)
            numbers = self.group.part(of_all)
            features, lengths = self._features(numbers)
            frames = None if lengths is None else torch.from_numpy(lengths)
            turned = augment.turned(torch.from_numpy(features), frames)
            tags = _dense(self.clips.training.tags[numbers])
            told = None if known is None else _dense(known[numbers])
            if teacher is None:
                changed, tags, told = augment(turned, frames, tags, told)
                yield Batch(changed, frames, tags, told, self._cells(tags, told))
                continue
            heard = frame_labels(
                teacher,
                turned.to(self.device),
                None if frames is None else frames.to(self.device),
                tags.to(self.device),
                to_one=to_one,
                precision=self.precision,
            )
            changed, tags, told, of_frames = changed_with_frames(
                augment, turned, frames, tags, told, heard.cpu(), to_one=to_one
            )
            of_frames = replace(of_frames, cells=self._cells(of_frames.values, of_frames.known))
            yield Batch(changed, frames, tags, told, self._cells(tags, told), of_frames)

    def _cells(self, labels: torch.Tensor, known: torch.Tensor | None) -> int | None:
        """How many labels of the whole batch are known, where others have parts of it."""
        if self.group.size == 1:
            return None
        count = labels.numel() if known is None else int(known.sum())
        return int(self.group.sum(torch.tensor(count)))

    def _draws(self, epoch: int) -> torch.Generator:
        """What an epoch's changes are drawn from, on this process."""
        return torch.Generator().manual_seed(_seed_of(self.chance, epoch, self.group.rank, 1))

    def _features(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        """Features (B, T, F) of training clips and their lengths; of no clip, of one frame."""
        if len(numbers):
            return self.clips.training.features.batch(numbers)
        return np.zeros((0, 1, self.settings.features.mel_bands), np.float32), None

    def _resumed(self, network: Network, optimiser: torch.optim.Optimizer, course: Course) -> Log:
        if not self._checkpoint.exists():
            return Log()
        state, notes = load_tensors(self._checkpoint)
        if notes["features"] != self.clips.training.features.key:
            raise UserError(
                "--resume needs the recordings that the training was started with, and these have "
                "changed; start anew with another --out",
                where=self.out,
            )
        log = Log([Epoch(**epoch) for epoch in notes["epochs"]], notes["kept"])
        course.goes_on_after(len(log.epochs))
        restore(state, network, optimiser, averaged=course.averaged, teacher=course.teacher)
        say(f"going on after epoch {len(log.epochs)}")
        return log

    def _save(
        self, network: Network, optimiser: torch.optim.Optimizer, course: Course, log: Log
    ) -> None:
        """Checkpoints an epoch; a kill between any two lines loses this epoch at most."""
        number = len(log.epochs)
        if number in log.kept:
            save_tensors(self._epoch_file(number), course.kept.state_dict(), {})
        notes = {**asdict(log), "features": self.clips.training.features.key}
        others = {"averaged": course.averaged, "teacher": course.teacher}
        state = training_state(network, optimiser, **others)
        save_tensors(self._checkpoint, state, notes)
        stay = {self._epoch_file(number) for number in log.kept}
        with writing(self.folder):
            for file in set(self.folder.glob("epoch_*.safetensors")) - stay:
                file.unlink()
        epochs = [epoch | {"kept": epoch["number"] in log.kept} for epoch in notes["epochs"]]
        lines = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
        with replacing(self.folder / "log.jsonl") as part:
            part.write_text(lines, encoding="utf-8")

    def _validate(self, network: Network) -> float | None:
        """mAP of the network's tags on the validation clips, None if there are none."""
        held = self.clips.validation
        if held is None:
            return None
        posteriors = self._posteriors(network, held.features, group=self.group)
        if held.known is not None:  # what isn't known ranks last, and changes no average precision
            posteriors = np.where(held.known.toarray(), posteriors, np.float32(-1))
        scores = tagging_scores(held.tags.toarray(), posteriors, 0.5, self.data.class_names)
        return scores.mean_average_precision if held.tags.nnz else None

    def _check_finite(self, network: Network) -> None:
        """The last step's loss is of the weights before it: these may have blown up since."""
        clips = self.clips.training.features
        if not np.isfinite(self._posteriors(network, clips, CLIPS_AT_ONCE)).all():
            raise UserError("probabilities must stay finite; lower training.learning_rate")

    @torch.inference_mode()
    def _posteriors(
        self,
        network: Network,
        clips: ClipFeatures | ShardedFeatures,
        most: int | None = None,
        group: Group = ALONE,
    ) -> NDArray[np.float32]:
        """(N, K) probabilities of clips, of ``most`` of them if given.

        The processes of ``group`` share the work, and each gets all of them.
        """
        network.eval()
        order = clips.order[:most]
        found = torch.zeros(len(order), len(self.data.class_names))
        firsts = range(0, len(order), CLIPS_AT_ONCE)
        share = math.ceil(len(firsts) / group.size)
        for first in firsts[group.rank * share : (group.rank + 1) * share]:
            numbers = order[first : first + CLIPS_AT_ONCE]
            features, lengths = clips.batch(numbers)
            output = network(
                torch.from_numpy(features).to(self.device),
                None if lengths is None else torch.from_numpy(lengths).to(self.device),
            )
            found[first : first + len(numbers)] = output.clip_probabilities
        posteriors: NDArray[np.float32] = group.sum(found).numpy()
        return posteriors[np.argsort(order)]

    # The model

    def _finish(self, log: Log) -> bundle.Description:
        """Writes the model folder, with rules chosen on what was held out."""
        states = [load_tensors(self._epoch_file(number))[0] for number in log.kept]
        networks = [self._network() for _ in states]
        for network, state in zip(networks, states, strict=True):
            network.load_state_dict(state)
            network.eval()
        description = self._describe(log, self._choose(log, networks))
        text = card(description, earlier_card(self.out))
        bundle.save(self.out, description, states, text)
        return description

    def _choose(self, log: Log, networks: Sequence[Network]) -> Chosen:
        data, decoding, tuning = self.data, self.settings.decoding, self.settings.tuning
        held = self.clips.validation
        earlier = {} if self.start is None else self.start.rules_for(data.class_names)
        was = {} if self.start is None else self.start.calibration_for(data.class_names)
        if held is None:
            chosen = choose_untuned(len(data.class_names), decoding, earlier, was)
        else:
            posteriors = np.mean([self._posteriors(n, held.features) for n in networks], axis=0)
            tags, sources = held.tags.toarray(), [source_of(clip) for clip in held.clips]
            known = None if held.known is None else held.known.toarray()
            sides = tags, posteriors, sources
            chosen = choose_on_tags(
                data.held.in_parts(held.clips),
                data.class_names,
                decoding,
                tuning,
                *sides,
                known=known,
                earlier=earlier,
                was=was,
            )
        if not data.held.of_events:
            return chosen
        draft = bundle.Bundle(self._describe(log, chosen), tuple(networks))
        recogniser = SystemRecogniser(draft, self.device, "auto")
        return choose_on_events(data.held, decoding, tuning, chosen, recogniser)

    def _describe(self, log: Log, chosen: Chosen) -> bundle.Description:
        names = self.data.class_names
        counts = dict(zip(names, self.clips.training.tags.sum(axis=0).tolist(), strict=True))
        several = len(log.kept) > 1
        how = "last" if log.epochs[-1].validation_map is None else "best by validation mAP"
        if self.settings.training.tag_epochs < len(log.epochs):
            how += " of those with labelled frames"
        epochs = f"epoch{'s' * several} {', '.join(map(str, log.kept))}"
        averaged = self.settings.training.average_decay > 0
        kind = ("mean " * several) + "posteriors"
        kind += ", by weights averaged over the last steps," if averaged else ""
        return bundle.describe(
            names,
            self.settings,
            chosen.rules,
            self._normaliser,
            self.clips.window_frames,
            len(log.kept),
            bundle.TrainingSummary(
                recipe=self.recipe,
                started_from={} if self.start is None else {self.start.name: self.start.digest},
                seed=self.seed,
                epochs=len(log.epochs),
                precision=self.precision,
                clips=len(self.clips.training.clips),
                clips_of_class=counts,
                weights=f"{kind} of {epochs}, the {how}",
                thresholds=chosen.note,
                tuned_on=self.data.held.digests,
                validation=chosen.scores,
                judged=chosen.judged,
                seconds=sum(epoch.seconds for epoch in log.epochs),
            ),
            self.licence if self.start is None else self.start.licence_with(self.licence),
            chosen.calibration,
        )


def _dense(rows: sparse.csr_array) -> torch.Tensor:
    return torch.from_numpy(rows.toarray().astype(np.float32))
