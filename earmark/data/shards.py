"""Features in shards: made piece by piece, anywhere, and read while a few of them are open.

A shard is two files: the frames of its clips, clip after clip, as plain float16 numbers
(``000007.f16``), and then what else is known of them (``000007.safetensors``), so that a shard is
there if its second file is. ``shards.json`` names them all and is written last.
"""

import hashlib
import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from earmark.config import FeatureSettings, Section, explain
from earmark.data.clips import content_digests, content_key, features_of_each
from earmark.data.labels import Clip
from earmark.data.places import CONTENTS, Folder, Place, frames_file
from earmark.errors import UserError
from earmark.features import (
    VERSION,
    FeatureExtractor,
    Normaliser,
    NormaliserFit,
    mean_and_squares,
)

FORMAT = 1
# Shards are of clips in an order of their own: neighbours in a table are often alike.
_ORDER_SEED = 0
_ITEM_BYTES = np.dtype(np.float16).itemsize
_MOST_SHARDS = 10**6  # that a name has figures for

Count = Annotated[int, Field(ge=0)]


class ShardSummary(Section):
    """A shard as ``shards.json`` has it: its name, the digests of its files, what is in it."""

    name: str = Field(pattern=r"^[0-9]{6}$")
    frames_digest: str
    rows_digest: str
    clips: Count
    frames: Count
    tags: dict[str, Count]


class ShardSet(Section):
    """What ``shards.json`` says.

    Attributes:
        format: of these files.
        features: the settings that the features were computed with.
        features_version: of the numbers.
        class_names: every class that the table names.
        table: the name of the table.
        shards: in order.
        clips: how many there are.
        tags: clips of each class.
        failures: a line for each clip that could not be read.
    """

    format: int
    features: FeatureSettings
    features_version: int
    class_names: list[str]
    table: str
    shards: list[ShardSummary]
    clips: Count
    tags: dict[str, Count]
    failures: list[str]


class Row(NamedTuple):
    """What is known of a clip; ``number`` is its place among all."""

    number: int
    filename: str
    start_seconds: float | None
    stop_seconds: float | None
    labels: list[str]
    absent: list[str] | None
    group: str | None


class Failure(NamedTuple):
    """Why a clip is in no row; ``place`` is that among the clips that the shard was made of."""

    place: int
    filename: str
    reason: str


class ShardWords(Section):
    """What is known of a shard's clips in words.

    Attributes:
        key: what their features were computed from, as a digest.
        frames_digest: of the file of frames.
        rows: of the clips that could be read.
        failures: of the others.
    """

    key: str
    frames_digest: str
    rows: list[Row]
    failures: list[Failure]


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """All that is known of a shard's clips, but their frames.

    Attributes:
        words: with n rows.
        lengths: (n,) frames of each.
        means, squares: (n, F) of each, as ``mean_and_squares`` gives them.
    """

    words: ShardWords
    lengths: NDArray[np.int64]
    means: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def frames(self) -> int:
        return sum(self.lengths.tolist())  # in Python, where nothing overflows


def rows_file(name: str) -> str:
    return f"{name}.safetensors"


# Making them


def blocks(clips: int, clips_per_shard: int) -> list[NDArray[np.int64]]:
    """The numbers of the clips of each shard; as many clips are always cut alike."""
    if clips > clips_per_shard * _MOST_SHARDS:
        raise UserError("there may be a million shards; give more --clips-per-shard")
    order = np.random.default_rng(_ORDER_SEED).permutation(clips)
    return [order[n : n + clips_per_shard] for n in range(0, clips, clips_per_shard)]


