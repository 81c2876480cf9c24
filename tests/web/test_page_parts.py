"""What the page's modules work out, against slow twins; and what its files may not hold."""

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import chromium, needs_chromium

STATIC = Path(__file__).parents[2] / "earmark" / "web" / "static"
OWN = sorted(path for path in STATIC.iterdir() if path.is_file())


def test_the_page_needs_nobody_else_and_nothing_inline() -> None:
    for path in OWN:
        text = path.read_text()
        outside = re.findall(r"https?://[^\"'\s>]+", text)
        assert [url for url in outside if not url.startswith("http://www.w3.org/")] == [], path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text), path
        assert not re.search(r"\beval\(|new Function", text), path
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_every_element_that_is_asked_for_is_on_the_page() -> None:
    ids = re.findall(r'\bid="([^"]+)"', (STATIC / "index.html").read_text())
    assert len(set(ids)) == len(ids)
    asked = {
        name
        for path in STATIC.glob("*.js")
        for name in re.findall(r'(?:byId|onClick)\("([^"]+)"', path.read_text())
    }
    assert asked - set(ids) == set()
    labels = re.findall(r'(?:aria-labelledby|for)="([^"]+)"', (STATIC / "index.html").read_text())
    assert set(labels) <= set(ids)


def test_every_module_is_there() -> None:
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "(\./[^"]+)"', path.read_text()):
            assert (STATIC / name).is_file(), f"{path.name} imports {name}"


