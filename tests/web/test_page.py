"""The page of ``earmark serve`` in a real browser: what people do, and what may go wrong."""

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from browsers import Served, Visitor, chromium, needs_chromium, playwright, times
from conftest import scenes

import earmark
from earmark.audio import write

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe isn't installed")

pytestmark = [needs_chromium, pytest.mark.slow]
expect = playwright.expect
LONG = "long.flac"


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of some seconds, one a test, so that reviews don't meet; one of an hour."""
    folder = scenes(tmp_path_factory.mktemp("served"), 16, seed=5, seconds=6).audio
    generator = np.random.default_rng(1)
    noise = generator.normal(0, 0.01, 8000 * 60).astype(np.float32)
    write(folder / LONG, np.tile(noise, 60), 8000)
    return folder


@pytest.fixture(scope="module")
def eventful(model: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with rules under which every class has events, whatever it learnt."""
    folder = tmp_path_factory.mktemp("eventful") / "model"
    shutil.copytree(model, folder)
    recogniser = earmark.load(model)
    names = sorted(path for path in audio.iterdir() if path.name != LONG)
    seen = np.concatenate([recogniser.scores(path).probabilities for path in names[:4]])
    kept = json.loads((folder / "model.json").read_text())
    for rule, threshold in zip(kept["decoding"], np.quantile(seen, 0.75, axis=0), strict=True):
        rule.update(threshold=float(threshold), low_threshold=float(threshold))
        rule.update(tag_threshold=0.0, gate_threshold=0.0, max_gap_seconds=0.2)
        rule.update(min_event_seconds=0.1)
    (folder / "model.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture(scope="module")
def served(
    eventful: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    served = Served(eventful, audio, tmp_path_factory.mktemp("work") / "reviews")
    served.start()
    yield served
    served.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def unused(audio: Path) -> Iterator[str]:
    """Names of recordings, each given once."""
    return iter(sorted(path.name for path in audio.iterdir() if path.name != LONG))


@pytest.fixture
def name(unused: Iterator[str]) -> str:
    """A recording that no other test touches."""
    return next(unused)


@pytest.fixture
def visitors(browser: Any, served: Served) -> Iterator[list[Visitor]]:
    """Whoever came; nothing may have gone wrong for them, and nobody was sent elsewhere."""
    came: list[Visitor] = []
    yield came
    for visitor in came:
        visitor.page.context.close()
        assert not visitor.faults
        strangers = [url for url in visitor.requests if not url.startswith((served.url, "blob:"))]
        assert not strangers


def come(browser: Any, served: Served, visitors: list[Visitor], **options: Any) -> Visitor:
    context = browser.new_context(**{"viewport": {"width": 1300, "height": 900}, **options})
    context.set_default_timeout(30_000)
    visitors.append(Visitor(context.new_page(), served))
    return visitors[-1]


@pytest.fixture
def mortal(served: Served) -> Iterator[Served]:
    """The server for a test that kills it: the next one finds it alive."""
    yield served
    served.revive()


@pytest.fixture
def visitor(browser: Any, served: Served, visitors: list[Visitor]) -> Visitor:
    return come(browser, served, visitors)


def label_with_events(visitor: Visitor) -> str:
    """A class with an event that is wide enough to take by its edges."""
    for event in visitor.page.locator(".lane .event").all():
        if event.bounding_box()["width"] > 60:
            return str(event.get_attribute("aria-label")).split(",")[0]
    raise AssertionError("no event is wide enough")


def test_a_dropped_file_is_heard_and_shown(visitor: Visitor, tmp_path: Path) -> None:
    dropped = next(scenes(tmp_path, 1, seed=77, seconds=5).audio.iterdir())
    visitor.open()
    page = visitor.page
    transfer = page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "Früh & <b>spät.flac"));
            return transfer;
        }""",
        list(dropped.read_bytes()),
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    visitor.await_events()
    # Its name is a text, whatever marks it holds.
    expect(page.locator("#name")).to_have_text("Früh & <b>spät.flac")
    expect(page.locator("#about")).to_contain_text("5 s")
    expect(page.locator("#recordings [aria-current=true]")).to_contain_text("Früh")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove Früh & <b>spät.flac").click()
    expect(page.locator("#empty")).to_be_visible()
    assert not any(row["uploaded"] for row in visitor.served.get("/recordings"))


def test_a_file_that_is_no_sound_is_refused_in_words(visitor: Visitor, tmp_path: Path) -> None:
    broken = tmp_path / "notes.wav"
    broken.write_text("no sound")
    visitor.open()
    visitor.page.set_input_files("#files", broken)
    expect(visitor.page.locator("#alerts")).to_contain_text("notes.wav")
    visitor.page.get_by_role("button", name="Dismiss").click()
    expect(visitor.page.locator("#alerts p")).to_have_count(0)
    # The browser itself tells of every answer that refuses.
    visitor.faults = [fault for fault in visitor.faults if "Failed to load" not in fault]


def test_events_follow_a_threshold_and_survive_a_reload(visitor: Visitor, name: str) -> None:
    visitor.open(name)
    page, label = visitor.page, label_with_events(visitor)
    before = visitor.count(label)
    slider = visitor.lane(label).get_by_label("Threshold")
    slider.focus()
    page.keyboard.press("End")
    expect(visitor.lane(label).locator(".count")).to_have_text("0 events")
    visitor.kept()
    assert visitor.served.review(name)["rules"] == {label: {"threshold": 1.0}}
    page.reload()
    expect(visitor.lane(label).locator(".count")).to_have_text("0 events")
    expect(slider).to_have_value("1")
    visitor.lane(label).get_by_role("button", name="Reset").click()
    expect(visitor.lane(label).locator(".count")).to_contain_text(str(before))
    assert slider.input_value() != "1"
    # A longer shortest length leaves fewer, never more.
    shortest = visitor.lane(label).get_by_label("Shortest")
    shortest.focus()
    page.keyboard.press("End")
    visitor.said("Other rules")
    assert visitor.count(label) <= before


def test_an_edge_is_dragged_undone_and_done_again(visitor: Visitor, name: str) -> None:
    visitor.open(name)
    page, label = visitor.page, label_with_events(visitor)
    event = next(e for e in visitor.events(label).all() if e.bounding_box()["width"] > 60)
    id_ = event.get_attribute("data-event")
    onset, offset = times(event.get_attribute("aria-label"))
    event.scroll_into_view_if_needed()
    box = event.bounding_box()
    row = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 2, row)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 15, row)
    page.mouse.move(box["x"] + box["width"] - 32, row)
    page.mouse.up()
    visitor.said("now")
    visitor.kept()
    seconds = 30 / page.locator("#spectrogram").bounding_box()["width"] * 6

    def kept() -> dict[str, Any]:
        return next(e for e in visitor.served.review(name)["events"] if e["id"] == id_)

    moved = kept()
    assert moved["state"] == "corrected"
    assert moved["onset"] == pytest.approx(onset, abs=0.01)
    assert moved["offset"] == pytest.approx(offset - seconds, abs=0.05)
    page.keyboard.press("Control+z")
    visitor.said("Undone")
    visitor.kept()
    assert kept()["state"] == "detected"
    page.keyboard.press("Control+Shift+z")
    visitor.said("Done again")
    visitor.kept()
    assert kept() == moved


