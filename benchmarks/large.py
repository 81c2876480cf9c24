"""What large sets cost: tables of two million rows, and an epoch's batches of 51,172 clips.

    python -m benchmarks.large --page BENCHMARKS.md

The tables are made, in the form of AudioSet and in our own, with 527 classes and about two tags a
row; each is read in a process of its own. The clips are those of DCASE 2017 Task 4 in number and
length; their features are made and lie in a file, as training leaves them. Memory is the
process's own: pages of that file, which the system drops when it likes, are not counted. Where it
is the same for a tenth of the clips, it doesn't grow with the set.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.pages import made_on, options, parsed, tell

ROWS, QUICK_ROWS = 2_000_000, 20_000
CLIPS, QUICK_CLIPS = 51_172, 500
CLASSES, CLIP_CLASSES = 527, 17
FRAMES, BANDS = 240, 64
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


def _epochs(folder: Path, clips: int) -> Iterator[str]:
    yield "| clips | seconds to start | seconds an epoch of batches | private memory grew by, MB |"
    yield "|---|---|---|---|"
    for number in (clips // 10, clips):
        print(f"{number} clips ...", file=sys.stderr, flush=True)
        path = folder / "features"
        block = np.random.default_rng(0).normal(0, 1, (FRAMES, BANDS)).astype(np.float16).tobytes()
        with open(path, "wb") as file:
            for _ in range(number):
                file.write(block)
        start, epoch, grown = _alone(draw, path, number)
        yield f"| {number:,} | {start:.2f} | {epoch:.1f} | {grown:.0f} |"


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
    started = time.process_time()
    features = ClipFeatures(
        np.memmap(path, np.float16, "c", shape=(clips * FRAMES, BANDS)),
        np.full(clips, FRAMES),
        Normaliser(np.zeros(BANDS), np.ones(BANDS)),
        np.arange(clips),
        (),
        "",
    )
    sampler = BalancedSampler(tag_matrix(labelled, names), 44, 5.0, seed=0)
    indexed = time.process_time()
    largest = began
    for numbers in sampler.epoch():
        features.batch(numbers)
        largest = max(largest, _memory("RssAnon"))
    return indexed - started, time.process_time() - indexed, largest - began


def _alone(work: Callable[..., tuple[float, float, float]], *given: object) -> tuple[float, ...]:
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
    parser.add_argument("--folder", type=Path, help="where 2 GB may be written for a while")
    arguments = parsed("large", parser, argv)
    rows = QUICK_ROWS if arguments.quick else ROWS
    clips = QUICK_CLIPS if arguments.quick else CLIPS
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        words = "\n".join([*_tables(Path(name), rows), "", *_epochs(Path(name), clips)])
    tell(arguments.page, "large", f"`{arguments.command}`; {made_on()}.\n\n{words}")


if __name__ == "__main__":
    main()