def test_wavesurfer_is_as_it_came_with_its_licence() -> None:
    folder = STATIC / "vendor" / "wavesurfer"
    digest = hashlib.sha256((folder / "wavesurfer.esm.js").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text()
    assert "Redistributions of source code must retain" in (folder / "LICENSE").read_text()


@pytest.fixture(scope="module")
def blank() -> Iterator[Any]:
    """A page without a server, on which modules can be imported."""
    with chromium() as browser:
        page = browser.new_page(timezone_id="Europe/Berlin")

        def give(route: Any) -> None:
            name = route.request.url.removeprefix("http://page.test/")
            kind = "text/javascript" if name else "text/html"
            body = (STATIC / name).read_text() if name else "<!doctype html>"
            route.fulfill(body=body, content_type=kind)

        page.route("http://page.test/**", give)
        page.goto("http://page.test/")
        yield page


def call(page: Any, module: str, function: str, *arguments: Any) -> Any:
    return page.evaluate(
        "async ([module, name, values]) => (await import('/' + module))[name](...values)",
        [module, function, list(arguments)],
    )


OTHER_PAGE = """
async (run) => {
    // A server of reviews by model, and a desk at it; a test holds its answers back.
    const { Desk } = await import("/desk.js");
    localStorage.clear();
    const server = { version: 0, kept: null, detected: {}, puts: [], gate: Promise.resolve() };
    window.fetch = async (url, { method = "GET", body, headers } = {}) => {
        const at = new URL(url, location.href);
        const answer = (value, status = 200) => new Response(JSON.stringify(value), { status });
        const model = at.searchParams.get("model") ?? at.pathname.split("/").at(-2);
        if (model === server.gone) return answer({ error: "no such model" }, 404);
        if (at.pathname.endsWith("/events")) {
            const wanted = server.decoded?.(JSON.parse(body), at.pathname);
            return answer(await (wanted ?? { events: [], tags: [], total: 0 }));
        }
        if (method === "PUT") {
            const version = Number(headers["If-Match"].replaceAll('"', ""));
            await server.gate;
            if (server.refuses) return answer({ error: server.refuses }, 422);
            if (version !== server.version) {
                return answer({ error: "changed", version: server.version }, 409);
            }
            server.kept = JSON.parse(body);
            server.puts.push(model);
            return answer({ version: ++server.version });
        }
        const empty = { events: server.detected[model] ?? [], absent: [], reviewed: [], rules: {} };
        return answer({ ...(server.kept ?? empty), version: server.version });
    };
    const models = ["a", "b"].map((id) => ({ id, class_names: ["dog", "cat"] }));
    const recording = (id) => ({ id, name: id, duration_seconds: 30 });
    const told = [];
    const newDesk = () => {
        const desk = new Desk();
        for (const type of ["say", "conflict", "failed"]) {
            const words = (detail) => detail?.message ?? detail;
            desk.addEventListener(type, (event) => told.push([type, words(event.detail)]));
        }
        return desk;
    };
    const draft = (page, version, model, review) =>
        localStorage.setItem(`earmark draft r ${page}`, JSON.stringify({ version, model, review }));
    const open = async (desk, id, model) => {
        desk.begin(recording(id), model);
        await desk.load(new AbortController().signal);
    };
    const gated = () => {
        let go;
        server.gate = new Promise((resolve) => (go = resolve));
        return go;
    };
    const soon = () => new Promise((resolve) => setTimeout(resolve, 20));
    const event = (id, onset, label, state) =>
        ({ id, onset, offset: onset + 1, label, score: 0.5, state });
    const things = { server, models, told, newDesk, open, gated, recording, soon, event, draft };
    return await new Function("t", `return (async () => {${run}})()`)(things);
}
"""
"""What a desk does, without elements."""


def at_desk(page: Any, run: str) -> Any:
    return page.evaluate(OTHER_PAGE, run)


def event(name: str, onset: float, offset: float, state: str, label: str = "dog") -> Any:
    return {"id": name, "onset": onset, "offset": offset, "label": label, "score": 0.5} | {
        "state": state
    }


def ticks(spans: list[dict[str, float]]) -> set[int]:
    """Whole numbers that spans of whole numbers cover."""
    return {k for span in spans for k in range(int(span["start"]), int(span["end"]))}


browser_only = [needs_chromium, pytest.mark.slow]


class TestInTheBrowser:
    pytestmark = browser_only

    @pytest.mark.parametrize("seed", range(12))
    def test_spans_are_sets_of_time(self, blank: Any, seed: int) -> None:
        generator = np.random.default_rng(seed)
        starts = generator.integers(0, 40, 8)
        spans = [
            {"start": int(s), "end": int(s + n)}
            for s, n in zip(starts, generator.integers(0, 9, 8), strict=True)
        ]
        start = int(generator.integers(0, 40))
        hole = {"start": start, "end": start + int(generator.integers(1, 15))}
        union = call(blank, "spans.js", "union", spans)
        assert ticks(union) == ticks(spans)
        assert all(a["end"] < b["start"] for a, b in pairwise(union))
        assert ticks(call(blank, "spans.js", "subtract", spans, hole)) == ticks(spans) - ticks(
            [hole]
        )
        assert call(blank, "spans.js", "total", spans) == len(ticks(spans))
        covered = len(ticks([hole]) & ticks(spans))
        words = "all" if covered == len(ticks([hole])) else "some" if covered else "none"
        assert call(blank, "spans.js", "cover", spans, hole) == words

    def test_times_are_read_as_they_are_written(self, blank: Any) -> None:
        for seconds in (0, 0.004, 7.25, 59.996, 61.5, 3599.99, 3600, 86399.5):
            text = call(blank, "time.js", "clock", seconds, 3)
            assert call(blank, "time.js", "parseClock", text) == pytest.approx(seconds, abs=6e-4)
        assert call(blank, "time.js", "clock", 59.999) == "1:00.00"
        assert call(blank, "time.js", "parseClock", " 7,5 ") == 7.5
        for wrong in ("", "soon", "1:2:3:4", "-1", "1e3"):
            assert call(blank, "time.js", "parseClock", wrong) is None
        walls = [
            call(blank, "time.js", "wallClock", at, 90) for at in ("2026-03-29T01:59:00", None)
        ]
        assert walls == ["2026-03-29 02:00:30", None]
        # An hour that the reader's own clock leaves out.
        gap = call(blank, "time.js", "wallClock", "2026-03-29T02:30:00", 0)
        assert gap == "2026-03-29 02:30:00"
        zoned = call(blank, "time.js", "wallClock", "2026-03-29T02:30:00+02:00", 60)
        assert zoned == "2026-03-29 00:31:00 UTC"

    def test_decoding_anew_touches_nothing_that_was_decided(self, blank: Any) -> None:
        def event(name: str, onset: float, offset: float, state: str, label: str = "a") -> Any:
            return {"id": name, "onset": onset, "offset": offset, "label": label, "score": 0.5} | {
                "state": state
            }

        review = {
            "events": [
                event("sure", 0, 2, "confirmed"),
                event("moved", 4, 5, "corrected"),
                event("denied", 8, 9, "deleted"),
                event("stays", 12, 13, "detected"),
                event("goes", 16, 17, "detected"),
                event("seen", 30, 31, "detected"),
            ],
            "absent": [{"label": "b", "start": 0, "end": 10}],
            "reviewed": [{"start": 29, "end": 35}],
            "rules": {},
        }
        decoded = [
            {"onset": on, "offset": off, "label": label, "score": 0.9}
            for on, off, label in [
                (0.1, 1.9, "a"),  # confirmed
                (3.9, 5.2, "a"),  # corrected
                (8.2, 8.8, "a"),  # denied
                (8.2, 8.8, "c"),  # ... of another class
                (11.8, 13, "a"),  # the same event, a little longer
                (2, 3, "b"),  # known to be absent
                (20, 21, "b"),  # new
                (30, 31, "c"),  # in a stretch that was reviewed
            ]
        ]
        events = call(blank, "review.js", "withDecoded", review, decoded)["events"]
        assert [(e["id"], e["state"]) for e in events[:4]] == [
            ("sure", "confirmed"),
            ("moved", "corrected"),
            ("denied", "deleted"),
            ("seen", "detected"),
        ]
        assert {(e["onset"], e["label"]) for e in events[4:]} == {
            (8.2, "c"),
            (11.8, "a"),
            (20, "b"),
        }
        assert next(e["id"] for e in events if e["onset"] == 11.8) == "stays"
        assert len({e["id"] for e in events}) == len(events)

    def test_an_event_stays_inside_and_in_order(self, blank: Any) -> None:
        review = {"events": [], "absent": [], "reviewed": [], "rules": {}}
        absent = {"label": "a", "start": 0, "end": 10}
        silent = {**review, "absent": [absent]}
        changed, name = call(blank, "review.js", "addEvent", silent, "a", 2, 4, 10)
        assert [(e["start"], e["end"]) for e in changed["absent"]] == [(0, 2), (4, 10)]
        for onset, offset in [(-5, 20), (9.999, 3), (10, 12), (0, 0)]:
            moved = call(blank, "review.js", "moveEvent", changed, name, onset, offset, 10)
            (event,) = moved["events"]
            assert 0 <= event["onset"] < event["offset"] <= 10

    def test_a_stretch_says_nothing_of_what_lies_outside(self, blank: Any) -> None:
        spans = [("in", 2, 3), ("end", 9.9, 20), ("start", -0.0, 12), ("far", 12, 13)]
        events = [event(name, a, b, "detected") for name, a, b in spans]
        review = {"events": events, "absent": [], "reviewed": [], "rules": {}}
        part = {"start": 0, "end": 10}
        silent = call(blank, "review.js", "markAbsent", review, "dog", part)
        assert [(e["id"], e["onset"], e["offset"], e["state"]) for e in silent["events"]] == [
            ("in", 2, 3, "deleted"),
            ("end", 10, 20, "detected"),
            ("start", 10, 12, "detected"),
            ("far", 12, 13, "detected"),
        ]
        around = call(blank, "review.js", "markAbsent", review, "dog", {"start": 14, "end": 15})
        assert [(e["onset"], e["offset"]) for e in around["events"] if e["offset"] > 13] == [
            (9.9, 14),
            (15, 20),
        ]
        assert len({e["id"] for e in around["events"]}) == 5
        # Nor does decoding anew bring back what was cut off.
        decoded = [{"onset": 9, "offset": 20, "label": "dog", "score": 0.5}]
        again = call(blank, "review.js", "withDecoded", silent, decoded)
        assert [(e["onset"], e["offset"]) for e in again["events"] if e["state"] == "detected"] == [
            (10, 20)
        ]
        seen = call(blank, "review.js", "markReviewed", review, part)
        assert [e["state"] for e in seen["events"]] == [
            "confirmed", "detected", "confirmed", "detected",
        ]  # fmt: skip
        # What reaches in and was not decided still follows the rules.
        moved = call(blank, "review.js", "withDecoded", seen, decoded)
        assert [e["onset"] for e in moved["events"]] == [2, 0, 9]

    def test_a_drag_over_and_back_leaves_nothing(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const desk = t.newDesk();
            t.server.kept = {
                events: [t.event("x", 1, "dog", "detected")], reviewed: [], rules: {},
                absent: [{ label: "dog", start: 4, end: 8 }],
            };
            await t.open(desk, "r", t.models[0]);
            desk.move("x", NaN, 7, false);
            const over = desk.review.absent;
            desk.move("x", NaN, 2, false);
            desk.move("x", NaN, 2, true);
            const back = [desk.review.absent, desk.review.events[0].state, t.told.length];
            desk.move("x", NaN, 6, false);
            desk.move("x", NaN, 5, true);
            return [over, ...back, desk.review.absent];
            """,
        )
        assert found == [
            [{"label": "dog", "start": 7, "end": 8}],
            [{"label": "dog", "start": 4, "end": 8}],
            "detected",
            0,
            [{"label": "dog", "start": 5, "end": 8}],
        ]

    def test_nothing_is_decided_before_the_sounds_are_found(self, blank: Any) -> None:
        words = at_desk(
            blank,
            """
            const desk = t.newDesk();
            desk.begin(t.recording("r"), t.models[0]);
            desk.add("dog", 1, 2);
            desk.setAbsent("cat", true);
            desk.toggleReviewed();
            return [desk.review, desk.history.past.length, t.told];
            """,
        )
        waiting = ["say", "Wait until the sounds are found"]
        nothing = {"events": [], "absent": [], "reviewed": [], "rules": {}}
        assert words == [nothing, 0, [waiting] * 3]

    def test_a_typed_time_never_turns_an_event_around(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            t.server.detected.a = [t.event("1", 5, "dog", "detected")];
            const desk = t.newDesk();
            await t.open(desk, "r", t.models[0]);
            const tried = [["end", "0:00"], ["end", "5"], ["end", "5.005"], ["end", "sieben"],
                           ["start", "6"], ["start", "1:00"], ["start", ""]];
            const words = tried.map(([side, text]) => desk.moveEdge("1", side, text));
            const left = [desk.event, desk.review.events[0].state, desk.history.past.length];
            const typed = [["end", "0:07,5"], ["start", "4.25"]];
            const taken = typed.map(([side, text]) => desk.moveEdge("1", side, text));
            const { onset, offset } = desk.review.events[0];
            return [words, left.slice(1), taken, [onset, offset]];
            """,
        )
        words, left, taken, times = found
        assert [word.split("”")[1] for word in words] == [
            *(" is not after the start, 0:05.000",) * 3,
            " is no time: write seconds, or 1:07.25",
            *(" is not before the end, 0:06.000",) * 2,
            " is no time: write seconds, or 1:07.25",
        ]
        assert left == ["detected", 0]
        assert (taken, times) == ([None, None], [4.25, 7.5])

    def test_the_queue_does_not_say_itself_that_nothing_is_left(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const { Queue } = await import("/queue.js");
            const told = [];
            const tell = (name) => async (words) => void told.push([name, words ?? null]);
            const actions = Object.fromEntries(
                ["show", "say", "ended", "failed", "redraw"].map((name) => [name, tell(name)]));
            window.fetch = async () => new Response("[]");
            const queue = new Queue({ model: t.models[0] }, actions);
            await queue.start();
            return [told, queue.running];
            """,
        )
        assert found == [[["redraw", None], ["ended", None]], False]

    def test_another_model_waits_for_what_the_first_one_keeps(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const desk = t.newDesk();
            await t.open(desk, "r", t.models[0]);
            const go = t.gated();
            desk.add("dog", 1, 2);
            const loaded = t.open(desk, "r", t.models[1]);
            await t.soon();
            const early = desk.analysed;
            go();
            await loaded;
            desk.add("cat", 3, 4);
            await desk.keeper.settled();
            return [early, t.server.puts, t.server.kept.events.map((e) => e.label),
                t.told.map((each) => each[0]), localStorage.length];
            """,
        )
        assert found == [False, ["a", "b"], ["dog", "cat"], ["say", "say"], 0]

    def test_a_draft_of_another_model_brings_what_was_decided(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const one = t.event;
            const reviewed = [{ start: 20, end: 30 }];
            const review = { absent: [], reviewed, rules: { dog: { threshold: 0.1 } },
                events: [one("old", 1, "dog", "detected"), one("sure", 5, "dog", "confirmed")] };
            const desk = t.newDesk();
            const found = [one("new", 9, "cat", "detected"), one("same", 5, "dog", "detected")];
            t.server.detected = { b: found };
            t.draft("page", 0, "a", review);
            t.server.gone = "a";
            await t.open(desk, "r", t.models[1]);
            await desk.keeper.settled();
            const { kept } = t.server;
            const events = kept.events.map((e) => [e.onset, e.label, e.state]);
            return [events, kept.reviewed, kept.rules, t.server.puts, localStorage.length];
            """,
        )
        assert found == [
            [[5, "dog", "confirmed"], [9, "cat", "detected"]],
            # Nobody looked there for what this model knows.
            [],
            {},
            ["b"],
            0,
        ]

    def test_a_draft_is_kept_as_of_the_model_it_was_made_with(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const reviewed = [{ start: 0, end: 10 }];
            const desk = t.newDesk();
            t.draft("page", 0, "a", { absent: [], reviewed, rules: {}, events: [] });
            await t.open(desk, "r", t.models[1]);
            await desk.settled();
            return [t.server.puts, t.server.kept.reviewed, desk.review.reviewed, t.told];
            """,
        )
        reviewed = [{"start": 0, "end": 10}]
        assert found == [["a"], reviewed, reviewed, []]

    def test_reviewed_under_another_model_is_what_both_say(self, blank: Any) -> None:
        one, other = (
            {"events": [], "absent": [], "rules": {}, "reviewed": [{"start": a, "end": b}]}
            for a, b in ((0, 10), (5, 20))
        )
        found = call(blank, "review.js", "underModel", one, other)
        assert found["reviewed"] == [{"start": 5, "end": 10}]

    def test_pages_without_a_server_leave_a_draft_each(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const pages = [t.newDesk(), t.newDesk()];
            for (const page of pages) await t.open(page, "r", t.models[0]);
            const go = t.gated();
            pages[0].add("dog", 1, 2);
            pages[1].add("cat", 3, 4);
            const texts = Object.values(localStorage).map((text) => JSON.parse(text).review);
            go();
            for (const page of pages) await page.settled();
            await t.soon();
            // The second one has to choose; it is closed instead.
            const left = [t.server.kept.events.map((e) => e.label), t.told.at(-1)[0]];
            const later = t.newDesk();
            await t.open(later, "r", t.models[0]);
            const asked = later.conflict.events.map((e) => e.label);
            await later.resolve(false);
            const labels = texts.map((review) => review.events[0].label).sort();
            return [labels, ...left, asked, localStorage.length];
            """,
        )
        assert found == [["cat", "dog"], ["dog"], "conflict", ["cat"], 0]

    def test_a_conflict_is_of_the_recording_that_is_open(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const desk = t.newDesk();
            await t.open(desk, "r", t.models[0]);
            t.server.version = 1;
            t.server.kept = { events: [t.event("x", 5, "cat", "added")], absent: [], reviewed: [],
                rules: {} };
            desk.add("dog", 1, 2);
            await desk.settled();
            await t.soon();
            // Nothing is changed that the choice would throw away.
            desk.add("dog", 8, 9);
            desk.undo();
            const held = [desk.conflict.events.length, desk.review.events.length, t.told.at(-1)];
            const chosen = desk.resolve(true);
            await t.open(desk, "other", t.models[0]);
            await chosen;
            await desk.settled();
            const other = [desk.conflict, desk.review.events.map((e) => e.id), [...t.server.puts]];
            await t.open(desk, "r", t.models[0]);
            const again = desk.conflict.events.length;
            await desk.resolve(true);
            await desk.settled();
            const { events } = t.server.kept;
            return [held, other, again, events.map((e) => e.label), localStorage.length];
            """,
        )
        assert found == [
            [1, 1, ["say", "Choose first which version holds"]],
            [None, ["x"], []],
            1,
            ["dog"],
            0,
        ]

    def test_what_was_left_is_not_lost_in_silence(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const desk = t.newDesk();
            await t.open(desk, "first", t.models[0]);
            const go = t.gated();
            desk.add("dog", 1, 2);
            t.server.refuses = "no room";
            desk.begin(t.recording("second"), t.models[0]);
            const early = desk.unkept;
            go();
            await desk.settled();
            const late = desk.unkept;
            delete t.server.refuses;
            // Whoever comes back finds it, and it is kept.
            await t.open(desk, "first", t.models[0]);
            await desk.settled();
            const again = [desk.unkept, desk.review.events.length, t.server.version];
            const wait = t.gated();
            desk.add("cat", 3, 4);
            desk.drop(t.recording("first"));
            wait();
            return [early, late, ...again, desk.unkept, localStorage.length, t.told];
            """,
        )
        *rest, told = found
        assert rest == [["first"], ["first"], [], 1, 1, [], 0]
        (failed,) = [words for kind, words in told if kind == "failed"]
        assert failed.startswith("first: what you decided last is not kept: no room")

    def test_what_is_not_shown_is_not_reviewed(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const desk = t.newDesk();
            const events = [{ onset: 5, offset: 6, label: "dog", score: 0.5 }];
            t.server.decoded = () => ({ events, tags: [], total: 9 });
            await t.open(desk, "r", t.models[0]);
            desk.toggleReviewed();
            const whole = desk.review.reviewed;
            desk.chooseStretch({ start: 0, end: 5 });
            desk.toggleReviewed();
            await desk.settled();
            return [whole, desk.review.reviewed, desk.found, t.told[0][1]];
            """,
        )
        *rest, words = found
        assert rest == [[], [{"start": 0, "end": 5}], 9]
        assert words.startswith("Only events up to 0:05 are shown")

    def test_the_slider_of_a_second_recording_waits_for_nobody(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const desk = t.newDesk();
            await t.open(desk, "first", t.models[0]);
            let go;
            const held = new Promise((resolve) => (go = resolve));
            const asked = [];
            t.server.decoded = ({ rules }, path) => {
                asked.push([path.split("/")[3], rules.dog?.threshold ?? null]);
                const events = [{ onset: 1, offset: 2, label: "dog", score: 0.5 }];
                const answer = { events: rules.dog ? events : [], tags: [], total: 0 };
                return path.includes("first") ? held.then(() => answer) : answer;
            };
            desk.setRule("dog", "threshold", 0.1, true);
            await t.open(desk, "second", t.models[0]);
            desk.setRule("dog", "threshold", 0.2, true);
            go();
            await t.soon();
            await desk.keeper.settled();
            const { events, rules } = t.server.kept;
            return [asked, events.length, rules, t.server.version];
            """,
        )
        assert found == [
            [["first", 0.1], ["second", None], ["second", 0.2]],
            1,
            {"dog": {"threshold": 0.2}},
            1,
        ]

    def test_an_answer_about_what_was_left_changes_nothing(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const desk = t.newDesk();
            await t.open(desk, "first", t.models[0]);
            let go;
            const held = new Promise((resolve) => (go = resolve));
            const events = [{ onset: 1, offset: 2, label: "dog", score: 0.5 }];
            t.server.decoded = (_, path) =>
                path.includes("first") ? held.then(() => ({ events, tags: [], total: 1 })) : null;
            desk.setRule("dog", "threshold", 0.1, true);
            await t.open(desk, "second", t.models[0]);
            go();
            await t.soon();
            return [desk.review.events, desk.review.rules, t.server.version];
            """,
        )
        assert found == [[], {}, 0]

    def test_who_comes_back_waits_for_what_he_left(self, blank: Any) -> None:
        found = at_desk(
            blank,
            """
            const desk = t.newDesk();
            await t.open(desk, "r", t.models[0]);
            const go = t.gated();
            desk.add("dog", 1, 2);
            t.told.length = 0;
            const loaded = t.open(desk, "r", t.models[0]);
            await t.soon();
            go();
            await loaded;
            await desk.settled();
            return [t.told, desk.keeper.version, desk.review.events.length];
            """,
        )
        assert found == [[], 1, 1]

    def test_guessed_shades_are_asked_for_again(self, blank: Any) -> None:
        found = blank.evaluate(
            """async () => {
                const { Picture } = await import("/picture.js");
                const canvas = new OffscreenCanvas(2, 2);
                canvas.getContext("2d");
                const png = await canvas.convertToBlob();
                const asked = [];
                let caching = "no-store";
                window.fetch = async (url) => {
                    asked.push(url);
                    return new Response(png, { headers: { "Cache-Control": caching } });
                };
                let redrawn = 0;
                const tell = { redraw: () => redrawn++, failed: (error) => { throw error; } };
                const picture = new Picture({}, null, tell);
                picture.open({ id: "r" });
                const look = async () => {
                    picture._tiles.visible(0, 1, 256, 2);
                    await new Promise((resolve) => setTimeout(resolve, 50));
                    return asked.length;
                };
                const counts = [await look(), await look()];
                picture.settle();
                caching = "private, no-cache";
                counts.push(await look());
                picture.settle();
                counts.push(await look());
                return counts;
            }"""
        )
        assert found == [1, 1, 2, 2]

    def test_the_queue_asks_each_question_once(self, blank: Any) -> None:
        found = blank.evaluate(
            """async () => {
                const { Queue } = await import("/queue.js");
                const all = [];
                for (let k = 0; k < 600; k++) {
                    // The same id in two recordings are two events.
                    const event = { id: `0-${k >> 1}`, label: "dog" };
                    all.push({ recording: `r${k % 2}`, event });
                }
                let left = all;
                const counts = [];
                window.fetch = async (url) => {
                    const count = Number(new URL(url, location.href).searchParams.get("count"));
                    counts.push(count);
                    return new Response(JSON.stringify(left.slice(0, count)));
                };
                const [asked, said, asks] = [[], [], []];
                const show = async (item) => Boolean(asked.push(item));
                const nothing = () => {};
                const desk = { keeper: null, model: { id: "m" }, recording: { id: "r0" } };
                const say = (words) => said.push(words);
                const actions = { show, failed: nothing, say, ended: say, redraw: nothing };
                const queue = new Queue(desk, actions);
                for (let k = 0; k < 550; k++) {
                    await queue.next();
                    if (k < 2) asks.push(queue.asks(asked[0].event));
                    left = all.slice(k + 1); // it is answered
                }
                const keys = asked.map((each) => `${each.recording} ${each.event.id}`);
                const answered = [new Set(keys).size, Math.max(...counts)];
                queue.stop();
                asked.length = 0;
                left = all;
                for (let k = 0; k < 501; k++) await queue.next();
                return [answered, asks, asked.length, Math.max(...counts), said.at(-1)];
            }"""
        )
        assert found == [
            [550, 60],
            [True, False],
            500,
            500,
            "500 questions were passed over: begin again",
        ]

    def test_a_recording_stays_the_same_when_the_list_is_read_anew(self, blank: Any) -> None:
        found = blank.evaluate(
            """async () => {
                const { Recordings } = await import("/recordings.js");
                const list = Object.assign(Object.create(Recordings.prototype), { _draw() {} });
                const one = { id: "g", name: "g", duration_seconds: null };
                list.all = [one, { id: "gone" }];
                const rows = [{ id: "b" }, { id: "g", name: "g", duration_seconds: 3 }];
                window.fetch = async () => new Response(JSON.stringify(rows));
                await list.load();
                return [list.all, list.find("g") === one];
            }"""
        )
        assert found == [[{"id": "b"}, {"id": "g", "name": "g", "duration_seconds": 3}], True]

    def test_a_recording_is_opened_as_it_is_now(self, blank: Any) -> None:
        found = blank.evaluate(
            """async () => {
                const { Recordings } = await import("/recordings.js");
                const list = Object.assign(Object.create(Recordings.prototype), { _draw() {} });
                const one = { id: "g", duration_seconds: 3, error: null };
                const grown = { ...one, duration_seconds: 4 };
                window.fetch = async () => new Response(JSON.stringify(grown));
                await list.whole(one);
                return one.duration_seconds;
            }"""
        )
        assert found == 4

    def test_reviewed_is_what_was_decided_from_start_to_end(self, blank: Any) -> None:
        for spans, state, whole in (
            ([(0, 4), (4, 9)], "confirmed", True),
            ([(0, 9)], "detected", False),
            ([(0, 8.9)], "confirmed", False),
        ):
            reviewed = [{"start": start, "end": end} for start, end in spans]
            review = {"events": [event("1", 1, 2, state)], "reviewed": reviewed}
            assert call(blank, "review.js", "reviewedWhole", review, 9) is whole

    def test_a_list_says_whole_names_and_what_is_reviewed(self, blank: Any) -> None:
        found = blank.evaluate(
            """async (style) => {
                const { Recordings } = await import("/recordings.js");
                const list = Object.assign(Object.create(Recordings.prototype), {
                    _notes: new Map(), _current: null, _actions: {},
                });
                const sheet = document.createElement("style");
                sheet.textContent = style;
                const rows = document.createElement("ul");
                rows.className = "recordings";
                rows.style.width = "13rem";
                document.body.append(sheet, rows);
                const one = { id: "a", duration_seconds: 70, error: null, uploaded: true,
                              name: "a_station_in_the_woods_20250501_050000.wav" };
                rows.append(list._item(one), list._item({ ...one, reviewed: true }));
                const seen = [...rows.querySelectorAll(".name")].map((name) => {
                    const [outer, inner] = [name.parentElement, name].map((each) =>
                        each.getBoundingClientRect());
                    return name.scrollWidth <= name.clientWidth + 1 && inner.right <= outer.right
                        && inner.bottom <= outer.bottom && getComputedStyle(name).textOverflow;
                });
                const notes = [...rows.querySelectorAll(".note")].map((note) => note.textContent);
                sheet.remove();
                rows.remove();
                return [seen, notes];
            }""",
            (STATIC / "style.css").read_text(),
        )
        assert found == [["clip"] * 2, ["1 min 10 s", "✓ reviewed · 1 min 10 s"]]

    def test_another_class_denies_the_old_one(self, blank: Any) -> None:
        event = {
            "id": "x",
            "onset": 1,
            "offset": 2,
            "label": "a",
            "score": 0.7,
            "state": "detected",
        }
        review = {"events": [event], "absent": [], "reviewed": [], "rules": {}}
        changed, name = call(blank, "review.js", "relabelEvent", review, "x", "b")
        old, new = changed["events"]
        assert (old["id"], old["label"], old["state"]) == ("x", "a", "deleted")
        assert (new["id"], new["label"], new["state"], new["score"]) == (
            name,
            "b",
            "corrected",
            None,
        )

    @pytest.mark.parametrize("seed", range(6))
    def test_tiles_cover_what_is_seen_at_a_fitting_size(self, blank: Any, seed: int) -> None:
        generator = np.random.default_rng(seed)
        span, pixels = float(generator.uniform(0.25, 90_000)), float(generator.uniform(200, 4000))
        level = call(blank, "tiles.js", "levelFor", span, pixels)
        seconds = call(blank, "tiles.js", "tileSeconds", level)
        columns = span / seconds * 512
        assert columns >= 0.69 * pixels or level == 0
        assert columns <= 1.41 * pixels or level == 0