def make_shard(
    where: Place,
    shard: int,
    numbers: Sequence[int],
    clips: Sequence[Clip],
    settings: FeatureSettings,
    max_clip_seconds: float,
    threads: int | None = None,
    after_clip: Callable[[], None] = lambda: None,
) -> bool:
    """Makes a shard, unless it is there; gives whether anything was written.

    Features are kept whose clips, files' contents and settings are as they were; new labels cost
    little then. ``shards.json``, whose word holds no longer, goes before anything is written.

    Args:
        where: the shards; a folder exists.
        shard: its number.
        numbers: the places of its clips among all.
        clips: these.
        settings: of the features.
        max_clip_seconds: how long a clip may be.
        threads: how many compute; without, one a core.
        after_clip: called after each clip.

    Raises:
        UserError: a clip is longer than allowed, a file changed meanwhile, or nothing can be
            written.
    """
    name = f"{shard:06}"
    extractor = FeatureExtractor(settings)
    record = where.path / f".{name}.contents.json" if isinstance(where, Folder) else None
    digests = content_digests(clips, record, threads)
    key = content_key(clips, digests, extractor, max_clip_seconds)
    there = _there(where, name, key, settings.mel_bands)
    if there is not None:
        for _ in clips:
            after_clip()
        reasons = {failure.place: failure.reason for failure in there.words.failures}
        words = _words(key, there.words.frames_digest, numbers, clips, reasons)
        if words == there.words:
            return False
        where.remove(CONTENTS)
        _write_rows(where, name, replace(there, words=words))
        return True
    where.remove(CONTENTS)
    where.remove(rows_file(name))
    frames_digest = hashlib.sha256()
    reasons, lengths, means, squares = {}, [], [], []
    with (
        where.making(frames_file(name)) as part,
        open(part, "wb") as file,
        closing(features_of_each(clips, extractor, max_clip_seconds, threads)) as computed,
    ):
        for place, features in enumerate(computed):
            after_clip()
            if isinstance(features, str):
                reasons[place] = features
                continue
            frames = features.astype(np.float16).tobytes()
            frames_digest.update(frames)
            file.write(frames)
            lengths.append(len(features))
            mean, square = mean_and_squares(features)
            means.append(mean)
            squares.append(square)
        now = content_digests(clips, record, threads)
        if changed := [path for path in digests if now[path] != digests[path]]:
            raise UserError("changed while it was read; start again", where=changed[0])
    shape = (len(lengths), settings.mel_bands)
    made = Shard(
        _words(key, frames_digest.hexdigest(), numbers, clips, reasons),
        np.array(lengths, np.int64),
        np.array(means, np.float64).reshape(shape),
        np.array(squares, np.float64).reshape(shape),
    )
    _write_rows(where, name, made)
    return True


def _words(
    key: str,
    frames_digest: str,
    numbers: Sequence[int],
    clips: Sequence[Clip],
    reasons: dict[int, str],
) -> ShardWords:
    """The words on clips, of which those with a reason could not be read."""
    rows = [
        Row(
            int(number),
            clip.filename,
            clip.start_seconds,
            clip.stop_seconds,
            sorted(clip.labels),
            None if clip.absent is None else sorted(clip.absent),
            clip.group,
        )
        for place, (number, clip) in enumerate(zip(numbers, clips, strict=True))
        if place not in reasons
    ]
    failures = [Failure(place, clips[place].filename, reasons[place]) for place in reasons]
    return ShardWords(key=key, frames_digest=frames_digest, rows=rows, failures=failures)


def _there(where: Place, name: str, key: str, bands: int) -> Shard | None:
    """A shard with this key, undamaged as far as sizes tell; None if there is none."""
    size = where.size(frames_file(name))
    if size is None or where.size(rows_file(name)) is None:
        return None
    try:
        shard, _ = _read_shard(where, name, bands)
    except UserError:
        return None
    return shard if shard.words.key == key and size == _bytes(shard.frames, bands) else None


def _write_rows(where: Place, name: str, shard: Shard) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "lengths": shard.lengths,
        "means": shard.means,
        "squares": shard.squares,
        "words": np.frombuffer(shard.words.model_dump_json().encode(), np.uint8),
    }
    with where.making(rows_file(name)) as part:
        part.write_bytes(safetensors.save(tensors))


