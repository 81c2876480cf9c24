"""What large sets cost: tables of two million rows, and 51,172 clips to prepare and to stream.

    python -m benchmarks.large --page BENCHMARKS.md

The tables are made, in the form of AudioSet and in our own, with 527 classes and about two tags a
row; each is read in a process of its own. The clips are those of DCASE 2017 Task 4 in number and
length: a few hundred files of ten seconds of made noise, each under many names, so that they are
read from memory, but each is hashed, decoded and made features of by itself. Then an epoch of
batches is drawn from these shards, a few of which are open, and from one file, as a training
without shards leaves it. Of batches, memory is the process's own: pages of files, which the system
drops when it likes, are not counted. Where it is the same for a tenth of the clips, it doesn't grow
with the set.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.pages import made_on, options, parsed, tell

ROWS, QUICK_ROWS = 2_000_000, 20_000
CLIPS, QUICK_CLIPS = 51_172, 500
CLASSES, CLIP_CLASSES = 527, 17
FRAMES, BANDS = 240, 64
FILES, SECONDS, RATE_HZ = 200, 10, 16_000
CLIPS_PER_SHARD, OPEN_SHARDS = 1024, 4
LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))


def _tables(folder: Path, rows: int) -> Iterator[str]:
    yield f"| table of {rows:,} rows | clips | seconds of one core | peak memory, MB |"
    yield "|---|---|---|---|"
    for form, write in FORMS.items():
        print(f"{form} ...", file=sys.stderr, flush=True)
        path = folder / "table.txt"
        write(path, rows)
        clips, seconds, peak = _alone(read, path)
        yield f"| {form} | {clips:,.0f} | {seconds:.1f} | {peak:.0f} |"


def _clips(folder: Path, clips: int) -> Iterator[str]:
    """The table of preparing, and that of an epoch from what was prepared."""
    yield (
        "| clips of 10 s | shards | seconds to prepare | clips/s | seconds if all is there | "
        "peak memory, MB |"
    )
    yield "|---|---|---|---|---|---|"
    epochs = []
    for number in (clips // 10, clips):
        print(f"{number} clips ...", file=sys.stderr, flush=True)
        of_number = folder / str(number)
        recordings(of_number, number)
        shards, first, again, peak = _alone(prepared, of_number)
        rate = number / first
        yield (
            f"| {number:,} | {shards:.0f} | {first:.1f} | {rate:.0f} | {again:.1f} | {peak:.0f} |"
        )
        epochs += [
            _epoch(of_number, number, where)
            for where in ("one file", f"shards, {OPEN_SHARDS} open")
        ]
        shutil.rmtree(of_number)
    yield ""
    yield (
        "| clips | features in | seconds to start | seconds an epoch of batches | clips/s | "
        "private memory grew by, MB |"
    )
    yield "|---|---|---|---|---|---|"
    yield from epochs


def _epoch(folder: Path, clips: int, where: str) -> str:
    if where == "one file":
        path = folder / "features"
        block = np.random.default_rng(0).normal(0, 1, (FRAMES, BANDS)).astype(np.float16).tobytes()
        with open(path, "wb") as file:
            for _ in range(clips):
                file.write(block)
        start, epoch, grown = _alone(draw, path, clips)
        path.unlink()
    else:
        start, epoch, grown = _alone(stream, folder / "shards")
    return (
        f"| {clips:,} | {where} | {start:.2f} | {epoch:.1f} | {clips / epoch:.0f} | {grown:.0f} |"
    )


def read(path: Path) -> tuple[float, float, float]:
    """Clips of a table, processor seconds and the largest memory in MB."""
    from earmark.formats.labels import read_labels

    started = time.process_time()
    table = read_labels(path)
    return len(table.rows), time.process_time() - started, _memory("VmHWM")


def draw(path: Path, clips: int) -> tuple[float, float, float]:
    """Seconds to index clips and to draw an epoch of batches, and by how many MB memory grew."""
    from earmark.data.clips import ClipFeatures
    from earmark.data.labels import Clip, tag_matrix
    from earmark.data.sampler import BalancedSampler
    from earmark.features import Normaliser

    rng = np.random.default_rng(0)
    names = [f"class {k}" for k in range(CLIP_CLASSES)]
    labelled = [
        Clip(path, f"{n}.wav", None, None, frozenset({names[k]}), None, None)
        for n, k in enumerate(_classes(rng, clips, CLIP_CLASSES).tolist())
    ]
    began = _memory("RssAnon")
    started = time.perf_counter()
    features = ClipFeatures(
        np.memmap(path, np.float16, "c", shape=(clips * FRAMES, BANDS)),
        np.full(clips, FRAMES),
        Normaliser(np.zeros(BANDS), np.ones(BANDS)),
        np.arange(clips),
        (),
        "",
    )
    sampler = BalancedSampler(tag_matrix(labelled, names), 44, 5.0, seed=0)
    indexed = time.perf_counter()
    largest = began
    for numbers in sampler.epoch():
        features.batch(numbers)
        largest = max(largest, _memory("RssAnon"))
    return indexed - started, time.perf_counter() - indexed, largest - began


def recordings(folder: Path, clips: int) -> None:
    """A table of clips, and audio: a few files under as many names as there are clips."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    sounds = [folder / f"{number}.wav" for number in range(min(FILES, clips))]
    for sound in sounds:
        noise = rng.normal(0, 0.1, SECONDS * RATE_HZ).astype(np.float32)
        soundfile.write(sound, noise, RATE_HZ)
    with open(folder / "weak.tsv", "w", encoding="utf-8") as table:
        table.write("filename\tevent_labels\n")
        for clip, k in enumerate(_classes(rng, clips, CLIP_CLASSES).tolist()):
            os.link(sounds[clip % len(sounds)], folder / "audio" / f"{clip}.wav")
            table.write(f"{clip}.wav\tclass {k}\n")