def test_an_event_is_added_given_another_class_and_deleted(visitor: Visitor, name: str) -> None:
    visitor.open(name)
    page = visitor.page
    first, other = page.locator(".lane h3").all_inner_texts()[:2]
    count, other_count = visitor.count(first), visitor.count(other)
    box = visitor.lane(first).locator(".lane-body").bounding_box()
    row = box["y"] + box["height"] - 15
    page.mouse.move(box["x"] + 0.5 * box["width"], row)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.55 * box["width"], row)
    page.mouse.move(box["x"] + 0.6 * box["width"], row)
    page.mouse.up()
    visitor.said(f"{first} added".capitalize())
    assert visitor.count(first) == count + 1
    visitor.kept()
    added = next(e for e in visitor.served.review(name)["events"] if e["state"] == "added")
    assert (added["onset"], added["offset"]) == pytest.approx((3.0, 3.6), abs=0.02)
    page.locator("#event-class").select_option(other)
    visitor.said(f"now {other}")
    assert (visitor.count(first), visitor.count(other)) == (count, other_count + 1)
    for typed in ("0:00", "seven"):
        page.locator("#event-end").fill(typed)
        page.locator("#event-end").press("Enter")
        expect(page.locator("#time-wrong")).to_be_in_viewport()
        expect(page.locator("#time-wrong")).to_contain_text(f"“{typed}” is no")
        expect(page.locator("#event-end")).to_have_value(f"0:{added['offset']:06.3f}")
    page.locator("#event-end").fill("0:03.9")
    page.locator("#event-end").press("Enter")
    expect(page.locator("#time-wrong")).to_be_hidden()
    expect(page.locator(f"[data-event='{added['id']}']")).to_be_focused()
    visitor.press("n")
    visitor.said("deleted")
    assert visitor.count(other) == other_count
    visitor.kept()
    assert not any(e["state"] == "added" for e in visitor.served.review(name)["events"])


