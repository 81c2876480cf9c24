"""What the server answers."""

import io
import json
import struct
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Scenes
from desks import analysed, asked, ended, ids
from numpy.typing import NDArray
from starlette.testclient import TestClient

from earmark.audio import duration_seconds, read, write
from earmark.formats.event_formats import EVENT_FORMATS
from earmark.formats.labels import read_labels
from earmark.inference.fusion import load_recogniser
from earmark.web.desk import Limits
from earmark.web.overview import Picture


@pytest.fixture(scope="module")
def name(model: Path, held_out: Scenes) -> str:
    """A recording in which something is found."""
    detect = load_recogniser(model).detect
    return next(path.name for path in sorted(held_out.audio.iterdir()) if detect(path))


@pytest.fixture(scope="module")
def client(
    model: Path, held_out: Scenes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """Someone who has had that one analysed."""
    with asked(model, [held_out.audio], tmp_path_factory.mktemp("work")) as client:
        analysed(client, ids(client)[name])
        yield client


@pytest.fixture
def first(client: TestClient, name: str) -> str:
    """Its id."""
    return ids(client)[name]


OWL = {"id": "a", "onset": 0, "offset": 1, "label": "owl", "state": "added"}


def shades(png: bytes) -> NDArray[np.uint8]:
    """The picture in a grey PNG whose rows are not filtered."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert (depth, kind) == (8, 0)
    start = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(png[start + 4 : start + 4 + length]), np.uint8)
    return rows.reshape(height, width + 1)[:, 1:]


def test_models_and_recordings(client: TestClient, model: Path, held_out: Scenes) -> None:
    (served,) = client.get("/api/models").json()
    recogniser = load_recogniser(model)
    assert served["id"] == served["name"] == "model"
    assert served["class_names"] == list(recogniser.class_names)
    assert served["hop_seconds"] == float(recogniser.clock.hop_seconds)
    assert [rule["threshold"] for rule in served["rules"]] == [
        rule.threshold for rule in recogniser.rules
    ]
    recordings = client.get("/api/recordings").json()
    names = [recording["name"] for recording in recordings]
    assert names == sorted(path.name for path in held_out.audio.iterdir())
    for recording in recordings:
        length = duration_seconds(held_out.audio / recording["name"])
        assert recording["duration_seconds"] == pytest.approx(length)
        assert not recording["uploaded"]
        assert recording["error"] is recording["start_time"] is None
        assert client.get(f"/api/recordings/{recording['id']}").json() == recording


def test_events_are_those_of_detect(
    client: TestClient, name: str, model: Path, held_out: Scenes
) -> None:
    recogniser = load_recogniser(model)
    names = ids(client)
    assert recogniser.detect(held_out.audio / name)
    for each in (name, *list(names)[:2]):
        recording = names[each]
        analysed(client, recording)
        path = f"/api/recordings/{recording}/analyses/model/events"
        answer = client.post(path, json={}).json()
        assert answer["events"] == [
            {
                "onset": event.onset_seconds,
                "offset": event.offset_seconds,
                "label": event.label,
                "score": event.score,
            }
            for event in recogniser.detect(held_out.audio / each)
        ]
        assert answer["total"] == len(answer["events"])
        tags = recogniser.tag(held_out.audio / each)
        assert {tag["label"]: tag["probability"] for tag in answer["tags"]} == tags
        rules = dict(zip(recogniser.class_names, recogniser.rules, strict=True))
        for tag in answer["tags"]:
            limit = rules[tag["label"]].tag_threshold
            assert tag["present"] == (tag["probability"] > limit)


def test_a_threshold_that_moves(client: TestClient, first: str) -> None:
    path = f"/api/recordings/{first}/analyses/model/events"
    (served,) = client.get("/api/models").json()
    before = client.post(path, json={}).json()
    same = {rule["label"]: {"threshold": rule["threshold"]} for rule in served["rules"]}
    assert client.post(path, json={"rules": same}).json() == before
    label = served["class_names"][0]

    def count(threshold: float) -> int:
        rules = {label: {"threshold": threshold, "min_event_seconds": 0, "max_gap_seconds": 0}}
        events = client.post(path, json={"rules": rules}).json()["events"]
        others = [event for event in events if event["label"] != label]
        assert others == [event for event in before["events"] if event["label"] != label]
        return sum(event["label"] == label for event in events)

    assert count(0.0) >= 1
    assert count(1.0) == 0
    part = client.post(path, json={"rules": {label: {"threshold": 0}}, "start": 0, "end": 1e-6})
    assert all(event["onset"] < 1e-6 for event in part.json()["events"])
    long = client.post(path, json={"rules": {n: {"min_event_seconds": 99} for n in same}})
    assert long.json()["events"] == []


def test_curves(client: TestClient, first: str, name: str, model: Path, held_out: Scenes) -> None:
    track = load_recogniser(model).scores(held_out.audio / name)
    path = f"/api/recordings/{first}/analyses/model/curves"
    whole = client.get(path, params={"start": 0, "end": 1e6, "points": 8192}).json()
    np.testing.assert_allclose(whole["values"], track.probabilities.T, atol=6e-5)
    few = client.get(path, params={"start": 0, "end": 1e6, "points": 7}).json()
    assert max(map(len, few["values"])) <= 7
    size = round(few["step_seconds"] / whole["step_seconds"])
    slow = [
        max(row[start : start + size])
        for row in whole["values"]
        for start in range(0, len(row), size)
    ]
    assert np.ravel(few["values"]).tolist() == slow
    names = list(reversed(whole["class_names"]))[:2]
    two = client.get(path, params={"start": 0, "end": 9, "points": 8192, "label": names}).json()
    assert two["class_names"] == names
    assert two["values"] == [whole["values"][whole["class_names"].index(n)] for n in names]


def test_a_tone_is_where_it_sounds(model: Path, tmp_path: Path) -> None:
    times = np.arange(3 * 8000) / 8000
    tone = np.where((times >= 1) & (times < 2), 0.5 * np.sin(2 * np.pi * 1000 * times), 0)
    (tmp_path / "audio").mkdir()
    write(tmp_path / "audio/tone.wav", tone, 8000)
    with asked(model, [tmp_path / "audio"], tmp_path / "work") as client:
        recording = ids(client)["tone.wav"]
        about = client.get(f"/api/recordings/{recording}").json()
        assert about["high_hz"] == 4000
        path = f"/api/recordings/{recording}/spectrogram.png"
        size = {"width": 300, "height": 200}
        answer = client.get(path, params={"start": 0, "end": 6, **size})
        assert answer.headers["content-type"] == "image/png"
        picture = shades(answer.content)
        assert picture.shape == (200, 300)
        # 1 kHz is 15 mel of the 35.16 mel that 4 kHz is.
        row = 199 - round(200 * 15 / (15 + np.log(4) * 27 / np.log(6.4)) - 0.5)
        loud = np.flatnonzero(picture[row] > 128)
        assert loud.min() == pytest.approx(50, abs=3)
        assert loud.max() == pytest.approx(100, abs=3)
        assert np.abs(picture[:, 75].argmax() - row) <= 2
        assert (picture[:, 151:] == 0).all()
        part = shades(client.get(path, params={"start": 0.9, "end": 1.1, **size}).content)
        assert np.flatnonzero(part[row] > 128).min() == pytest.approx(150, abs=50)

        path = f"/api/recordings/{recording}/peaks"
        values = client.get(path, params={"start": 0, "end": 6, "points": 6}).json()["values"]
        assert values[2:4] == pytest.approx([-0.5, 0.5], abs=0.01)
        assert values[0:2] == pytest.approx([0, 0], abs=0.01)
        assert values[6:] == [0] * 6


def test_a_part_of_the_sound(client: TestClient, first: str, name: str, held_out: Scenes) -> None:
    path = f"/api/recordings/{first}/audio.wav"
    answer = client.get(path, params={"start": 0.5, "end": 1.5})
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        samples = np.frombuffer(file.readframes(1 << 20), np.int16) / 32768
    np.testing.assert_array_equal(samples, read(held_out.audio / name, 8000, 0.5, 1.5))
    for asked_for, expected in (
        ("bytes=0-9", answer.content[:10]),
        ("bytes=100-", answer.content[100:]),
        ("bytes=-7", answer.content[-7:]),
    ):
        part = client.get(path, params={"start": 0.5, "end": 1.5}, headers={"Range": asked_for})
        assert part.status_code == 206
        assert part.content == expected
        assert part.headers["content-range"].endswith(f"/{len(answer.content)}")
    endless = {"Range": f"bytes={'9' * 5000}-"}
    assert client.get(path, params={"start": 0.5, "end": 1.5}, headers=endless).status_code == 200
    late = {"start": 2 - 1e-7, "end": 3, "points": 2}
    assert client.get(path, params=late).is_success
    assert client.get(f"/api/recordings/{first}/peaks", params=late).is_success
    beyond = client.get(
        path, params={"start": 0.5, "end": 1.5}, headers={"Range": "bytes=9999999-"}
    )
    assert beyond.status_code == 416
    assert client.get(path, params={"start": 0, "end": 121}).status_code == 422


def test_a_browser_asks_whether_the_file_is_as_it_was(model: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", np.full(8000, 0.25), 8000)
    with asked(model, [tmp_path / "a.wav"], tmp_path / "work") as client:
        base = f"/api/recordings/{ids(client)['a.wav']}"
        size = {"start": 0, "end": 1, "width": 8, "height": 8}
        for look, query in (("audio.wav", {"start": 0, "end": 1}), ("spectrogram.png", size)):
            write(tmp_path / "a.wav", np.full(8000, 0.25), 8000)
            while "etag" not in (answer := client.get(f"{base}/{look}", params=query)).headers:
                assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["cache-control"] == "private, no-cache"
            known = {"If-None-Match": answer.headers["etag"]}
            again = client.get(f"{base}/{look}", params=query, headers=known)
            assert (again.status_code, again.content) == (304, b"")
            write(tmp_path / "a.wav", np.full(16000, 0.5), 8000)
            other = client.get(f"{base}/{look}", params=query, headers=known)
            assert other.status_code == 200
            assert other.headers["etag"] != answer.headers["etag"]
            assert other.content != answer.content or look == "spectrogram.png"


def test_shades_that_are_guessed_are_not_remembered(
    client: TestClient, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overviews = client.app.state.desk.overviews  # type: ignore[attr-defined]
    guessed = Picture(b"", lasting=False)
    monkeypatch.setattr(overviews, "spectrogram", lambda *_: guessed)
    size = {"start": 0, "end": 1, "width": 8, "height": 8}
    headers = client.get(f"/api/recordings/{first}/spectrogram.png", params=size).headers
    assert headers["cache-control"] == "no-store"
    assert "etag" not in headers


def test_a_review_goes_round(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    work = tmp_path / "work"
    with asked(model, [held_out.audio], work) as client:
        recording = next(iter(ids(client).values()))
        path = f"/api/recordings/{recording}/review"
        about = {"model": "model"}
        empty = client.get(path, params=about)
        assert empty.json() == {
            "events": [], "absent": [], "reviewed": [], "rules": {}, "version": 0
        }  # fmt: skip
        analysed(client, recording)
        answer = client.get(path, params=about)
        assert answer.headers["etag"] == '"0"'
        review = answer.json()
        assert review.pop("version") == 0
        found = client.post(f"/api/recordings/{recording}/analyses/model/events", json={}).json()
        fields = ("onset", "offset", "label", "score")
        assert [{f: event[f] for f in fields} for event in review["events"]] == found["events"]
        assert {event["state"] for event in review["events"]} <= {"detected"}
        review["events"].append(
            {"id": "mine", "onset": 0.25, "offset": 0.75, "label": "owl", "score": None,
             "state": "added"}
        )  # fmt: skip
        review["absent"].append({"label": "fox", "start": 0.0, "end": 1.0})
        review["reviewed"].append({"start": 0.0, "end": 1.0})
        review["rules"] = {found["tags"][0]["label"]: {"threshold": 0.25}}
        assert client.put(path, params=about, json=review).status_code == 428
        kept = client.put(path, params=about, json=review, headers={"If-Match": '"0"'})
        assert kept.json() == {"version": 1}
        late = client.put(path, params=about, json=review, headers={"If-Match": '"0"'})
        assert late.status_code == 409
        assert late.json()["version"] == 1
        assert client.get(path, params=about).json() == {**review, "version": 1}
    with asked(model, [held_out.audio], work) as client:
        assert client.get(path, params=about).json() == {**review, "version": 1}
        (one,) = [r for r in client.get("/api/recordings").json() if r["review_version"]]
        assert (one["id"], one["analysed"], one["reviewed"]) == (recording, ["model"], False)
        end = one["duration_seconds"]
        said = {"events": [], "reviewed": [{"start": 0, "end": end}]}
        client.put(path, params=about, json=said, headers={"If-Match": '"1"'})
        listed = client.get("/api/recordings").json()
        assert [r["id"] for r in listed if r["reviewed"]] == [recording]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"evnts": []}, "there is no 'evnts'"),
        ({"events": [{**OWL, "offset": 0}]}, "an event must end after its onset"),
        ({"events": [{**OWL, "label": ""}]}, "label"),
        ({"events": [{**OWL, "label": " owl"}]}, "label"),
        ({"events": [{**OWL, "state": "?"}]}, "state"),
        ({"events": [{**OWL, "score": 1.5}]}, "score"),
        ({"events": [OWL, OWL]}, "id of its own"),
        ({"reviewed": [{"start": 0, "end": 1000}]}, "the recording ends at 2 s"),
        ({"absent": [{"label": "a", "start": 2, "end": 1}]}, "a stretch must end after"),
        ({"rules": {"a": {"threshold": 2}}}, "at most 1"),
    ],
)
def test_a_review_that_is_wrong(
    client: TestClient, first: str, change: dict[str, object], reason: str
) -> None:
    path = f"/api/recordings/{first}/review"
    body = {"events": [], "absent": [], "reviewed": [], **change}
    answer = client.put(path, params={"model": "model"}, json=body, headers={"If-Match": "0"})
    assert answer.status_code == 422
    assert reason in answer.json()["error"]
    assert client.get(path, params={"model": "model"}).json()["version"] == 0


def test_the_queue_has_the_least_sure_first(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    with asked(model, [held_out.audio], tmp_path) as client:
        assert client.get("/api/queue", params={"model": "model"}).json() == []
        names = ids(client)
        for recording in names.values():
            analysed(client, recording)
        (served,) = client.get("/api/models").json()
        thresholds = {rule["label"]: rule["threshold"] for rule in served["rules"]}
        slow = []
        for name, recording in names.items():
            path = f"/api/recordings/{recording}/analyses/model/events"
            for event in client.post(path, json={}).json()["events"]:
                slow.append((abs(event["score"] - thresholds[event["label"]]), name))
        queue = client.get("/api/queue", params={"model": "model", "count": 500}).json()
        assert [(one["margin"], one["name"]) for one in queue] == sorted(slow)
        assert len(client.get("/api/queue", params={"model": "model", "count": 2}).json()) == 2

        surest = queue[0]
        path = f"/api/recordings/{surest['recording']}/review"
        review = client.get(path, params={"model": "model"}).json()
        del review["version"]
        for event in review["events"]:
            if event["id"] == surest["event"]["id"]:
                event["state"] = "confirmed"
        client.put(path, params={"model": "model"}, json=review, headers={"If-Match": '"0"'})
        after = client.get("/api/queue", params={"model": "model", "count": 500}).json()
        assert after == queue[1:]
        review["reviewed"] = [{"start": 0, "end": 2}]
        client.put(path, params={"model": "model"}, json=review, headers={"If-Match": '"1"'})
        after = client.get("/api/queue", params={"model": "model", "count": 500}).json()
        assert after == [one for one in queue if one["recording"] != surest["recording"]]


@pytest.mark.parametrize("format", EVENT_FORMATS)
def test_every_format_can_be_had(client: TestClient, first: str, name: str, format: str) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    path = f"/api/recordings/{first}/download"
    answer = client.get(path, params={"model": "model", "format": format})
    assert answer.status_code == 200, answer.text
    out = f"{Path(name).stem}{EVENT_FORMATS[format].suffix}"
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{out}"')
    assert len(answer.content) > 10


def test_raven_finds_the_recording(
    client: TestClient, first: str, name: str, held_out: Scenes
) -> None:
    about = {"model": "model", "format": "raven"}
    lines = client.get(f"/api/recordings/{first}/download", params=about).text.splitlines()
    header, *rows = (line.split("\t") for line in lines)
    paths = {row[header.index("Begin Path")] for row in rows}
    assert paths == {str((held_out.audio / name).resolve())}


def test_downloads_are_what_was_reviewed(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    with asked(model, [held_out.audio], tmp_path / "work") as client:
        name, recording = next(iter(ids(client).items()))
        path, about = f"/api/recordings/{recording}/review", {"model": "model"}
        events = [
            {"id": "1", "onset": 0.1, "offset": 0.6, "label": "owl", "state": "confirmed",
             "score": 0.5},
            {"id": "2", "onset": 0.7, "offset": 0.9, "label": "fox", "state": "deleted"},
            {"id": "3", "onset": 1.2, "offset": 1.4, "label": "fox", "state": "added"},
        ]  # fmt: skip
        review = {"events": events, "reviewed": [{"start": 0, "end": 1}]}
        assert client.put(path, params=about, json=review, headers={"If-Match": "0"}).is_success
        table = client.get(f"/api/recordings/{recording}/download", params=about).text
        assert table.splitlines() == [
            "filename,onset,offset,event_label,score",
            f"{name},0.100,0.600,owl,0.5000",
            f"{name},1.200,1.400,fox,",
        ]
        strong = tmp_path / "strong.tsv"
        strong.write_bytes(client.get("/api/labels", params={"kind": "strong"}).content)
        (row,) = read_labels(strong).rows
        assert [(e.onset_seconds, e.label) for e in row.events or ()] == [
            (0.1, "owl"),
            (1.2, "fox"),
        ]
        whole = client.get("/api/labels", params={"kind": "strong", "whole": True})
        assert whole.text == "filename\tonset\toffset\tevent_label\n"
        weak = client.get("/api/labels", params={"kind": "weak"}).text.splitlines()
        assert weak[0] == "filename\tonset\toffset\tevent_labels\tabsent_labels"
        absent = sorted(client.get("/api/models").json()[0]["class_names"])
        assert weak[1:] == [
            f"{name}\t0.000\t1.000\towl\t{','.join(absent)}",
            f"{name}\t0.700\t0.900\t\tfox",
            f"{name}\t1.200\t1.400\tfox\t",
        ]


def test_labels_are_of_one_recording_a_name(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    """A review of what had a name before says nothing of what has it now."""
    one, other = sorted(held_out.audio.iterdir())[:2]
    audio, work = tmp_path / "audio", tmp_path / "work"
    audio.mkdir()
    for content, event in ((one, OWL), (other, {**OWL, "offset": 0.5})):
        (audio / "a.flac").write_bytes(content.read_bytes())
        with asked(model, [audio], work) as client:
            path = f"/api/recordings/{ids(client)['a.flac']}/review"
            about = {"params": {"model": "model"}, "headers": {"If-Match": "0"}}
            assert client.put(path, json={"events": [event]}, **about).is_success
            labels = client.get("/api/labels", params={"kind": "strong"}).text
            assert labels.splitlines()[1:] == [f"a.flac\t0.000\t{event['offset']:.3f}\towl"]
    # What is sent under a name that is taken has another one, also when it comes again.
    with asked(model, [audio], work) as client:
        sent = client.post("/api/recordings", files={"file": ("a.flac", one.read_bytes())}).json()
        path = f"/api/recordings/{sent['id']}/review"
        assert client.put(path, json={"events": [OWL]}, **about).is_success
    (audio / "a.flac").rename(audio / "a (2).flac")
    with asked(model, [audio], work) as client:
        client.post("/api/recordings", files={"file": ("a.flac", one.read_bytes())})
        labels = client.get("/api/labels", params={"kind": "strong"}).text
        assert labels.splitlines()[1:] == ["a.flac\t0.000\t1.000\towl"]


def test_a_damaged_review_is_of_one_recording(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    with asked(model, [held_out.audio], tmp_path) as client:
        recording = next(iter(ids(client).values()))
        about = {"params": {"model": "model"}, "headers": {"If-Match": "0"}}
        review = f"/api/recordings/{recording}/review"
        assert client.put(review, json={"events": [OWL]}, **about).is_success
        (file,) = (tmp_path / "reviews").glob("*.json")
        file.write_text("{")
        first, *others = client.get("/api/recordings").json()
        assert "move the file away" in first["error"]
        assert first["duration_seconds"] == pytest.approx(2)
        assert client.get(f"/api/recordings/{recording}").json() == first
        assert [one["error"] for one in others] == [None] * len(others)
        assert client.get("/api/queue", params={"model": "model"}).is_success
        assert client.put(review, json={"events": [OWL]}, **about).status_code == 422
        file.unlink()
        assert client.get(f"/api/recordings/{recording}").json()["error"] is None
        assert client.put(review, json={"events": [OWL]}, **about).json() == {"version": 1}


def show_at_most(monkeypatch: pytest.MonkeyPatch, events: int) -> None:
    for module in ("server", "desk"):
        monkeypatch.setattr(f"earmark.web.{module}.MOST_FOUND", events)


def test_what_is_not_shown_is_not_reviewed(
    client: TestClient, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_at_most(monkeypatch, 2)
    base = f"/api/recordings/{first}"
    label = client.get("/api/models").json()[0]["class_names"][0]
    rules = {label: {"threshold": 0.0, "min_event_seconds": 0, "max_gap_seconds": 0}}
    for name in client.get("/api/models").json()[0]["class_names"]:
        rules[name] = rules[label]
    found = client.post(f"{base}/analyses/model/events", json={"rules": rules}).json()
    assert len(found["events"]) == 2 < found["total"]
    about = {"params": {"model": "model"}, "headers": {"If-Match": "0"}}
    said = {"rules": rules, "reviewed": [{"start": 0, "end": 2}]}
    refused = client.put(f"{base}/review", json=said, **about)
    assert refused.status_code == 422
    assert f"the first 2 of {found['total']} events" in refused.json()["error"]
    show_at_most(monkeypatch, found["total"])
    assert client.put(f"{base}/review", json=said, **about).is_success
    # What was reviewed under other rules stays.
    show_at_most(monkeypatch, 2)
    about["headers"] = {"If-Match": "1"}
    assert client.put(f"{base}/review", json=said, **about).is_success
    # Nor is it lost from the table.
    table = client.get(f"{base}/download", params={"model": "model"}).text.splitlines()
    assert len(table) - 1 == found["total"] - 2
    client.app.state.desk.reviews.remove(first)  # type: ignore[attr-defined]


def test_what_is_said_of_a_recording_that_goes(
    model: Path, held_out: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asked(model, [], tmp_path) as client:
        sound = next(iter(held_out.audio.iterdir())).read_bytes()
        sent = client.post("/api/recordings", files={"file": ("a.flac", sound)}).json()
        path = f"/api/recordings/{sent['id']}"
        reviews = client.app.state.desk.reviews  # type: ignore[attr-defined]
        put = reviews.put

        def late(*arguments: object) -> int:
            assert client.delete(path).status_code == 204
            return int(put(*arguments))

        monkeypatch.setattr(reviews, "put", late)
        about = {"params": {"model": "model"}, "headers": {"If-Match": "0"}}
        assert client.put(f"{path}/review", json={"events": [OWL]}, **about).status_code == 404
        assert list((tmp_path / "reviews").iterdir()) == []


def test_nothing_is_begun_with_a_recording_that_goes(
    model: Path, held_out: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asked(model, [], tmp_path) as client:
        sound = next(iter(held_out.audio.iterdir())).read_bytes()
        sent = client.post("/api/recordings", files={"file": ("a.flac", sound)}).json()
        desk = client.app.state.desk  # type: ignore[attr-defined]
        cancel, left = desk.jobs.cancel_recording, list[str]()

        def late(recording: str) -> None:
            cancel(recording)
            ended(client, desk.jobs.submit(recording, "model").id)
            left.extend(path.name for path in (tmp_path / "uploads" / recording).iterdir())

        monkeypatch.setattr(desk.jobs, "cancel_recording", late)
        assert client.delete(f"/api/recordings/{sent['id']}").status_code == 204
        assert left == ["audio.flac"]
        assert list((tmp_path / "uploads").iterdir()) == []


def test_uploads(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    work = tmp_path / "work"
    sound = sorted(held_out.audio.iterdir())[0]
    limits = Limits(uploads=2, upload_seconds=3.0)
    with asked(model, [], work, limits=limits) as client:
        assert client.get("/api/recordings").json() == []

        def send(name: str, content: bytes) -> "object":
            return client.post("/api/recordings", files={"file": (name, content)})

        answer = send("../../etc/owl.flac", sound.read_bytes())
        assert answer.status_code == 201
        recording = answer.json()
        assert recording["name"] == "owl.flac"
        assert recording["uploaded"]
        assert recording["duration_seconds"] == pytest.approx(2)
        again = send("other.flac", sound.read_bytes())
        assert again.json() == recording
        analysed(client, recording["id"])
        assert client.get(
            f"/api/recordings/{recording['id']}/audio.wav", params={"start": 0, "end": 1}
        ).is_success

        broken = send("broken.wav", b"RIFF but no more")
        assert broken.status_code == 422
        assert broken.json()["error"].startswith("broken.wav: ")
        assert str(work) not in broken.text
        write(tmp_path / "long.wav", np.zeros(4 * 8000), 8000)
        long = send("long.wav", (tmp_path / "long.wav").read_bytes())
        assert long.status_code == 422
        assert "may last" in long.json()["error"]
        assert list(ids(client).values()) == [recording["id"]]
        assert len(list((work / "uploads").iterdir())) == 1

        other = tmp_path / "other.wav"
        write(other, np.full(8000, 0.25), 8000)
        second = send("owl.flac", other.read_bytes()).json()
        assert second["name"] == "owl (2).flac"
        full = send("third.flac", sorted(held_out.audio.iterdir())[1].read_bytes())
        assert full.status_code == 503
        assert "retry-after" in full.headers
        assert client.delete(f"/api/recordings/{second['id']}").status_code == 204
        assert client.get(f"/api/recordings/{second['id']}").status_code == 404
        assert send("third.flac", sorted(held_out.audio.iterdir())[1].read_bytes()).is_success
    assert not (work / "uploads").exists()


def test_what_cannot_be_done(client: TestClient, first: str, held_out: Scenes) -> None:
    other = next(r["id"] for r in client.get("/api/recordings").json() if not r["analysed"])
    nobody = "0" * 32
    base = f"/api/recordings/{first}"
    span = {"start": 0, "end": 1, "points": 10}
    for status, method, path, arguments in (
        (404, "GET", f"/api/recordings/{nobody}", {}),
        (404, "GET", "/api/recordings/..%2f..%2fetc%2fpasswd", {}),
        (404, "GET", "/api/nothing", {}),
        (404, "GET", "/api/jobs/1", {}),
        (404, "DELETE", "/api/jobs/1", {}),
        (405, "DELETE", "/api/models", {}),
        (409, "DELETE", base, {}),
        (404, "POST", f"{base}/analyses", {"json": {"model": "no"}}),
        (422, "POST", f"{base}/analyses", {"json": {"modle": "model"}}),
        (409, "GET", f"/api/recordings/{other}/analyses/model/curves", {"params": span}),
        (409, "POST", f"/api/recordings/{other}/analyses/model/events", {"json": {}}),
        (422, "POST", f"{base}/analyses/model/events", {"json": {"rules": {"no": {}}}}),
        (422, "POST", f"{base}/analyses/model/events", {"json": {"start": 2, "end": 1}}),
        (422, "GET", f"{base}/peaks", {"params": {**span, "end": "nan"}}),
        (422, "GET", f"{base}/peaks", {"params": {**span, "start": 1}}),
        (422, "GET", f"{base}/peaks", {"params": {"start": 50, "end": 60, "points": 1}}),
        (422, "GET", f"{base}/peaks", {"params": {**span, "points": 10**9}}),
        (422, "GET", f"{base}/download", {"params": {"model": "model", "format": "exe"}}),
        (422, "GET", "/api/labels", {"params": {"kind": "exe"}}),
        (422, "POST", "/api/recordings", {"data": {"file": "text"}}),
    ):  # fmt: skip
        answer = client.request(method, path, **arguments)
        assert answer.status_code == status, (method, path, answer.text)
        assert list(answer.json()) == ["error"]
        assert "\n" not in answer.json()["error"]
        assert str(held_out.folder) not in answer.text


def test_a_file_that_broke_or_went(model: Path, held_out: Scenes, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    (audio / "bad.wav").write_bytes(b"RIFF")
    good = sorted(held_out.audio.iterdir())[0]
    (audio / "good.flac").write_bytes(good.read_bytes())
    with asked(model, [audio], tmp_path / "work") as client:
        bad, whole = client.get("/api/recordings").json()
        assert bad["duration_seconds"] is None
        assert bad["error"].startswith("bad.wav: can't be read as audio")
        for path, arguments in (
            ("analyses", {"method": "POST", "json": {"model": "model"}}),
            ("peaks", {"method": "GET", "params": {"start": 0, "end": 1, "points": 1}}),
        ):
            answer = client.request(url=f"/api/recordings/{bad['id']}/{path}", **arguments)
            assert answer.status_code == 422
            assert str(tmp_path) not in answer.text
        (audio / "good.flac").unlink()
        job = client.post(f"/api/recordings/{whole['id']}/analyses", json={"model": "model"})
        state = ended(client, job.json()["job"])
        assert state["state"] == "failed"
        assert state["error"] == "good.flac: the recording is no longer there"
        assert [r["name"] for r in client.get("/api/recordings").json()] == ["bad.wav", "good.flac"]
        assert client.get("/api/queue", params={"model": "model"}).json() == []
        # What replaces the file is nothing that anybody gave.
        (tmp_path / "secret.flac").write_bytes(good.read_bytes())
        (audio / "good.flac").symlink_to(tmp_path / "secret.flac")
        answer = client.get(
            f"/api/recordings/{whole['id']}/audio.wav", params={"start": 0, "end": 1}
        )
        assert answer.status_code == 422
        assert answer.json()["error"] == "good.flac: the recording is no longer there"


def test_a_recording_that_changed_is_analysed_anew(
    model: Path, held_out: Scenes, tmp_path: Path
) -> None:
    one, other = sorted(held_out.audio.iterdir())[:2]
    recording = tmp_path / "a.flac"
    recording.write_bytes(one.read_bytes())
    with asked(model, [recording], tmp_path / "work") as client:
        (found,) = ids(client).values()
        analysed(client, found)
        path = f"/api/recordings/{found}/analyses/model/events"
        assert client.post(path, json={}).is_success
        recording.write_bytes(other.read_bytes())
        assert client.post(path, json={}).status_code == 409
        analysed(client, found)
        events = [(e["onset"], e["label"]) for e in client.post(path, json={}).json()["events"]]
        expected = load_recogniser(model).detect(other)
        assert events == [(e.onset_seconds, e.label) for e in expected]


def test_the_interface_describes_itself(client: TestClient) -> None:
    schema = client.get("/api/openapi.json").json()
    assert "/api/recordings/{recording}/review" in schema["paths"]
    assert client.get("/docs").status_code == 404
    assert "http" not in json.dumps(schema["paths"])


def test_the_page(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert client.get("/static/style.css").headers["cache-control"] == "no-cache"
    for path in ("/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py"):
        assert client.get(path).status_code == 404
