"""Blocks of recordings, each in the result once, whatever dies on the way."""

import os
import shutil
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Scenes

from earmark.audio import AudioError
from earmark.cli import main
from earmark.config import FeatureSettings
from earmark.data import shards
from earmark.data.labels import Clip
from earmark.data.places import place
from earmark.data.shards import stored_clips
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.events import read_events
from earmark.scale import ray_engine
from earmark.scale.ray_engine import Partitions, begin, blocks_done, blocks_of, work_on_block
from earmark.tasks.detection import detect
from earmark.tasks.preparing import PreparationReport, prepare

pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def files(folder: Path, count: int) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    found = {f"{number:03}.wav": folder / f"{number:03}.wav" for number in range(count)}
    for number, path in enumerate(found.values()):
        path.write_bytes(b"bad" if number % 10 == 3 else b"x" * (number % 4 + 1))
    return found


def events_of(size: int) -> list[Event]:
    return [Event(start + 1 / 3, start + 0.5, "a,b" * start, 0.1) for start in range(size)]


def reading(name: str, path: Path) -> list[Event]:
    """An event for each byte but the first."""
    content = path.read_bytes()
    if content == b"bad":
        raise AudioError("is bad", where=path)
    return events_of(len(content) - 1)


class Counting:
    """``reading`` that notes what was read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, name: str, path: Path) -> list[Event]:
        self.read.append(name)
        return reading(name, path)


def expected(found: dict[str, Path]) -> dict[str, list[Event]]:
    contents = {name: path.read_bytes() for name, path in found.items()}
    return {name: events_of(len(c) - 1) for name, c in contents.items() if c != b"bad"}


def check_once_each(out: Path, found: dict[str, Path]) -> None:
    """Every recording is in the tables once, as a reader of Parquet sees them."""
    of_events = parquet.read_table(out / "events").to_pylist()
    outcomes = parquet.read_table(out / "recordings").to_pylist()
    assert sorted(row["filename"] for row in outcomes) == sorted(found)
    good = expected(found)
    for row in outcomes:
        assert row["status"] == ("done" if row["filename"] in good else "failed")
        assert ("is bad" in row["reason"]) == (row["status"] == "failed")
        assert row["events"] == len(good.get(row["filename"], ()))
    assert len(of_events) == sum(map(len, good.values()))
    partitions = Partitions(out)
    assert dict(partitions) == good
    assert len(partitions.failures) == len(found) - len(good)


@pytest.mark.slow
def test_the_same_recordings_are_always_cut_alike(tmp_path: Path) -> None:
    found = {f"{number}.wav": Path(f"{number}.wav") for number in range(2500)}
    blocks = blocks_of(found)
    assert [len(block) for block in blocks] == [2] * 1250
    assert blocks_of(dict(reversed(found.items()))) == blocks
    assert [name for block in blocks for name, _ in block] == sorted(found)
    assert all(os.path.isabs(path) for block in blocks for _, path in block)
    many = {f"{number}.wav": Path("x") for number in range(300_000)}
    assert {len(block) for block in blocks_of(many)} == {200}


def test_a_repeated_block_replaces_itself(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 12)
    block = blocks_of(found)
    whole = [recording for part in block for recording in part]
    out = tmp_path / "out"
    begin(out, {}, [whole], restart=False)
    work = Counting()
    work_on_block(0, whole, work, out)
    check_once_each(out, found)
    assert len(work.read) == 12
    work_on_block(0, whole, work, out)
    assert work.read[12:] == ["003.wav"], "what failed is tried again"
    check_once_each(out, found)
    found["003.wav"].write_bytes(b"xx")
    found["007.wav"].write_bytes(b"xxxxxxx")
    work.read.clear()
    work_on_block(0, whole, work, out)
    assert work.read == ["003.wav", "007.wav"]
    check_once_each(out, found)
    # A death between the two files of a block: the older word about the recordings still holds.
    outcomes = out / "recordings" / "part-000000.parquet"
    before = outcomes.read_bytes()
    found["003.wav"].write_bytes(b"xxxxx")
    found["005.wav"].write_bytes(b"xxxxxx")
    work_on_block(0, whole, work, out)
    outcomes.write_bytes(before)
    work.read.clear()
    work_on_block(0, whole, work, out)
    assert work.read == ["003.wav", "005.wav"]
    check_once_each(out, found)
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize("what", ["recordings", "events"])
def test_half_of_a_block_is_none(tmp_path: Path, what: str) -> None:
    found = files(tmp_path / "audio", 4)
    whole = [recording for part in blocks_of(found) for recording in part]
    out, work = tmp_path / "out", Counting()
    begin(out, {}, [whole], restart=False)
    work_on_block(0, whole, work, out)
    assert blocks_done(out) == [0]
    (out / what / "part-000000.parquet").unlink()
    assert blocks_done(out) == []
    work_on_block(0, whole, work, out)
    assert work.read == 2 * sorted(found)
    check_once_each(out, found)


@pytest.mark.parametrize("name", ["part-x.parquet", "part-7.parquet", "part-.parquet"])
def test_a_part_of_somebody_else_is_named(tmp_path: Path, name: str) -> None:
    """A reader of the tables would find its rows among ours."""
    begin(tmp_path, {}, [], restart=False)
    other = tmp_path / "recordings" / name
    other.write_bytes(b"theirs")
    for restart in (False, True):
        with pytest.raises(UserError, match=f"{name}: is of no run of earmark"):
            begin(tmp_path, {}, [], restart=restart)
    with pytest.raises(UserError, match=f"{name}: is of no run of earmark"):
        blocks_done(tmp_path)
    assert other.exists()


def test_a_part_of_other_columns_is_named(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 1)
    (whole,) = blocks_of(found)
    begin(tmp_path / "out", {}, [whole], restart=False)
    work_on_block(0, whole, reading, tmp_path / "out")
    for what in ("events", "recordings"):
        part = tmp_path / "out" / what / "part-000000.parquet"
        before = part.read_bytes()
        parquet.write_table(pyarrow.table({"theirs": [1]}), part)
        with pytest.raises(UserError, match=rf"{what}/part-000000.parquet: is of no run of earm"):
            work_on_block(0, whole, reading, tmp_path / "out")
        part.write_bytes(b"torn")
        with pytest.raises(UserError, match=r"part-000000.parquet: can't be read: .*; remove it"):
            work_on_block(0, whole, reading, tmp_path / "out")
        part.write_bytes(before)


def test_the_tables_say_what_they_hold(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 1)
    begin(tmp_path / "out", {}, blocks_of(found), restart=False)
    work_on_block(0, blocks_of(found)[0], reading, tmp_path / "out")
    schemas = {
        what: parquet.read_schema(tmp_path / "out" / what / "part-000000.parquet")
        for what in ("events", "recordings")
    }
    assert {w: [(f.name, str(f.type)) for f in schema] for w, schema in schemas.items()} == {
        "events": [
            ("filename", "string"),
            ("onset", "double"),
            ("offset", "double"),
            ("event_label", "string"),
            ("score", "double"),
        ],
        "recordings": [
            ("filename", "string"),
            ("status", "string"),
            ("reason", "string"),
            ("events", "int64"),
            ("bytes", "int64"),
            ("modified_ns", "int64"),
        ],
    }


def test_what_is_there_is_of_this_run(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 4)
    blocks = blocks_of(found)
    out = tmp_path / "out"
    begin(out, {"model": "m"}, blocks, restart=False)
    for number, block in enumerate(blocks):
        work_on_block(number, block, reading, out)
    begin(out, {"model": "m"}, blocks, restart=False)
    with pytest.raises(UserError, match=r"another model; .*--restart"):
        begin(out, {"model": "n"}, blocks, restart=False)
    with pytest.raises(UserError, match="another list of recordings"):
        begin(out, {"model": "m"}, blocks[:-1], restart=False)
    assert blocks_done(out) == [0, 1, 2, 3]
    begin(out, {"model": "n"}, blocks, restart=True)
    assert blocks_done(out) == []
    work_on_block(0, blocks[0], reading, out)
    (out / "run.json").unlink()
    for restart in (False, True):
        with pytest.raises(UserError, match="no run of earmark"):
            begin(out, {"model": "n"}, blocks, restart=restart)
    assert blocks_done(out) == [0], "what is not ours is not removed"


def test_a_damaged_partition_is_named(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 1)
    out = tmp_path / "out"
    begin(out, {}, blocks_of(found), restart=False)
    work_on_block(0, blocks_of(found)[0], reading, out)
    (out / "events" / "part-000000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"events/part-000000\.parquet: can't be read"):
        work_on_block(0, blocks_of(found)[0], reading, out)


def test_without_ray(
    model: Path, held_out: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'earmark\[ray\]'"):
        detect(held_out.audio, model=model, out=tmp_path / "e", engine="ray")
    with pytest.raises(UserError, match="folder, of Parquet"):
        detect(held_out.audio, model=model, out=tmp_path / "e.csv", engine="ray")
    with pytest.raises(UserError, match="--engine ray"):
        detect(held_out.audio, model=model, out=tmp_path / "e.csv", address="auto")


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_no_cluster_at_an_address(model: Path, held_out: Scenes, tmp_path: Path, form: str) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'earmark[ray]'")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and never listens
        address = form.format(f"127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(UserError, match=f"no Ray cluster answers at {address}"):
            detect(held_out.audio, model=model, out=tmp_path, engine="ray", address=address)
    assert list(tmp_path.iterdir()) == []


class Inline:
    """What is used of Ray, in this process, with so many CPUs and GPUs."""

    exceptions = SimpleNamespace(RayTaskError=ZeroDivisionError, RayError=ZeroDivisionError)

    def __init__(self, **resources: float) -> None:
        self.resources = resources
        self.begun: list[tuple[Any, ...]] = []
        self.asked: dict[str, int] = {}
        self.most = 0

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict[str, Any]]:
        """One with a CPU less than the other, and one that is gone."""
        half = self.resources.get("CPU", 0) / 2
        cpus = [half - 0.5, half + 0.5, 99]
        return [{"Alive": n < 90, "Resources": {"CPU": n}} for n in cpus]

    def remote(self, work: Any) -> Any:
        def begin_one(*given: Any) -> int:
            self.begun.append(given)
            return len(self.begun)

        def options(**asked: int) -> Any:
            self.asked = asked
            return SimpleNamespace(remote=begin_one)

        return SimpleNamespace(options=options)

    def wait(self, waiting: list[int]) -> tuple[list[int], list[int]]:
        self.most = max(self.most, len(waiting))
        return waiting[-1:], waiting[:-1]

    def get(self, which: int) -> None:
        pass


def test_tasks_wait_in_this_process_and_not_in_the_cluster(tmp_path: Path) -> None:
    ray = Inline(CPU=3.0)
    blocks = blocks_of({f"{number}.wav": tmp_path / f"{number}.wav" for number in range(100)})
    assert sorted(ray_engine.work_on(ray, blocks, reading, tmp_path)) == list(range(100))
    assert [given[0] for given in ray.begun] == list(range(100))
    assert ray.most == 8
    assert ray.asked == {"num_cpus": 1, "num_gpus": 0, "max_retries": ray_engine.RETRIES}


@pytest.mark.parametrize(
    ("device", "gpus", "taken"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda")],
)
def test_a_task_takes_a_gpu_where_one_is_wanted(
    model: Path,
    held_out: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    gpus: int,
    taken: str,
) -> None:
    ray = Inline(CPU=1, GPU=gpus)
    monkeypatch.setattr(ray_engine, "connected", lambda address: nullcontext(ray))
    detect(held_out.audio, model=model, out=tmp_path / "e", device=device, engine="ray")
    assert ray.begun[0][2].device == taken
    assert ray.begun[0][2].model == model.absolute()
    assert ray.asked["num_gpus"] == int(taken == "cuda")
    assert f'"device": "{taken}"' in (tmp_path / "e" / "run.json").read_text(encoding="utf-8")


def test_a_gpu_that_no_node_has_is_not_waited_for(
    model: Path, held_out: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "connected", lambda address: nullcontext(Inline(CPU=1)))
    with pytest.raises(UserError, match="needs a GPU, and the cluster has none"):
        detect(held_out.audio, model=model, out=tmp_path / "e", device="cuda", engine="ray")


class DyingError(Exception):
    """Of Ray: a process died."""


class Dying(Inline):
    """Does the work, but each task that has one of these recordings dies."""

    def __init__(self, *deadly: str) -> None:
        super().__init__(CPU=1.0)
        self.deadly = deadly
        self.exceptions = SimpleNamespace(RayTaskError=ZeroDivisionError, RayError=DyingError)

    def remote(self, work: Any) -> Any:
        def begin_one(*given: Any) -> int:
            self.begun.append((work, *given))
            return len(self.begun) - 1

        return SimpleNamespace(options=lambda **asked: SimpleNamespace(remote=begin_one))

    def get(self, which: int) -> Any:
        work, *given = self.begun[which]
        recordings = given[1] if work is work_on_block else [given[0]]
        if any(name in self.deadly for name, _ in recordings):
            raise DyingError
        return work(*given)

    def cancel(self, which: int) -> None:
        pass


def test_of_a_block_that_dies_one_recording_is_to_blame(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 12)
    whole = [recording for part in blocks_of(found) for recording in part]
    out, ray = tmp_path / "out", Dying("005.wav")
    begin(out, {}, [whole], restart=False)
    assert list(ray_engine.work_on(ray, [whole], reading, out)) == [0]
    partitions = Partitions(out)
    good = expected(found)
    del good["005.wav"]
    assert dict(partitions) == good
    bad, dead = partitions.failures
    assert "003.wav: is bad" in bad
    assert "005.wav: the process that works on it dies (DyingError)" in dead
    assert len(ray.begun) == 1 + 12
    # What is done stays done; of what failed each is tried again, what dies for itself.
    ray.begun.clear()
    assert list(ray_engine.work_on(ray, [whole], reading, out)) == [0]
    assert [given[0][0] for work, *given in ray.begun[1:]] == ["003.wav", "005.wav"]
    found["003.wav"].write_bytes(b"xx")
    ray.deadly = ()
    assert list(ray_engine.work_on(ray, [whole], reading, out)) == [0]
    check_once_each(out, found)


def test_a_run_of_which_some_died_ends_with_1(
    model: Path,
    held_out: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dead, *others = sorted(path.name for path in held_out.audio.iterdir())
    monkeypatch.setattr(ray_engine, "BLOCKS", 3)
    monkeypatch.setattr(ray_engine, "connected", lambda address: nullcontext(Dying(dead)))
    words = ["detect", str(held_out.audio), "--model", str(model), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "e"), "--engine", "ray"]) == 1
    assert f"{dead}: the process that works on it dies" in capsys.readouterr().out
    assert list(Partitions(tmp_path / "e")) == others


@pytest.mark.slow
def test_a_clusters_events_are_a_table_like_any(
    model: Path,
    held_out: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ray_engine, "connected", lambda address: nullcontext(Dying()))
    out, table = tmp_path / "cluster", tmp_path / "here.csv"
    found = detect(held_out.audio, model=model, out=out, device="cpu", engine="ray")
    detect(held_out.audio, model=model, out=table, device="cpu")
    assert len(list((out / "events").iterdir())) == 12
    given = {name: events for name, events in found.events.items() if events}
    assert read_events(out) == read_events(out / "events") == given
    recording = str(held_out.audio / next(iter(given)))
    of_reference = ["plot", recording, "--model", str(model), "--out", str(tmp_path / "p.png")]

    def told(events: Path) -> list[str]:
        page = str(tmp_path / "page.html")
        for words in (
            ["evaluate", str(held_out.strong), str(events)],
            ["evaluate", str(events), str(table)],
            ["report", str(events), "--audio", str(held_out.audio), "--out", page],
            [*of_reference, "--reference", str(events)],
        ):
            assert main(words) == 0
        said = capsys.readouterr().out
        return said.replace(str(out), "EVENTS").replace(str(table), "EVENTS").splitlines()

    assert told(out) == told(table)


def test_what_dies_alone_is_not_tried_twice(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 1)
    (whole,) = blocks_of(found)
    out, ray = tmp_path / "out", Dying("000.wav")
    begin(out, {}, [whole], restart=False)
    assert list(ray_engine.work_on(ray, [whole], reading, out)) == [0]
    assert len(ray.begun) == 1
    assert "000.wav: the process that works on it dies" in Partitions(out).failures[0]


def test_what_died_is_not_done_of_another_file(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 4)
    whole = [(name, str(path)) for name, path in sorted(found.items())]
    out = tmp_path / "out"
    begin(out, {}, [whole], restart=False)
    work_on_block(0, whole, reading, out)
    found["001.wav"].write_bytes(b"xxxxxxx")
    list(ray_engine.work_on(Dying("001.wav"), [whole], reading, out))
    partitions = Partitions(out)
    assert list(partitions) == ["000.wav", "002.wav"]
    assert any("001.wav: the process that works on it dies" in line for line in partitions.failures)


@pytest.mark.parametrize(("shards", "cpus"), [(2, 3), (4, 1), (1, 3), (9, 1)])
def test_a_shard_takes_the_cores_that_are_left(tmp_path: Path, shards: int, cpus: int) -> None:
    """Of machines with 3 and 4."""
    ray = Inline(CPU=7.0)
    cut = [np.array([number]) for number in range(shards)]
    clips = [
        Clip(Path(f"{n}.wav"), f"{n}.wav", None, None, frozenset(), None, None) for n in range(9)
    ]
    made = ray_engine.make_shards(ray, place(tmp_path), cut, clips, FeatureSettings(), 30.0)
    assert len(list(made)) == shards
    assert ray.asked == {"num_cpus": cpus, "max_retries": ray_engine.RETRIES}
    assert [given[1:3] for given in ray.begun] == [(number, [number]) for number in range(shards)]
    assert all(clip.path.is_absolute() for given in ray.begun for clip in given[3])
    assert all(given[-1] == cpus for given in ray.begun)


def test_a_shard_whose_process_dies_is_named(tmp_path: Path) -> None:
    class Deadly(Inline):
        def get(self, which: int) -> None:
            raise ZeroDivisionError

        def cancel(self, which: int) -> None:
            cancelled.append(which)

    cancelled: list[int] = []
    ray = Deadly(CPU=2.0)
    ray.exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=ZeroDivisionError)
    clips = [Clip(Path("x"), "x", None, None, frozenset(), None, None)]
    cut = [np.array([0])] * 3
    with pytest.raises(UserError, match=r"00000.: the process that made it died 6 times"):
        list(ray_engine.make_shards(ray, place(tmp_path), cut, clips, FeatureSettings(), 30.0))
    assert len(cancelled) == 2


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes on this machine, and a connection to it."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray", reason="needs Ray: pip install 'earmark[ray]'")
        from ray.cluster_utils import Cluster

        nodes = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        nodes.second = nodes.add_node(num_cpus=2)
        nodes.wait_for_nodes()
        ray.init(nodes.address, log_to_driver=False)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_dies_in_the_middle(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray_engine, "BLOCKS", 12)
    found = files(tmp_path / "audio", 36)
    blocks = blocks_of(found)
    assert len(blocks) == 12
    out, begun = tmp_path / "out", tmp_path / "begun"
    begun.mkdir()
    begin(out, {}, blocks, restart=False)
    second = cluster.second.node_id

    def slowly(name: str, path: Path) -> list[Event]:
        node = ray.get_runtime_context().get_node_id()
        (begun / f"{name} {node} {os.getpid()}").touch()
        time.sleep(0.3)
        return reading(name, path)

    done: list[int] = []
    killed = False
    for block in ray_engine.work_on(ray, blocks, slowly, out):
        done.append(block)
        of_done = {name for number in done for name, _ in blocks[number]}
        there = [n.split() for n in os.listdir(begun) if n.split()[1] == second]
        if {name for name, *_ in there} - of_done and not killed:
            # A machine that loses power takes everything with it, at once.
            for process in {int(process) for *_, process in there}:
                os.kill(process, signal.SIGKILL)
            cluster.remove_node(cluster.second, allow_graceful=False)
            killed = True
    assert killed, "while it was at work"
    assert sorted(done) == list(range(12))
    assert len(list(begun.iterdir())) > 36, "some were begun twice"
    check_once_each(out, found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_errors_and_deaths(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray_engine, "RETRIES", 1)
    found = files(tmp_path / "audio", 3)
    blocks = [[recording for part in blocks_of(found) for recording in part]]
    out = tmp_path / "out"
    begin(out, {}, blocks, restart=False)

    def deadly(name: str, path: Path) -> list[Event]:
        if name == "001.wav":
            os._exit(1)
        return []

    assert sorted(ray_engine.work_on(ray, blocks, deadly, out)) == [0]
    partitions = Partitions(out)
    assert list(partitions) == ["000.wav", "002.wav"]
    (dead,) = partitions.failures
    assert "001.wav: the process that works on it dies (WorkerCrashedError)" in dead

    def full(name: str, path: Path) -> list[Event]:
        raise UserError("No space left on device")

    with pytest.raises(UserError, match="No space"):
        list(ray_engine.work_on(ray, blocks, full, out))
    assert list(Partitions(out)) == ["000.wav", "002.wav"], "earlier results stay"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_detection_on_ray_is_as_here(
    cluster: Any,
    model: Path,
    held_out: Scenes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    for path in held_out.audio.iterdir():
        (audio / path.name).write_bytes(path.read_bytes())
    (audio / "bad.wav").write_bytes(b"not audio")

    def run() -> Any:
        out, scores = tmp_path / "ray", tmp_path / "s"
        return detect(audio, model=model, out=out, scores=scores, device="cpu", engine="ray")

    here = detect(audio, model=model, out=tmp_path / "e.csv", device="cpu")
    there = run()
    assert list(there.events) == list(here.events)
    for name, events in here.events.items():
        # Other numbers of threads may round differently.
        assert [e.label for e in there.events[name]] == [e.label for e in events]
        for one, other in zip(there.events[name], events, strict=True):
            assert one.onset_seconds == pytest.approx(other.onset_seconds)
            assert one.score == pytest.approx(other.score, abs=1e-4)
    assert there.failures == here.failures
    assert there.text().splitlines()[1:] == here.text().splitlines()[1:]
    assert len(list((tmp_path / "s").iterdir())) == 12
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray").rglob("*.parquet")}
    capsys.readouterr()
    assert dict(run().events) == dict(there.events)
    assert "going on: 13 of 13 blocks are done" in capsys.readouterr().err
    changed = [p for p, at in before.items() if p.stat().st_mtime_ns != at]
    bad = sorted([*here.events, "bad.wav"]).index("bad.wav")
    assert {path.name for path in changed} == {f"part-{bad:06}.parquet"}, "tried again"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_shards_of_a_cluster_are_those_of_one_machine(
    cluster: Any, clips: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a worker is killed and a node dies in the middle, and a clip can't be read."""
    audio = Path(shutil.copytree(clips.audio, tmp_path / "audio"))
    bad = sorted(audio.iterdir())[5]
    bad.write_bytes(b"not audio")
    begun, ended, out = tmp_path / "begun", tmp_path / "ended", tmp_path / "there"
    begun.mkdir()
    ended.mkdir()
    here = make(clips.weak, audio, tmp_path / "here")

    def slowly(where: Any, shard: int, *given: Any) -> bool:
        import ray

        name = f"{shard} {ray.get_runtime_context().get_node_id()} {os.getpid()}"
        (begun / name).touch()
        until(lambda: len({other.split()[1] for other in os.listdir(begun)}) == 2)
        time.sleep(0.5)
        made = shards.make_shard(where, shard, *given)
        time.sleep(0.5)
        (ended / name).touch()
        return made

    def until(there: Callable[[], Any]) -> Any:
        for _ in range(600):
            if found := there():
                return found
            time.sleep(0.1)
        raise TimeoutError

    def at_work(node: str) -> list[int]:
        names = set(os.listdir(begun)).difference(os.listdir(ended))
        return [int(n.split()[2]) for n in names if node in n and n.split()[2] not in killed]

    killed: list[str] = []
    given = ray_engine.make_shards

    def killing(*arguments: Any) -> Iterator[bool]:
        for number, made in enumerate(given(*arguments)):
            yield made
            if number < 2:  # of the second a worker, and then all of it
                for process in until(lambda: at_work(second)):
                    os.kill(process, signal.SIGKILL)
                    killed.append(str(process))
                if number == 1:
                    cluster.remove_node(cluster.second, allow_graceful=False)

    second = cluster.second.node_id
    with monkeypatch.context() as patch:
        patch.setattr(ray_engine, "make_shards", killing)
        patch.setattr(shards, "make_shard", slowly)
        there = make(clips.weak, audio, out, engine="ray")
    assert len(killed) >= 2, "a worker, and those of a node"
    assert len(list(begun.iterdir())) > 11, "some were begun twice"
    assert (there.clips, there.count, there.unreadable) == (31, 11, 1)
    assert (here.clips, here.made, here.unreadable) == (31, 11, 1)
    names = [path.name for path in sorted(out.iterdir()) if not path.name.startswith(".")]
    assert len(names) == 2 * 11 + 1
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    stored = [clip.filename for clip in stored_clips(place(out)).clips]
    assert sorted([*stored, bad.name]) == sorted(path.name for path in audio.iterdir())
    (out / "000003.f16").unlink()
    assert make(clips.weak, audio, out, engine="ray").made == 1, "what is there stays"


def make(table: Path, audio: Path, out: Path, **more: Any) -> PreparationReport:
    return prepare(
        table, audio=audio, out=out, set=TINY, clips_per_shard=3, skip_missing=True, **more
    )


def test_where_a_cluster_is_goes_with_ray(clips: Scenes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--address goes with --engine ray"):
        make(clips.weak, clips.audio, tmp_path, address="auto")