def test_all_can_be_done_with_keys_alone(visitor: Visitor, name: str) -> None:
    visitor.open()
    page = visitor.page
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.title") == name:
            break
    page.keyboard.press("Enter")
    visitor.await_events()
    visitor.press("ArrowRight")
    chosen = page.evaluate("document.activeElement.dataset.event")
    event = next(e for e in visitor.served.review(name)["events"] if e["id"] == chosen)
    visitor.press("Tab", "ArrowRight", "Shift+ArrowRight", "Tab", "ArrowRight", "Shift+Tab")
    visitor.kept()
    hop = visitor.served.get("/models")[0]["hop_seconds"]
    moved = next(e for e in visitor.served.review(name)["events"] if e["id"] == chosen)
    assert moved["state"] == "corrected"
    assert moved["onset"] == pytest.approx(event["onset"] + 11 * hop, abs=0.003) or (
        # A short event stops its start before its end.
        moved["onset"] == pytest.approx(event["offset"] - 0.01, abs=0.003)
    )
    assert moved["offset"] == pytest.approx(event["offset"] + hop, abs=0.003)
    visitor.press("ArrowRight") if page.evaluate("document.activeElement.matches('.event')") else (
        visitor.press("Shift+Tab", "ArrowRight")
    )
    visitor.press("y")
    visitor.said("confirmed")
    visitor.press("Home", "a")
    visitor.said("added at 0:00")
    visitor.press("1", ".", ".", "e", "Home", "i", ".", ".", "o", "r")
    visitor.said("reviewed")
    visitor.press("Escape", "Escape")
    visitor.said("whole recording")
    visitor.press("?")
    expect(page.locator("#help")).to_be_visible()
    visitor.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    visitor.kept()
    review = visitor.served.review(name)
    states = [e["state"] for e in review["events"]]
    assert {"corrected", "confirmed", "added"} <= set(states)
    (reviewed,) = review["reviewed"]
    assert reviewed["start"] == 0
    page.locator("#format").focus()
    with page.expect_download() as download:
        visitor.press("Tab", "Enter")
    lines = download.value.path().read_text().splitlines()
    assert lines[0].startswith("filename,onset,offset,event_label")
    assert len(lines) - 1 == len(states) - states.count("deleted")
    page.reload()
    visitor.await_events()
    assert visitor.served.review(name) == review


def test_arrow_keys_go_through_the_events_in_time(visitor: Visitor, name: str) -> None:
    visitor.open(name)
    page = visitor.page
    onsets = sorted(e["onset"] for e in visitor.served.review(name)["events"])
    met = []
    for _ in onsets:
        visitor.press("ArrowRight")
        met.append(times(page.evaluate("document.activeElement.ariaLabel"))[0])
    assert met == pytest.approx(onsets, abs=0.006)
    # Whoever leaves with Tab comes back to the same event, and to no other.
    assert page.locator(".event[tabindex='0']").count() == 1
    visitor.press("ArrowUp")
    above = page.evaluate("document.activeElement.closest('section').innerText")
    visitor.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('section').innerText") != above
    # Single keys can be switched off; those with Ctrl stay.
    visitor.press("?")
    page.get_by_label("Single keys do something").uncheck()
    page.get_by_role("button", name="Close").click()
    visitor.press("n", "a")
    assert len(visitor.served.review(name)["events"]) == len(onsets)
    assert visitor.served.review(name)["version"] == 0


