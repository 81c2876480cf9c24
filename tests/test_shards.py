"""Shards: made once and whole, read back as they were, and learnt from a few at a time."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY, Scenes
from safetensors.numpy import load_file, save
from scipy import sparse

from earmark.config import parse_assignments, settings_from
from earmark.data import shards as made_shards
from earmark.data.clips import clip_features
from earmark.data.places import Folder, place
from earmark.data.sampler import ShardedSampler, class_weights
from earmark.data.shards import ShardedFeatures, stored_clips
from earmark.errors import UserError
from earmark.features import FeatureExtractor
from earmark.tasks.preparing import PreparationReport, prepare
from earmark.tasks.training import train
from earmark.tasks.training_data import gather

SETTINGS = settings_from(parse_assignments(TINY))


@pytest.fixture(scope="module")
def shards(clips: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 clips in five shards."""
    out = tmp_path_factory.mktemp("made") / "shards"
    prepare(clips.weak, audio=clips.audio, out=out, set=TINY, clips_per_shard=7)
    return out


def copy_of(shards: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in shards.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def same_weights(one: Path, other: Path, tolerance: float = 0) -> bool:
    first, second = (load_file(model / "model.safetensors") for model in (one, other))
    return first.keys() == second.keys() and all(
        np.allclose(first[name], second[name], rtol=0, atol=tolerance) for name in first
    )


def test_clips_and_features_come_back_as_they_were(
    shards: Path, clips: Scenes, tmp_path: Path
) -> None:
    stored = stored_clips(place(shards))
    expected = gather(clips.weak, clips.audio, "0").training
    assert [(c.filename, c.labels, c.group) for c in stored.clips] == [
        (c.filename, c.labels, c.group) for c in expected
    ]
    extractor = FeatureExtractor(SETTINGS.features)
    whole = clip_features(expected, extractor, tmp_path / "f", max_clip_seconds=30)
    parts = ShardedFeatures(stored, 2, tmp_path / "open")
    assert parts.lengths.tolist() == whole.lengths.tolist()
    np.testing.assert_allclose(parts.normaliser.mean, whole.normaliser.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.normaliser.deviation, whole.normaliser.deviation, rtol=1e-12)
    for numbers in (np.arange(32), np.array([31, 0, 17])):
        np.testing.assert_array_equal(parts.batch(numbers)[0], whole.batch(numbers)[0])
    assert len(parts._open) == 3
    in_order = stored.shard_of[parts.order].tolist()
    assert in_order == sorted(in_order)
    assert sorted(parts.order.tolist()) == list(range(32))
    parts.close()


def test_what_is_there_is_not_made_again(shards: Path, clips: Scenes, tmp_path: Path) -> None:
    again = copy_of(shards, tmp_path / "again")
    (again / "000002.safetensors").unlink()
    (again / "000003.f16").write_bytes(b"short")

    def call(table: Path = clips.weak) -> int:
        report = prepare(table, audio=clips.audio, out=again, set=TINY, clips_per_shard=7)
        assert (report.clips, report.count) == (32, 5)
        return report.made

    assert call() == 2
    assert (again / "shards.json").read_bytes() == (shards / "shards.json").read_bytes()
    assert call() == 0
    before = [(again / f"00000{n}.f16").stat().st_mtime_ns for n in range(5)]
    table = tmp_path / "weak.tsv"
    lines = clips.weak.read_text().splitlines()
    name = lines[1].partition("\t")[0]
    table.write_text("\n".join([lines[0], f"{name}\tgong", *lines[2:]]) + "\n")
    assert call(table) == 1
    assert [(again / f"00000{n}.f16").stat().st_mtime_ns for n in range(5)] == before
    assert "gong" in stored_clips(place(again)).contents.tags


def test_another_cut_leaves_nothing_of_the_one_before(
    shards: Path, clips: Scenes, tmp_path: Path
) -> None:
    again = copy_of(shards, tmp_path / "again")
    (again / ".000001.f16.1234.part").write_bytes(b"of a killed process")
    prepare(clips.weak, audio=clips.audio, out=again, set=TINY, clips_per_shard=20)
    assert sorted(path.name for path in again.iterdir() if path.suffix != ".json") == [
        f"00000{number}.{suffix}" for number in (0, 1) for suffix in ("f16", "safetensors")
    ]
    assert len(stored_clips(place(again)).clips) == 32


def test_a_training_from_open_shards_is_that_from_the_table(
    shards: Path, clips: Scenes, model: Path, tmp_path: Path
) -> None:
    settings = [*TINY, "training.open_shards=5"]
    report = train(shards, out=tmp_path / "m", set=settings, device="cpu")
    assert same_weights(model, tmp_path / "m", 1e-5)
    summary = json.loads((model / "model.json").read_text())["training"]
    assert report.clips == summary["clips"]
    assert report.validation == pytest.approx(summary["validation"], abs=1e-3)


def test_a_streamed_training_goes_on_exactly(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earmark.tasks import training_run

    settings = [*TINY, "training.open_shards=2"]
    train(shards, out=tmp_path / "one", set=settings, device="cpu")

    class Killed(BaseException):
        pass

    given = training_run.TrainingRun._validate

    def validate_and_die(self, network):
        given(self, network)
        raise Killed

    once = training_run.TrainingRun._save

    def save_and_die(self, *rest):
        once(self, *rest)
        raise Killed

    for patched, by in (("_save", save_and_die), ("_validate", validate_and_die)):
        with monkeypatch.context() as patch:
            patch.setattr(training_run.TrainingRun, patched, by)
            with pytest.raises(Killed):
                train(shards, out=tmp_path / "two", set=settings, device="cpu", resume=True)
    train(shards, out=tmp_path / "two", set=settings, device="cpu", resume=True)
    assert same_weights(tmp_path / "one", tmp_path / "two")


def test_shards_at_an_address(clips: Scenes, shards: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    address = f"memory://{tmp_path.name}/shards"

    def call() -> int:
        out = Path(address)
        return prepare(clips.weak, audio=clips.audio, out=out, set=TINY, clips_per_shard=7).made

    assert (call(), call()) == (5, 0)
    settings = [*TINY, "training.open_shards=2"]
    train(Path(address), out=tmp_path / "far", set=settings, device="cpu")
    train(shards, out=tmp_path / "near", set=settings, device="cpu")
    assert same_weights(tmp_path / "near", tmp_path / "far")
    assert not list((tmp_path / "far").rglob("*.f16"))
    files = fsspec.filesystem("memory")
    frames = f"{address}/000001.f16"
    files.pipe_file(frames, bytes(files.info(frames)["size"]))
    with pytest.raises(UserError, match="isn't what was prepared"):
        train(Path(address), out=tmp_path / "m", set=settings, device="cpu")
    with pytest.raises(UserError, match=r"memory://none/shards\.json: can't be read: it is not"):
        train(Path("memory://none"), out=tmp_path / "n", set=settings, device="cpu")
    with pytest.raises(UserError, match="nowhere://x: can't be reached: Protocol not known"):
        place("nowhere://x")


def test_an_address_of_this_machine(clips: Scenes, shards: Path, tmp_path: Path) -> None:
    out = Path(f"file://{tmp_path}/shards")
    prepare(clips.weak, audio=clips.audio, out=out, set=TINY, clips_per_shard=7)
    found = tmp_path / "shards" / "shards.json"
    assert found.read_bytes() == (shards / "shards.json").read_bytes()
    assert gather(out, None, "0").training == gather(shards, None, "0").training


def test_addresses_need_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"s3://x/y: needs fsspec: pip install 'earmark\[remote\]'"):
        train(Path("s3://x/y"), out=tmp_path / "m")


def test_few_fetched_shards_lie_on_this_disk(clips: Scenes, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    address = place(f"memory://{tmp_path.name}/few")
    prepare(clips.weak, audio=clips.audio, out=Path(str(address)), set=TINY, clips_per_shard=4)
    stored = stored_clips(address)
    features = ShardedFeatures(stored, 2, tmp_path / "open")
    for number in range(32):
        features.batch(np.array([number]))
        assert len(list((tmp_path / "open").iterdir())) <= 3
    features.hold([0, 1])
    for shard in (0, 1):
        frames = stored.contents.shards[shard].frames
        assert features._open[shard].result().shape == (frames, 24)
    features.close()
    assert not list((tmp_path / "open").iterdir())


def test_prepared_clips_judge(clips: Scenes, held_out: Scenes, tmp_path: Path) -> None:
    from test_train_task import both

    audio = both(clips, held_out, tmp_path)
    out = tmp_path / "shards"
    prepare(clips.weak, audio=audio, out=out, validation=held_out.weak, set=TINY)
    data = gather(out, None, "prepared")
    assert (len(data.training), len(data.held.clips)) == (32, 12)
    train(out, out=tmp_path / "m", set=[*TINY, "training.epochs=1"], device="cpu")


def rewritten(folder: Path, shard: int, **tensors: np.ndarray) -> None:
    """Puts other tensors into a shard, and has shards.json say that they are meant."""
    path = folder / f"00000{shard}.safetensors"
    path.write_bytes(save(load_file(path) | tensors))
    contents = json.loads((folder / "shards.json").read_text())
    summary = contents["shards"][shard]
    summary["rows_digest"] = hashlib.sha256(path.read_bytes()).hexdigest()
    summary["frames"] = int(load_file(path)["lengths"].astype(object).sum())
    (folder / "shards.json").write_text(json.dumps(contents))


DAMAGES = ["missing", "long", "rows", "name", "twice", "count", "format", "torn", "lists"]
DAMAGES += ["huge", "negative", "other_lengths", "words", "nan"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_shards_are_refused(damage: str, shards: Path, tmp_path: Path) -> None:
    bad = copy_of(shards, tmp_path / "bad")
    contents = json.loads((bad / "shards.json").read_text())
    tensors = load_file(bad / "000001.safetensors")
    lengths = tensors["lengths"]
    if damage == "missing":
        (bad / "000001.f16").unlink()
    elif damage == "long":
        with open(bad / "000001.f16", "ab") as file:
            file.write(bytes(48))
    elif damage == "rows":
        (bad / "000001.safetensors").write_bytes((bad / "000000.safetensors").read_bytes())
    elif damage == "name":
        contents["shards"][0]["name"] = "../../secret"
    elif damage == "twice":
        contents["shards"][0]["name"] = "000001"
    elif damage == "count":
        contents["shards"][0]["frames"] = 2**60
    elif damage == "format":
        contents["format"] = 9
    if damage in ("name", "twice", "count", "format"):
        (bad / "shards.json").write_text(json.dumps(contents))
    if damage in ("torn", "lists"):
        (bad / "shards.json").write_text("{" if damage == "torn" else "[" * 10**5)
    elif damage == "huge":  # and nothing of that size is made
        rewritten(bad, 1, lengths=np.full_like(lengths, 2**62))
    elif damage == "negative":
        rewritten(bad, 1, lengths=lengths * np.where(np.arange(len(lengths)) == 0, -1, 1))
    elif damage == "other_lengths":
        rewritten(bad, 1, lengths=lengths.astype(np.float64))
    elif damage == "words":
        rewritten(bad, 1, words=np.frombuffer(b'{"key": "x"}', np.uint8))
    elif damage == "nan":
        rewritten(bad, 1, means=np.full_like(tensors["means"], np.nan))
    with pytest.raises(UserError, match=r"bad/[0-9s]") as error:
        train(bad, out=tmp_path / "m", set=TINY, device="cpu")
    assert (damage == "missing") == ("f16: is missing" in str(error.value))
    assert not (tmp_path / "m").exists()


def test_shards_that_are_not_whole_are_told(shards: Path, tmp_path: Path) -> None:
    bad = copy_of(shards, tmp_path / "bad")
    (bad / "shards.json").unlink()
    with pytest.raises(UserError, match=r"bad: holds shards, but no shards\.json"):
        train(bad, out=tmp_path / "m", set=TINY)


def test_a_model_folder_takes_no_shards(clips: Scenes, tmp_path: Path) -> None:
    (tmp_path / "model.json").touch()
    with pytest.raises(UserError, match="is a model folder, and stays one"):
        prepare(clips.weak, audio=clips.audio, out=tmp_path, set=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_other_features_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"features\.rate_hz is 8000, the recipe's 16000"):
        train(shards, out=tmp_path / "m")
    with pytest.raises(UserError, match="one system"):
        train(shards, out=tmp_path / "m", recipe="fusion")
    with pytest.raises(UserError, match="shards need no recordings; leave out --audio"):
        train(shards, out=tmp_path / "m", audio=tmp_path, set=TINY)


def test_unreadable_clips_stop_unless_told_otherwise(
    clips: Scenes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = Path(shutil.copytree(clips.audio, tmp_path / "audio"))
    broken = sorted(audio.iterdir())[3]
    broken.write_bytes(b"")
    out = tmp_path / "shards"

    def call(table: Path = clips.weak, skip_missing: bool = True) -> PreparationReport:
        return prepare(
            table,
            audio=audio,
            out=out,
            set=TINY,
            clips_per_shard=7,
            skip_missing=skip_missing,
        )

    with pytest.raises(UserError, match=f"1 of 32 clips can't be read: {broken.name}: "):
        call(skip_missing=False)
    assert not (out / "shards.json").exists()
    report = call()
    assert (report.clips, report.made, report.unreadable) == (31, 0, 1)
    assert f"unreadable: {broken.name}: " in capsys.readouterr().err
    table = tmp_path / "weak.tsv"
    table.write_text(clips.weak.read_text().replace("horn", "gong"))
    frames = {path.name: path.stat().st_mtime_ns for path in out.glob("*.f16")}
    assert call(table).made > 0
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.f16")} == frames
    stored = stored_clips(place(out))
    expected = gather(table, audio, "0").training
    assert [(c.filename, c.labels) for c in stored.clips] == [
        (c.filename, c.labels) for c in expected if c.filename != broken.name
    ]
    for path in audio.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of 32 recordings can be read"):
        call()


def test_a_file_that_changes_meanwhile_is_in_no_shard(
    clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = Path(shutil.copytree(clips.audio, tmp_path / "audio"))
    first = sorted(audio.iterdir())[0]
    computed = made_shards.features_of_each

    def changing(*given: object) -> Iterator[object]:
        yield from computed(*given)
        first.write_bytes(b"other")

    monkeypatch.setattr(made_shards, "features_of_each", changing)
    out = tmp_path / "shards"
    with pytest.raises(UserError, match=f"{first.name}: changed while it was read"):
        prepare(clips.weak, audio=audio, out=out, set=TINY)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.parametrize("open_shards", [5, 2])
def test_two_processes_learn_from_shards_what_one_does_from_the_table(
    open_shards: int,
    shards: Path,
    clips: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a few open shards: what one process does from these."""
    pytest.importorskip("fsspec")
    settings = [*TINY, "training.epochs=2", "training.precision=float32"]
    settings += ["training.batch_size=7", f"training.open_shards={open_shards}"]
    whole = (clips.weak, clips.audio) if open_shards == 5 else (shards, None)
    train(whole[0], audio=whole[1], out=tmp_path / "one", set=settings, device="cpu")
    # As from an object storage: each process fetches for itself.
    monkeypatch.chdir("/")
    far = Path(f"local:/{shards}")
    train(far, out=tmp_path / "two", set=settings, device="cpu", processes=2)
    one, two = (
        [
            json.loads(line)
            for line in (tmp_path / out / "training/log.jsonl").read_text().split("\n")[:-1]
        ]
        for out in ("one", "two")
    )
    assert len(one) == len(two) == 2
    for alone, shared in zip(one, two, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert shared["validation_map"] == pytest.approx(alone["validation_map"], abs=0.02)
    assert not list((tmp_path / "two").rglob("*.f16"))


WIDE = (*TINY, "features.mel_bands=128", "features.hop_samples=512", "network.filters=2")
WIDE += ("network.frequency_pooling=[16, 8]", "training.epochs=1", "training.batch_size=40")
PEAK = """
import sys
from pathlib import Path
from earmark import tasks
made, folder, *settings = sys.argv[1:]
folder = Path(folder)
table, shards, model = folder / "weak.tsv", folder / "shards", folder / "model"
if made == "shards":
    tasks.prepare(table, audio=folder / "audio", out=shards, set=settings, clips_per_shard=50)
else:
    tasks.train(shards, out=model, set=settings, device="cpu")
print(*(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the memory")
def test_ten_times_the_set_needs_no_more_memory(tmp_path: Path) -> None:
    """Features of a clip are 26 kB here: 51 MB of all, and as float32 twice that.

    Chance adds to a peak up to 20 MB, and never takes from it: the least of three is compared.
    """
    rng = np.random.default_rng(0)
    sounds = []
    for number in range(20):
        sounds.append(tmp_path / f"{number}.wav")
        soundfile.write(sounds[-1], rng.normal(0, 0.1, 52_000).astype(np.float32), 8000)
    peaks: list[list[float]] = []
    for count in (200, 2000):
        folder = tmp_path / f"of {count}"
        (folder / "audio").mkdir(parents=True)
        rows = ["filename\tevent_labels"]
        for clip in range(count):
            os.link(sounds[clip % 20], folder / "audio" / f"{clip}.wav")
            rows.append(f"{clip}.wav\t{'horn' if clip % 20 < 9 else 'bell'}")
        (folder / "weak.tsv").write_text("\n".join(rows) + "\n")
        runs: dict[str, list[float]] = {"shards": [], "model": []}
        for made in ("shards", "model") * 3:
            shutil.rmtree(folder / made, ignore_errors=True)
            done = subprocess.run(
                [sys.executable, "-c", PEAK, made, str(folder), *WIDE],
                check=True,
                capture_output=True,
                text=True,
            )
            runs[made].append(int(done.stdout.split()[-2]) / 1024)
        peaks.append([min(several) for several in runs.values()])
    assert sum(path.stat().st_size for path in (folder / "shards").glob("*.f16")) > 50e6
    for few, many in zip(*peaks, strict=True):
        assert many - few < 30, peaks


@pytest.mark.slow
def test_a_killed_preparation_goes_on(clips: Scenes, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    words = [sys.executable, "-m", "earmark", "prepare", str(clips.weak), "--audio"]
    words += [str(clips.audio), "--out", str(out), "--clips-per-shard", "7"]
    for setting in TINY:
        words += ["--set", setting]
    for wait in range(60):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(out.glob(f"00000{min(wait, 4)}.*")):
            time.sleep(0.005)
        process.kill()
        process.wait()
        if (out / "shards.json").exists():
            break
    subprocess.run(words, check=True, capture_output=True)
    for file in shards.glob("*.*"):
        if not file.name.startswith("."):
            assert (out / file.name).read_bytes() == file.read_bytes()


def sampler(open_shards: int = 3, ratio: float | None = 2.0, seed: int = 0) -> ShardedSampler:
    rng = np.random.default_rng(1)
    first = rng.random(600) < 0.8
    tags = sparse.csr_array(np.stack([first, ~first], axis=1))
    return ShardedSampler(tags, SHARD_OF, open_shards, 10, ratio, seed)


SHARD_OF = np.repeat(np.arange(10, dtype=np.int32), 60)


def test_batches_are_of_open_shards_and_balanced_as_the_whole() -> None:
    drawn = sampler()
    counts = np.zeros(600, int)
    for _ in range(40):
        seen = set()
        for batch in drawn.epoch():
            assert set(SHARD_OF[batch].tolist()) <= set(drawn.open[:3])
            assert len(drawn.open) <= 4
            seen |= set(SHARD_OF[batch].tolist())
            counts += np.bincount(batch, minlength=600)
        assert seen == set(range(10))
    first = np.random.default_rng(1).random(600) < 0.8
    weights = class_weights(np.array([first.sum(), (~first).sum()]), 2.0)
    assert counts[first].sum() / counts.sum() == pytest.approx(weights[0] / weights.sum(), abs=0.01)
    # Within a shard every clip of a class comes before any comes again.
    for shard in range(10):
        for of_class in (first, ~first):
            assert np.ptp(counts[(shard == SHARD_OF) & of_class]) <= 1
    of_shards = np.bincount(SHARD_OF, counts)
    assert of_shards.max() / of_shards.min() < 1.3


def test_one_seed_gives_one_order() -> None:
    one, same, other = (list(sampler(seed=seed).epoch()) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    plain = sampler(ratio=None)
    drawn = np.concatenate([batch for _ in range(5) for batch in plain.epoch()])
    assert len(drawn) == 3000


def test_an_address_survives_being_a_path() -> None:
    pytest.importorskip("fsspec")
    assert str(place(Path("memory://a/b"))) == "memory://a/b"
    assert isinstance(place("file:///tmp/x"), Folder)
    assert str(place(Path("C:/x"))) == "C:/x"
