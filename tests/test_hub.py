"""Models on the hub, by a server that stands in for it: nothing here leaves this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
from hub_stand_in import TOKEN, StandIn
from test_runtime import saved, sound

import earmark
from earmark.cli import main
from earmark.errors import UserError
from earmark.model import hub
from earmark.model.bundle import read_description, save_description
from earmark.tasks import detect, fuse, info, push, tag

pytest.importorskip("huggingface_hub")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in, an empty cache, and nobody logged in."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", hub.OFFLINE):
        monkeypatch.delenv(name, raising=False)
    hub._fetched.cache_clear()
    with StandIn() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", members=2)


def refused(act: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        act()


def test_a_model_of_the_hub_is_loaded(server: StandIn, model: Path) -> None:
    strange = {"training/secret.py": b"x", "pickle.bin": b"y", ".gitattributes": b""}
    server.put("me/birds", files_of(model) | strange)
    found = earmark.load("hf://me/birds", device="cpu", precision="float32")
    expected = earmark.load(model, device="cpu", precision="float32")
    recording = sound(3000)
    assert found.tag(recording) == expected.tag(recording)
    fetched = {line.rpartition("/")[2] for line in server.asked if line.startswith("GET")}
    assert fetched == {"model.json", "model.safetensors"}
    asked = len(server.asked)
    earmark.load("hf://me/birds", device="cpu")
    assert len(server.asked) == asked


def test_wherever_a_model_is_named(
    server: StandIn, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put("me/birds", files_of(model))
    path = tmp_path / "sound.wav"
    soundfile.write(path, sound(3000), 1000)
    there = "hf://me/birds"
    for at, name in ((there, "hub"), (str(model), "here")):
        for command in ("detect", "tag"):
            out = str(tmp_path / f"{command}-{name}.csv")
            assert main([command, str(path), "--model", at, "--out", out, "--device", "cpu"]) == 0
        assert main(["plot", str(path), "--model", at, "--out", str(tmp_path / f"{name}.png")]) == 0
        assert main(["info", at]) == 0
    for command in ("detect", "tag"):
        tables = [(tmp_path / f"{command}-{name}.csv").read_bytes() for name in ("hub", "here")]
        assert tables[0] == tables[1]
    capsys.readouterr()
    assert info(Path(there)) == info(model)
    fused = fuse(Path(there), model, out=tmp_path / "fused", device="cpu").model
    assert (fused / "members/0/model.safetensors").read_bytes() == (
        model / "model.safetensors"
    ).read_bytes()
    cached = Path(hub.fetched(Path(there)))
    before = files_of(cached)
    labels = tmp_path / "labels.tsv"
    labels.write_text("filename\tevent_labels\nsound.wav\tdog\n")
    assert main(["tune", there, str(labels), "--audio", str(tmp_path)]) == 2
    assert "a model on the hub is not changed" in capsys.readouterr().err
    refused(lambda: save_description(Path(there), read_description(model), ""), "not changed")
    assert files_of(cached) == before


def test_a_fused_model(server: StandIn, model: Path, tmp_path: Path) -> None:
    inner = fuse(model, saved(tmp_path / "other", hop_samples=16), out=tmp_path / "inner").model
    fused = fuse(inner, model, out=tmp_path / "fused").model
    server.put("me/all", files_of(fused) | {"members/9/model.json": b"{}"})
    found = earmark.load("hf://me/all", device="cpu", precision="float32")
    expected = earmark.load(fused, device="cpu", precision="float32")
    assert found.tag(sound(3000)) == expected.tag(sound(3000))
    fetched = {line.split("/", 5)[-1] for line in server.asked}
    assert len(fetched) == 2 * 3 + 2
    assert not any("README" in path or "members/9" in path for path in fetched)
    server.asked.clear()
    hub._fetched.cache_clear()
    earmark.load("hf://me/all", device="cpu")
    assert set(server.asked) == {"HEAD /me/all/resolve/main/model.json"}  # has the branch moved?


def test_revisions(server: StandIn, model: Path, tmp_path: Path) -> None:
    one = server.put("me/birds", files_of(model))
    one.branches["v1"] = 0
    server.put("me/birds", files_of(saved(tmp_path / "later", spread=2.0)))
    recording = sound(3000)
    tags = [
        earmark.load(f"hf://me/birds{at}", device="cpu").tag(recording)
        for at in ("", "@v1", f"@{one.sha(0)}", "@main")
    ]
    assert tags[1] == tags[2] != tags[0] == tags[3]
    refused(lambda: earmark.load("hf://me/birds@v2"), "has no revision 'v2'")


def test_offline(
    server: StandIn, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put("me/birds", files_of(model))
    path = tmp_path / "sound.wav"
    soundfile.write(path, sound(3000), 1000)
    words = ["tag", str(path), "--model", "hf://me/birds", "--out", str(tmp_path / "tags.csv")]
    assert main(["--offline", *words]) == 2
    said = capsys.readouterr().err
    assert "hf://me/birds: model.json is not in the cache, and nothing may be fetched" in said
    assert server.asked == []
    assert main(words) == 0
    asked = len(server.asked)
    for offline in (["--offline", *words], [*words, "--offline"]):
        assert main(offline) == 0
    assert len(server.asked) == asked
    assert hub.OFFLINE not in os.environ
    server.put("me/birds", files_of(saved(tmp_path / "later")))  # which isn't in the cache
    with hub.offline():
        assert read_description(Path("hf://me/birds")) == read_description(model)


def test_what_a_half_fetched_model_lacks(server: StandIn, model: Path) -> None:
    server.put("me/birds", {"model.json": files_of(model)["model.json"]})
    refused(lambda: earmark.load("hf://me/birds"), "it has no model.safetensors")
    with hub.offline():
        refused(lambda: earmark.load("hf://me/birds"), "model.safetensors is not in the cache")


def test_without_a_network(
    monkeypatch: pytest.MonkeyPatch, server: StandIn, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.put("me/birds", files_of(model))
    assert earmark.load("hf://me/birds", device="cpu").class_names
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(
        lambda: earmark.load("hf://me/other"),
        r"^hf://me/other: can't be fetched: .*Connection.*; see that",
    )
    assert earmark.load("hf://me/birds", device="cpu").class_names  # what is there does
    assert capfd.readouterr().err == ""


def test_without_a_network_between_two_files(
    monkeypatch: pytest.MonkeyPatch, server: StandIn, model: Path
) -> None:
    files = files_of(model)
    server.put("me/birds", {"model.json": files["model.json"]})
    refused(lambda: earmark.load("hf://me/birds"), "it has no model.safetensors")
    server.models["me/birds"].commits[0].update(files)
    server.shutdown()
    server.server_close()
    refused(lambda: earmark.load("hf://me/birds"), "can't be fetched: ")


@pytest.mark.parametrize("private", [False, True])
def test_what_is_not_there(server: StandIn, model: Path, private: bool) -> None:
    if private:
        server.put("me/birds", files_of(model), private=True)
    refused(lambda: earmark.load("hf://me/birds"), r"no such model on the hub, or it is private")


def test_what_one_has_to_ask_for(
    server: StandIn, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("me/birds", files_of(model), gated=True)
    refused(lambda: earmark.load("hf://me/birds"), "wants to be asked")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert earmark.load("hf://me/birds", device="cpu").class_names


@pytest.mark.parametrize(
    "address",
    ["me", "me/birds/more", "me/../birds", "me/birds@", "me/birds@../../x", "", "m e/birds"],
)
def test_what_is_no_address(server: StandIn, address: str) -> None:
    refused(lambda: earmark.load(f"hf://{address}"), "a model on the hub is hf://USER/NAME")
    assert server.asked == []


def test_what_is_not_ours(server: StandIn, model: Path, tmp_path: Path) -> None:
    server.put("me/other", {"config.json": b"{}"})
    refused(lambda: earmark.load("hf://me/other"), "was not made by earmark.*no model.json")
    server.put("me/odd", {"model.json": b"[1]"})
    refused(lambda: earmark.load("hf://me/odd"), "format_version must be 1")
    described = json.loads(files_of(model)["model.json"])
    wide = json.loads(json.dumps(described))
    wide["settings"]["network"]["filters"] = 4000
    files = files_of(model)
    server.put("me/wide", files | {"model.json": json.dumps(wide).encode()})
    refused(lambda: earmark.load("hf://me/wide"), "does not fit model.json")
    server.put("me/cut", files | {"model.safetensors": files["model.safetensors"][:-9]})
    refused(lambda: earmark.load("hf://me/cut"), "can't be read as the model's weights")
    fused = json.loads((fuse(model, model, out=tmp_path / "f").model / "model.json").read_text())
    led_out = json.dumps(fused | {"members": ["members/0/../../../x"]}).encode()
    server.put("me/out", {"model.json": led_out})
    refused(lambda: earmark.load("hf://me/out"), "members.0: ")


@pytest.mark.parametrize("path", ["model.json", "model.safetensors"])
def test_what_is_too_large_is_not_fetched(server: StandIn, model: Path, path: str) -> None:
    server.put("me/large", files_of(model))
    server.stated_sizes[path] = 2**34
    refused(lambda: earmark.load("hf://me/large"), rf"{path} is larger .*; it is not fetched")
    assert not [line for line in server.asked if line.startswith("GET") and line.endswith(path)]


def test_without_the_package(server: StandIn, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(lambda: earmark.load("hf://me/birds"), r"pip install 'earmark\[hub\]'")
    refused(lambda: push(model, "me/birds"), r"pip install 'earmark\[hub\]'")


def test_push(
    server: StandIn,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (model / "training").mkdir()
    (model / "training" / "secret").write_text("nobody's business")
    own = b"# Gr\xfcn\n\n`earmark detect X --model THIS_FOLDER`\n"
    (model / "README.md").write_bytes(own)
    assert main(["push", str(model), "me/birds"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"pushed, public: {server.address}/me/birds"
    assert "--model hf://me/birds " in said[1]
    pushed = server.models["me/birds"].commits[-1]
    assert set(pushed) == {"model.json", "model.safetensors", "README.md"}
    for name in ("model.json", "model.safetensors"):
        assert pushed[name] == (model / name).read_bytes()
    front, _, rest = pushed["README.md"].partition(b"\n---\n")
    assert front.startswith(b"---\nlibrary_name: earmark\npipeline_tag: audio-classification\n")
    assert rest.lstrip() == own.replace(b"THIS_FOLDER", b"hf://me/birds").replace(b"\xfc", b"?")
    found = earmark.load("hf://me/birds", device="cpu").tag(sound(3000))
    assert found == earmark.load(model, device="cpu").tag(sound(3000))


def test_push_of_a_fused_model_in_private(
    server: StandIn, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fused = fuse(model, saved(tmp_path / "other", hop_samples=16), out=tmp_path / "fused").model
    pushed = push(fused, "hf://me/all", private=True)
    assert (pushed.address, pushed.private) == ("hf://me/all", True)
    assert server.models["me/all"].private
    of_member = ("model.json", "model.safetensors", "README.md")
    assert set(server.models["me/all"].commits[-1]) == {
        *("model.json", "README.md"),
        *(f"members/{number}/{file}" for number in (0, 1) for file in of_member),
    }
    assert earmark.load("hf://me/all", device="cpu").tag(sound(3000))
    again = push(fused, "me/all")
    assert again.private


def test_what_can_not_be_pushed(
    server: StandIn, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(lambda: push(model, "birds"), "called USER/NAME, came as 'birds'")
    refused(lambda: push(tmp_path, "me/birds"), "is not a model folder")
    with hub.offline():
        refused(lambda: push(model, "me/birds"), "push sends files: leave out --offline")
    assert server.asked == []
    refused(lambda: push(model, "me/birds"), "lets nobody write to me/birds .*hf auth login")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.put("other/birds", {})
    refused(lambda: push(model, "other/birds"), "lets nobody write to other/birds")
    server.put("me/public", {})
    refused(lambda: push(model, "me/public", private=True), "there already, and public")
    assert len(server.models["me/public"].commits) == 1
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(lambda: push(model, "me/birds"), "^me/birds can't be pushed: .*; see that the hub can")
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    (model / "model.safetensors").write_bytes(b"")
    asked = len(server.asked)
    refused(lambda: push(model, "me/birds"), "can't be read as the model's weights")
    assert len(server.asked) == asked


def test_a_card_that_the_hub_can_read_stays(
    server: StandIn, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    own = b"---\nlicense: mit\n---\n# Mine\n"
    (model / "README.md").write_bytes(own)
    push(model, "me/birds")
    assert server.models["me/birds"].commits[-1]["README.md"] == own
    (model / "README.md").unlink()
    push(model, "me/birds")
    card = server.models["me/birds"].commits[-1]["README.md"].decode()
    assert "earmark detect RECORDING --model hf://me/birds --out" in card
    assert card.startswith("---\nlibrary_name: earmark\n")


def test_other_paths_stay_as_they_are(model: Path) -> None:
    for path in (model, Path("relative/hf:"), Path("/hf:/me/birds")):
        assert hub.fetched(path) == path


@pytest.mark.slow
def test_a_process_of_its_own(server: StandIn, model: Path, tmp_path: Path) -> None:
    server.put("me/birds", files_of(model))
    path = tmp_path / "sound.wav"
    soundfile.write(path, sound(3000), 1000)
    program = [sys.executable, "-m", "earmark", "detect", str(path), "--model", "hf://me/birds"]
    env = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(Path(earmark.__file__).parents[1]),
    }
    for more, code in ((["--offline"], 2), ([], 0), (["--offline"], 0)):
        out = tmp_path / "events.csv"
        words = [*program, "--out", str(out), *more]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("\n") == (1 if code else 0), done.stderr
    events = detect(path, model=model, out=tmp_path / "here.csv").out.read_bytes()
    assert out.read_bytes() == events
    assert tag(path, model=model, out=tmp_path / "tags.csv").probabilities