def test_what_is_absent_is_said_of_a_stretch(visitor: Visitor, name: str) -> None:
    visitor.open(name)
    page, label = visitor.page, label_with_events(visitor)
    box = page.locator("#spectrogram").bounding_box()
    row = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.1 * box["width"], row)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], row)
    page.mouse.move(box["x"] + 0.5 * box["width"], row)
    page.mouse.up()
    expect(page.locator("#stretch-words")).to_have_text("0:00.6 to 0:03.0")
    box_here = visitor.lane(label).get_by_role("checkbox")
    box_here.check()
    visitor.said(f"No {label} in 0:00.6 to 0:03.0")
    visitor.kept()
    review = visitor.served.review(name)
    (absent,) = review["absent"]
    assert (absent["label"], absent["start"], absent["end"]) == (
        label,
        pytest.approx(0.6, abs=0.02),
        pytest.approx(3.0, abs=0.02),
    )
    for event in review["events"]:
        inside = event["onset"] < absent["end"] and event["offset"] > absent["start"]
        if event["label"] == label and inside:
            assert event["state"] == "deleted"
    page.get_by_role("button", name="Whole", exact=True).click()
    expect(box_here).to_be_checked(indeterminate=True)
    rows = visitor.served.get("/labels", kind="weak").splitlines()
    columns = rows[0].split("\t")
    assert any(
        row.split("\t")[columns.index("filename")] == name
        and label in row.split("\t")[columns.index("absent_labels")]
        for row in rows[1:]
    )
    # What somebody confirmed is not denied by a tick.
    page.locator("#reviewed").click()
    confirmed = [e for e in visitor.served.review(name)["events"] if e["state"] == "confirmed"]
    visitor.kept()
    other = next(
        lane
        for lane in page.locator(".lane h3").all_inner_texts()
        if lane != label and visitor.count(lane)
    )
    visitor.lane(other).get_by_role("checkbox").click()
    visitor.said("that you confirmed")
    expect(visitor.lane(other).get_by_role("checkbox")).not_to_be_checked()
    assert (
        confirmed == [e for e in visitor.served.review(name)["events"] if e["state"] == "confirmed"]
        or not confirmed
    )


def test_the_queue_asks_for_the_least_sure_first(visitor: Visitor, name: str) -> None:
    visitor.open(name)
    page = visitor.page
    rows = visitor.served.get("/queue", model="model", count=5)
    page.get_by_role("button", name="Ask me").click()
    answers = {"y": "confirmed", "n": "deleted", "q": "detected"}
    for key, row in zip(answers, rows, strict=False):
        expect(page.locator("#inspector-title")).to_contain_text(
            f"Is this {row['event']['label']}?"
        )
        expect(page.locator(f"[data-event='{row['event']['id']}']")).to_be_focused()
        visitor.press(key)
    expect(page.locator("#inspector-title")).to_contain_text("question 4")
    page.wait_for_function("!document.getElementById('kept').textContent.startsWith('Keeping')")
    for (_, state), row in zip(answers.items(), rows, strict=False):
        path = f"/recordings/{row['recording']}/review"
        events = visitor.served.get(path, model="model")["events"]
        assert next(e for e in events if e["id"] == row["event"]["id"])["state"] == state
    page.get_by_role("button", name="Stop asking").click()
    expect(page.locator("#queue-next")).to_be_hidden()