def contents_of(
    where: Place, shards: int, settings: FeatureSettings, class_names: Sequence[str], table: str
) -> ShardSet:
    """What is to be said of so many shards, which are all there."""
    summaries = []
    failures = []
    tags: Counter[str] = Counter()
    for number in range(shards):
        name = f"{number:06}"
        shard, digest = _read_shard(where, name, settings.mel_bands)
        counts = Counter(label for row in shard.words.rows for label in row.labels)
        tags += counts
        failures += [
            str(UserError(failure.reason, where=failure.filename))
            for failure in shard.words.failures
        ]
        summaries.append(
            ShardSummary(
                name=name,
                frames_digest=shard.words.frames_digest,
                rows_digest=digest,
                clips=len(shard.words.rows),
                frames=shard.frames,
                tags=dict(sorted(counts.items())),
            )
        )
    return ShardSet(
        format=FORMAT,
        features=settings,
        features_version=VERSION,
        class_names=sorted(class_names),
        table=table,
        shards=summaries,
        clips=sum(summary.clips for summary in summaries),
        tags=dict(sorted(tags.items())),
        failures=failures,
    )


def finish(where: Place, contents: ShardSet) -> None:
    """Writes ``shards.json``, and removes shards beyond, which were of another cut."""
    content = contents.model_dump_json(indent=1) + "\n"
    if where.size(CONTENTS) is None or where.read(CONTENTS) != content.encode():
        with where.making(CONTENTS) as part:
            part.write_text(content, encoding="utf-8", newline="\n")
    number = len(contents.shards)
    while where.size(frames_file(name := f"{number:06}")) is not None:
        for file in (rows_file(name), f".{name}.contents.json", frames_file(name)):
            where.remove(file)
        number += 1


# Reading them


def read_set(where: Place) -> ShardSet:
    """What ``shards.json`` says, checked.

    Raises:
        UserError: it is not there, damaged, or of another version.
    """
    content, at = where.read(CONTENTS), where.at(CONTENTS)
    try:
        found = json.loads(content)
        version = found.get("format") if isinstance(found, dict) else None
        if version != FORMAT:
            raise UserError(
                f"shards must be of format {FORMAT}, these are of {version!r}; prepare them again",
                where=at,
            )
        contents = ShardSet.model_validate(found)
    except ValidationError as error:
        raise UserError(f"is damaged: {explain(error, ShardSet)}", where=at) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"is damaged: {error}; prepare the shards again", where=at) from error
    if contents.features_version != VERSION:
        raise UserError(
            "the features are of another version of earmark; prepare the shards again", where=at
        )
    if len({shard.name for shard in contents.shards}) < len(contents.shards):
        raise UserError("names a shard twice; prepare the shards again", where=at)
    return contents


def _read_shard(where: Place, name: str, bands: int) -> tuple[Shard, str]:
    """A shard's rows, and the digest of their file. Raises UserError if it can't be read."""
    file = rows_file(name)
    content, at = where.read(file), where.at(file)
    try:
        tensors = safetensors.load(content)
        words = ShardWords.model_validate_json(tensors["words"].tobytes())
        lengths, means, squares = (tensors[key] for key in ("lengths", "means", "squares"))
    except (SafetensorError, KeyError, ValueError) as error:  # of pydantic, too
        raise UserError("is damaged; prepare the shards again", where=at) from error
    shape = (len(words.rows), bands)
    fits = (
        lengths.dtype == np.int64
        and lengths.shape == shape[:1]
        and bool((lengths > 0).all())
        and all(part.dtype == np.float64 and part.shape == shape for part in (means, squares))
        and bool(np.isfinite(means).all())
        and bool(np.isfinite(squares).all())
        and bool((squares >= 0).all())
    )
    if not fits:
        raise _no_fit(at)
    return Shard(words, lengths, means, squares), hashlib.sha256(content).hexdigest()