def prepared(folder: Path) -> tuple[float, float, float, float]:
    """Shards, seconds to make them, seconds where they are there, and the peak memory in MB."""
    from earmark.tasks import prepare

    def call() -> tuple[float, float]:
        started = time.perf_counter()
        report = prepare(
            folder / "weak.tsv",
            audio=folder / "audio",
            out=folder / "shards",
            clips_per_shard=CLIPS_PER_SHARD,
        )
        return report.count, time.perf_counter() - started

    (shards, first), (_, again) = call(), call()
    return shards, first, again, _memory("VmHWM")


def stream(shards: Path) -> tuple[float, float, float]:
    """The same as ``draw``, from shards; they tell the clips, too."""
    from earmark.data.labels import tag_matrix
    from earmark.data.places import place
    from earmark.data.sampler import ShardedSampler
    from earmark.data.shards import ShardedFeatures, stored_clips

    started = time.perf_counter()
    stored = stored_clips(place(shards))
    began = largest = _memory("RssAnon")
    features = ShardedFeatures(stored, OPEN_SHARDS, shards / "open")
    tags = tag_matrix(stored.clips, stored.contents.class_names)
    sampler = ShardedSampler(tags, stored.shard_of, OPEN_SHARDS, 44, 5.0, seed=0)
    _ = features.normaliser
    indexed = time.perf_counter()
    for numbers in sampler.epoch():
        features.hold(sampler.open)
        features.batch(numbers)
        largest = max(largest, _memory("RssAnon"))
    epoch = time.perf_counter() - indexed
    features.close()
    return indexed - started, epoch, largest - began


def _alone(work: Callable[..., tuple[float, ...]], *given: object) -> tuple[float, ...]:
    """The result of ``work(*given)`` in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


def _memory(what: str) -> float:
    """MB of this process, as Linux counts them."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("memory is measured by means of Linux")


def _classes(rng: np.random.Generator, count: int, classes: int) -> np.ndarray:
    """Classes of which the k-th comes 1 / k as often as the first."""
    weights = 1 / np.arange(1, classes + 1)
    return rng.choice(classes, count, p=weights / weights.sum())


def _made(rows: int) -> Iterator[tuple[str, int, list[int], float]]:
    """Id of a video, start in it, classes and an onset, for each of the rows."""
    rng = np.random.default_rng(0)
    for _ in range(0, rows, 20_000):
        ids = LETTERS[rng.integers(0, 64, (20_000, 11))]
        starts = 10 * rng.integers(0, 60, 20_000)
        classes = _classes(rng, 60_000, CLASSES).reshape(20_000, 3)
        counts = rng.integers(1, 4, 20_000).tolist()
        onsets = rng.uniform(0, 9, 20_000).tolist()
        for row, (start, count) in enumerate(zip(starts.tolist(), counts, strict=True)):
            yield "".join(ids[row]), start, sorted({*classes[row, :count].tolist()}), onsets[row]


def audioset(path: Path, rows: int) -> None:
    """Weak segments as AudioSet has them."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("# YTID, start_seconds, end_seconds, positive_labels\n")
        for video, start, classes, _ in _made(rows):
            mids = ",".join(f"/m/{k:05}" for k in classes)
            file.write(f'{video}, {start}.000, {start + 10}.000, "{mids}"\n')


def weak(path: Path, rows: int) -> None:
    """Our weak table; the names of a fifth of the classes hold a comma."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("filename\tevent_labels\n")
        for video, start, classes, _ in _made(rows):
            labels = ",".join(f"Class {k}" if k % 5 else f'"Class {k}, kind"' for k in classes)
            file.write(f"Y{video}_{start}.000_{start + 10}.000.wav\t{labels}\n")


def strong(path: Path, rows: int) -> None:
    """A strong table of five events a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("filename\tonset\toffset\tevent_label\n")
        for row, (_, _, classes, onset) in enumerate(_made(rows)):
            file.write(f"{row // 5:07}.wav\t{onset:.3f}\t{onset + 0.5:.3f}\tClass {classes[0]}\n")


FORMS = {"AudioSet, weak": audioset, "weak TSV": weak, "strong TSV": strong}


def main(argv: Sequence[str] | None = None) -> None:
    parser = options("large", __doc__, rounds=False)
    parser.add_argument("--folder", type=Path, help="where 4 GB may be written for a while")
    arguments = parsed("large", parser, argv)
    rows = QUICK_ROWS if arguments.quick else ROWS
    clips = QUICK_CLIPS if arguments.quick else CLIPS
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        words = "\n".join([*_tables(Path(name), rows), "", *_clips(Path(name), clips)])
    tell(arguments.page, "large", f"`{arguments.command}`; {made_on()}.\n\n{words}")


if __name__ == "__main__":
    main()