def test_the_queue_waits_for_what_is_not_analysed(
    eventful: Path, audio: Path, tmp_path: Path, browser: Any
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(path for path in audio.iterdir() if path.name != LONG)[:2]:
        shutil.copy(path, few)
    fresh = Served(eventful, few, tmp_path / "reviews")
    fresh.start()
    try:
        visitor = Visitor(browser.new_page(), fresh)
        visitor.open()
        words = visitor.page.locator("#queue-words")
        visitor.page.get_by_role("button", name="Ask me").click()
        expect(words).to_contain_text(re.compile("(2 recordings are|1 recording is) still being"))
        expect(words).to_be_in_viewport()
        expect(words).to_contain_text("All recordings are analysed", timeout=60_000)
        visitor.page.get_by_role("button", name="Ask me").click()
        expect(visitor.page.locator("#inspector-title")).to_contain_text("question 1")
        visitor.page.close()
        assert not visitor.faults
    finally:
        fresh.kill()


def test_an_event_plays_and_stops(visitor: Visitor, name: str) -> None:
    visitor.open(name)
    page = visitor.page
    visitor.press("ArrowRight")
    onset, offset = times(page.evaluate("document.activeElement.ariaLabel"))
    seen = page.evaluate(
        """() => new Promise((resolve) => {
            const times = [];
            const read = () => {
                const [minutes, seconds] = document.getElementById("cursor-time").textContent
                    .split(" ")[0].split(":").map(Number);
                times.push(60 * minutes + seconds);
                if (document.getElementById("play-words").textContent === "Play") resolve(times);
                else requestAnimationFrame(read);
            };
            document.getElementById("event-play").click();
            requestAnimationFrame(read);
        })"""
    )
    assert min(seen) == pytest.approx(onset, abs=0.02)
    assert onset < max(seen) <= offset + 0.02
    assert seen[-1] == pytest.approx(onset, abs=0.02)
    parts = [url for url in visitor.requests if "audio.wav" in url]
    assert parts
    # From anywhere: a click sets the cursor, Space plays from there.
    box = page.locator("#spectrogram").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 50)
    visitor.press("Space")
    expect(page.locator("#play-words")).to_have_text("Stop")
    page.wait_for_timeout(300)
    visitor.press("Space")
    seconds = float(page.locator("#cursor-time").inner_text().split(" ")[0].split(":")[1])
    assert 4.8 <= seconds <= 6


def test_an_hour_loads_in_parts(visitor: Visitor) -> None:
    served = visitor.served
    id_ = served.recording(LONG)["id"]
    page = visitor.page
    page.goto(f"{served.url}/#recording={id_}&model=model")
    # Once it is stopped, and begun again: what is done can wait.
    page.wait_for_selector("#job-cancel:visible")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-words")).to_contain_text("cancelled")
    page.get_by_role("button", name="Find sounds", exact=True).click()
    page.wait_for_selector("#add:not(:disabled)", timeout=300_000)
    page.wait_for_timeout(1000)
    assert page.locator(".event").count() <= 1000
    assert visitor.bytes < 6_000_000, "the page of an hour"
    opened = visitor.bytes
    for _ in range(9):
        visitor.press("+")
        page.wait_for_timeout(150)
    visitor.press("PageDown", "PageDown", "Space")
    page.wait_for_timeout(800)
    visitor.press("Space")
    assert visitor.bytes - opened < 6_000_000, "a look from near"
    spans = [
        float(httpx.URL(url).params["end"]) - float(httpx.URL(url).params["start"])
        for url in visitor.requests
        if "audio.wav" in url
    ]
    assert spans
    assert max(spans) <= 30
    # The server reads a long recording for its picture first; until then it asks to come again.
    visitor.faults = [fault for fault in visitor.faults if "503" not in fault]


def test_nothing_is_lost_when_the_server_dies(mortal: Served, visitor: Visitor, name: str) -> None:
    visitor.open(name)
    served, page = mortal, visitor.page
    visitor.press("ArrowRight")
    served.kill()
    visitor.press("y", "Home", "a")
    expect(page.locator("#kept")).to_contain_text("Not kept yet")
    expect(page.locator("#alerts")).to_contain_text("does not answer")
    served.start()
    expect(page.locator("#alerts p")).to_have_count(0, timeout=30_000)
    visitor.kept()
    states = {e["state"] for e in served.review(name)["events"]}
    assert {"confirmed", "added"} <= states
    # A browser that is closed meanwhile still has it the next time.
    served.kill()
    visitor.press("n")
    expect(page.locator("#kept")).to_contain_text("Not kept yet")
    deleted = served.review
    page.close(run_before_unload=False)
    served.start()
    assert "added" in {e["state"] for e in deleted(name)["events"]}
    again = Visitor(page.context.new_page(), served)
    again.open(name)
    again.said("events in")
    again.page.wait_for_function("document.getElementById('kept').textContent.includes('kept')")
    again.kept()
    assert "added" not in {e["state"] for e in served.review(name)["events"]}
    visitor.faults = [fault for fault in visitor.faults if "ERR_CONNECTION" not in fault]
    assert not again.faults