def _meant(where: Place, summary: ShardSummary, bands: int) -> Shard:
    """A shard's rows, if they are those that ``shards.json`` means."""
    at = where.at(rows_file(summary.name))
    shard, digest = _read_shard(where, summary.name, bands)
    if digest != summary.rows_digest:
        raise UserError("isn't what was prepared; prepare the shards again", where=at)
    if len(shard.words.rows) != summary.clips or shard.frames != summary.frames:
        raise _no_fit(at)
    return shard


def _no_fit(at: str) -> UserError:
    return UserError("its sizes don't fit together; prepare the shards again", where=at)


def _bytes(frames: int, bands: int) -> int:
    return frames * bands * _ITEM_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class StoredClips:
    """All clips of a set of shards, without their features.

    Attributes:
        where: the shards.
        contents: what ``shards.json`` says.
        clips: in the order of the table that they were prepared from.
        shard_of: (N,) the shard of each.
        row_of: (N,) its row there.
        starts: (N,) and its first frame there.
        lengths: (N,) its frames.
    """

    where: Place
    contents: ShardSet
    clips: list[Clip]
    shard_of: NDArray[np.int32]
    row_of: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def of(self, clips: list[Clip]) -> "StoredClips":
        """The same with these clips, which are some of its own."""
        number_of = {id(clip): number for number, clip in enumerate(self.clips)}
        return self._at(np.array([number_of[id(clip)] for clip in clips], np.int64), clips)

    def saying(self, clips: list[Clip]) -> "StoredClips":
        """The same with other words on each of them."""
        return replace(self, clips=clips)

    def _at(self, numbers: NDArray[np.int64], clips: list[Clip]) -> "StoredClips":
        return replace(
            self,
            clips=clips,
            shard_of=self.shard_of[numbers],
            row_of=self.row_of[numbers],
            starts=self.starts[numbers],
            lengths=self.lengths[numbers],
        )


def stored_clips(where: Place) -> StoredClips:
    """The clips of shards. Raises UserError if they are damaged, or are no shards."""
    contents = read_set(where)
    bands = contents.features.mel_bands
    numbers: list[int] = []
    clips: list[Clip] = []
    sets: dict[frozenset[str], frozenset[str]] = {}  # many clips have the same labels

    def one(names: list[str]) -> frozenset[str]:
        found = frozenset(names)
        return sets.setdefault(found, found)

    parts: list[tuple[NDArray[np.int64], ...]] = []
    for number, summary in enumerate(contents.shards):
        shard = _meant(where, summary, bands)
        file = frames_file(summary.name)
        # Before anything of the size that the rows tell is made.
        if (size := where.size(file)) != _bytes(summary.frames, bands):
            what = "is missing" if size is None else "its size isn't what was prepared"
            raise UserError(f"{what}; prepare the shards again", where=where.at(file))
        for row in shard.words.rows:
            absent = None if row.absent is None else one(row.absent)
            clip = Clip(
                Path(row.filename),
                row.filename,
                row.start_seconds,
                row.stop_seconds,
                one(row.labels),
                None,
                row.group,
                absent,
            )
            clips.append(clip)
            numbers.append(row.number)
        count = len(shard.lengths)
        starts = np.cumsum(shard.lengths) - shard.lengths
        parts.append((np.full(count, number), np.arange(count), starts, shard.lengths))
    if not clips:
        raise UserError("no clip is in these shards", where=where.at(CONTENTS))
    shard_of, row_of, starts, lengths = map(np.concatenate, zip(*parts, strict=True))
    stored = StoredClips(
        where, contents, clips, shard_of.astype(np.int32), row_of.astype(np.int32), starts, lengths
    )
    order = np.argsort(numbers, kind="stable")
    return stored._at(order, [clips[n] for n in order.tolist()])


