"""Blocks of recordings as Parquet, each in the result once, whatever dies on the way."""

import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Scenes

from earmark.audio import AudioError
from earmark.errors import UserError
from earmark.events import Event
from earmark.scale import ray_engine
from earmark.scale.ray_engine import Partitions, begin, blocks_done, blocks_of, work_on_block
from earmark.tasks.detection import detect

parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")


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
    assert sorted(row["recording"] for row in outcomes) == sorted(found)
    good = expected(found)
    for row in outcomes:
        assert row["status"] == ("done" if row["recording"] in good else "failed")
        assert ("is bad" in row["reason"]) == (row["status"] == "failed")
        assert row["events"] == len(good.get(row["recording"], ()))
    assert len(of_events) == sum(map(len, good.values()))
    partitions = Partitions(out)
    assert dict(partitions) == good
    assert len(partitions.failures) == len(found) - len(good)


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
    (out / "recordings" / "part-000000.parquet").unlink()
    work_on_block(0, whole, work, out)
    check_once_each(out, found)
    assert not list(out.rglob(".*"))


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


def test_what_is_given_up_is_not_done_of_another_file(tmp_path: Path) -> None:
    found = files(tmp_path / "audio", 4)
    block = [(name, str(path)) for name, path in sorted(found.items())]
    out = tmp_path / "out"
    begin(out, {}, [block], restart=False)
    work_on_block(0, block, Counting(), out)
    found["001.wav"].write_bytes(b"xxxxxxx")
    ray_engine._give_up(0, block, out, RuntimeError("died"))
    failures = Partitions(out).failures
    assert any("001.wav: the process died" in line for line in failures)
    assert not any("000.wav: the process died" in line for line in failures)


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
    blocks = blocks_of(found)
    out = tmp_path / "out"
    begin(out, {}, blocks, restart=False)

    def deadly(name: str, path: Path) -> list[Event]:
        if name == "001.wav":
            os._exit(1)
        return []

    assert sorted(ray_engine.work_on(ray, blocks, deadly, out)) == [0, 1, 2]
    partitions = Partitions(out)
    assert list(partitions) == ["000.wav", "002.wav"]
    assert len(partitions.failures) == 1
    assert "001.wav: the process died 2 times" in partitions.failures[0]

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