def test_what_is_not_kept_is_not_saved(visitor: Visitor, name: str) -> None:
    visitor.open(name)
    page = visitor.page
    refusal = {"status": 422, "json": {"error": "there is no room"}}
    page.route(
        "**/review?*",
        lambda route: (
            route.fulfill(**refusal) if route.request.method == "PUT" else route.continue_()
        ),
    )
    visitor.press("Home", "a")
    expect(page.locator("#kept")).to_have_text("Not kept")
    expect(page.locator("#alerts")).to_contain_text("there is no room")
    page.locator("#download").click()
    expect(page.locator("#alerts")).to_contain_text(
        f"Not saved, as the last decisions about {name} are not kept"
    )
    page.unroute("**/review?*")
    visitor.press("a")
    visitor.kept()
    with page.expect_download():
        page.locator("#download").click()
    visitor.faults = [fault for fault in visitor.faults if "422" not in fault]


@pytest.mark.parametrize("mine", [True, False])
def test_two_pages_do_not_overwrite_each_other(
    visitor: Visitor, browser: Any, visitors: list[Visitor], name: str, mine: bool
) -> None:
    served = visitor.served
    visitor.open(name)
    other = come(browser, served, visitors)
    other.open(name)
    visitor.press("Home", "a")
    visitor.kept()
    visitor.said("added")
    theirs = served.review(name)
    other.press("ArrowRight", "y")
    expect(other.page.locator("#conflict")).to_be_visible()
    assert served.review(name) == theirs
    # Nobody leaves without a choice: Chromium closes it on Escape at the second time.
    other.press("Escape", "Escape", "Escape")
    expect(other.page.locator("#conflict")).to_be_visible()
    # It is asked about this recording alone, and asked again.
    here = other.page.url
    rows = served.get("/recordings")
    away = next(row["id"] for row in rows if row["name"] not in (name, LONG))
    other.page.evaluate("(id) => (location.hash = `recording=${id}`)", away)
    expect(other.page.locator("#conflict")).to_be_hidden()
    other.await_events()
    other.page.evaluate("(url) => (location.href = url)", here)
    expect(other.page.locator("#conflict")).to_be_visible()
    expect(other.page.locator("#kept")).to_have_attribute("data-state", "conflict")
    choice = "This page's" if mine else "The kept one"
    other.page.get_by_role("button", name=choice).click()
    other.kept()
    states = {e["state"] for e in served.review(name)["events"]}
    assert ("added" in states) is not mine
    assert ("confirmed" in states) is mine
    other.faults = [fault for fault in other.faults if "409" not in fault]


def test_a_telephone_has_room_for_it(
    browser: Any, served: Served, visitors: list[Visitor], name: str
) -> None:
    small = {"width": 360, "height": 640}
    visitor = come(browser, served, visitors, viewport=small, has_touch=True, is_mobile=True)
    visitor.open()
    page = visitor.page
    page.get_by_role("button", name=name).tap()
    visitor.await_events()
    page.locator(".event").first.tap()
    expect(page.locator("#inspector-fields")).to_be_visible()
    wide = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas, p, h2, h3, label")]
            .filter((e) => e.offsetParent && !e.closest(".lane-body") && !e.closest(".skip"))
            .map((e) => [e.id || e.className || e.textContent, e.getBoundingClientRect()])
            .filter(([, box]) => box.right > 360.5 || (box.left < -0.5 && box.width > 2))
            .map(([name]) => name)"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#event-yes").tap()
    visitor.said("confirmed")
    visitor.kept()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(
    browser: Any, served: Served, visitors: list[Visitor], audio: Path, scheme: str
) -> None:
    visitor = come(browser, served, visitors, color_scheme=scheme, reduced_motion="reduce")
    visitor.open()
    looked = [faults(visitor)]
    visitor.open(min(path.name for path in audio.iterdir() if path.name != LONG))
    looked.append(faults(visitor))
    visitor.press("ArrowRight", "Tab")
    looked.append(faults(visitor))
    visitor.press("?")
    looked.append(faults(visitor))
    assert looked == [[], [], [], []]


def faults(visitor: Visitor) -> list[str]:
    """What axe finds that keeps anybody out."""
    visitor.page.wait_for_timeout(300)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    answer = axe.Axe().run(visitor.page, options={"runOnly": rules, "resultTypes": ["violations"]})
    return [
        f"{fault['id']}: {node['html']} {node['failureSummary']}"
        for fault in answer.response["violations"]
        for node in fault["nodes"]
    ]