class ShardedFeatures:
    """Features of clips in shards, of which a few are open at a time.

    The least recently used one is closed where another is needed, and, where it was fetched,
    removed. They are fetched in the background.

    Attributes:
        lengths: (N,) frames of each clip.
        key: what they were computed from, as a digest.

    Args:
        stored: the clips.
        open_shards: how many may be open, beside one that is being fetched.
        folder: where fetched ones are until they are closed.
    """

    def __init__(self, stored: StoredClips, open_shards: int, folder: Path) -> None:
        self.lengths = stored.lengths
        digests = [[shard.frames_digest, shard.rows_digest] for shard in stored.contents.shards]
        self.key = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
        self._stored = stored
        self._bands = stored.contents.features.mel_bands
        self._most = open_shards + 1
        self._folder = folder
        self._open: OrderedDict[int, Future[NDArray[np.float16]]] = OrderedDict()
        self._lock = threading.Lock()
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="shards")

    @cached_property
    def normaliser(self) -> Normaliser:
        """Fitted on all these clips, shard by shard."""
        fit = NormaliserFit(self._bands)
        for number, summary in enumerate(self._stored.contents.shards):
            rows = self._stored.row_of[self._stored.shard_of == number].tolist()
            if rows:
                shard = _meant(self._stored.where, summary, self._bands)
                for row in rows:
                    fit.add_summed(int(shard.lengths[row]), shard.means[row], shard.squares[row])
        return fit.result()

    @property
    def order(self) -> NDArray[np.int64]:
        """(N,) the clips by number, shard after shard: so each is opened once."""
        return np.argsort(self._stored.shard_of, kind="stable")

    def hold(self, shards: Sequence[int]) -> None:
        """Begins to open shards that will be needed; the first ones soonest."""
        for shard in shards:
            self._opened(shard)

    def batch(
        self, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        """Features (B, T, F) of clips by number, padded with zeros to the longest, and their
        lengths (B,), None if they are equal."""
        lengths, starts = self.lengths[numbers], self._stored.starts[numbers]
        features = np.zeros((len(numbers), lengths.max(), self._bands), np.float32)
        shards = self._stored.shard_of[numbers]
        # Shard by shard, as a batch may be of more than can be open.
        for shard in np.unique(shards).tolist():
            frames = self._opened(shard).result()
            for row in np.flatnonzero(shards == shard).tolist():
                start, length = int(starts[row]), int(lengths[row])
                features[row, :length] = frames[start : start + length]
        return features, None if (lengths == lengths[0]).all() else lengths

    def close(self) -> None:
        """Closes all, and removes what was fetched."""
        self._fetcher.shutdown(cancel_futures=True)
        for shard in list(self._open):
            self._shut(shard)

    def _opened(self, shard: int) -> Future[NDArray[np.float16]]:
        with self._lock:
            if shard not in self._open:
                while len(self._open) >= self._most:
                    self._shut(next(iter(self._open)))
                self._open[shard] = self._fetcher.submit(self._map, shard)
            self._open.move_to_end(shard)
            return self._open[shard]

    def _shut(self, shard: int) -> None:
        """Lets go of a shard. A fetched file can go at once: what is mapped stays readable."""
        fetched = self._folder / frames_file(self._stored.contents.shards[shard].name)

        def forget(_: object) -> None:
            with suppress(OSError):
                fetched.unlink(missing_ok=True)

        future = self._open.pop(shard)
        future.add_done_callback(forget)
        future.cancel()

    def _map(self, shard: int) -> NDArray[np.float16]:
        summary, where = self._stored.contents.shards[shard], self._stored.where
        file = frames_file(summary.name)
        path = where.local(file, self._folder, summary.frames_digest)
        try:
            return np.memmap(path, np.float16, "r", shape=(summary.frames, self._bands))
        except (OSError, ValueError) as error:  # cut since it was looked at
            raise UserError(
                f"can't be read: {error}; prepare the shards again", where=where.at(file)
            ) from error
