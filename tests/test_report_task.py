"""The report as a user makes it, and as a browser shows it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from earmark import audio
from earmark.cli import main
from earmark.errors import UserError
from earmark.tasks.reporting import report

RATE_HZ = 8000
HEADER = "filename,onset,offset,event_label,score\n"
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three recordings of five seconds, one of them without events, and a file that is none."""
    folder = tmp_path_factory.mktemp("recordings")
    seconds = np.arange(5 * RATE_HZ) / RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * 500 * seconds) * (seconds % 2 < 1)
    for name in ("S_20250131_235958.wav", "b/x.wav", "quiet.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        audio.write(folder / name, tone, RATE_HZ)
    (folder / "broken.wav").write_bytes(b"RIFF no audio")
    return folder


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(
        f"{HEADER}S_20250131_235958.wav,0,1,dog,0.9\nS_20250131_235958.wav,2.5,3,<script>,0.5\n"
        "b/x.wav,2,3,dog,0.6\ngone.wav,0,1,dog,0.4\nb/x.wav,9,10,dog,0.1\n"
    )
    return path


def made(events, recordings, tmp_path, **options):
    """The report and its page."""
    found = report(events, audio=recordings, out=tmp_path / "new" / "r.html", **options)
    return found, found.out.read_text(encoding="utf-8")


def test_what_is_told(events, recordings, tmp_path):
    found, text = made(events, recordings, tmp_path)
    assert (found.recordings, found.events, found.examples) == (3, 4, 3)
    assert found.hours == pytest.approx(15 / 3600)
    assert [line.partition(":")[0].rpartition("/")[2] for line in found.failures] == [
        "gone.wav",
        "broken.wav",
    ]
    assert "<dt>recordings</dt><dd>3, of which 2 have events</dd>" in text
    assert "begin after the end of their recording" in text
    assert "<script>&" not in text
    assert "2025-02-01 00:00:00" in text  # the event at 2.5 s, after midnight
    assert "of which it is known when they were begun; of 2 it is not" in text
    assert "4 events in 3 recordings (15 s), 3 examples: " in found.text()
    assert found.text().endswith(
        "r.html\n2 could not be read or found:\n  " + "\n  ".join(found.failures)
    )


def test_by_the_command_line(events, recordings, tmp_path, capsys):
    out = tmp_path / "r.html"
    words = ["report", str(events), "--audio", str(recordings), "--out", str(out)]
    assert main([*words, "--examples", "0"]) == 1
    assert "0 examples" in capsys.readouterr().out
    assert "<audio" not in out.read_text()
    assert main([*words[:-1], str(tmp_path / "r.htm")]) == 2


def test_clock_times_of_the_table_come_first(recordings, tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(
        HEADER.replace("score", "score,start_time")
        + "S_20250131_235958.wav,1,2,dog,0.9,2024-07-01T12:00:01.500+02:00\n"
        "b/x.wav,2,3,dog,0.9,\n"
    )
    _, text = made(path, recordings, tmp_path)
    assert "<dd>from 2024-07-01 12:00 to 2024-07-01 12:00</dd>" in text
    assert "2024-07-01 12:00:01" in text
    path.write_text(path.read_text().replace("2024-07-01T", "1. 7. 2024 "))
    with pytest.raises(UserError, match=r"events\.csv, line 2: a start_time must be a date"):
        made(path, recordings, tmp_path)


def test_a_folder_of_tables(events, recordings, tmp_path):
    folder = tmp_path / "tables"
    (folder / "b").mkdir(parents=True)
    (folder / "a.csv").write_text(HEADER + "quiet.wav,0,1,dog,0.9\n")
    (folder / "b" / "x.csv").write_text(HEADER + "b/x.wav,0,1,cat,0.9\n")
    (folder / "a.tsv").write_text("filename\tonset\toffset\tevent_label\nquiet.wav\t0\t1\tdog\n")
    found, _ = made(folder, recordings, tmp_path)
    assert found.events == 2
    (folder / "c.csv").write_text(HEADER + "quiet.wav,3,4,dog,0.9\n")
    with pytest.raises(UserError, match=r"'quiet\.wav' is in a\.csv, too"):
        made(folder, recordings, tmp_path)
    with pytest.raises(UserError, match="holds no tables of what was detected"):
        made(recordings, recordings, tmp_path)


def test_no_events_at_all(recordings, tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(HEADER)
    found, text = made(path, recordings, tmp_path)
    assert (found.events, found.recordings) == (0, 3)
    assert "There is no event to show." in text


def test_a_model_names_classes_and_thresholds(recordings, model, tmp_path):
    from earmark.model.bundle import read_description
    from earmark.tasks import fuse

    description = read_description(model)
    name = description.class_names[0]
    path = tmp_path / "events.csv"
    path.write_text(HEADER + f"quiet.wav,0,1,{name},0.9\n")
    fused = fuse(model, model, out=tmp_path / "fused", device="cpu").model
    for folder in (model, fused):
        _, text = made(path, recordings, tmp_path, model=folder)
        assert text.count('<th scope="row">') >= len(description.class_names) + 3
        assert "threshold</th>" in text
        assert f"<td>{description.decoding[0].threshold:.3f}</td>" in text
        assert "to 4 kHz on mel bands" in text
    path.write_text(HEADER + "quiet.wav,0,1,oboe,0.9\n")
    with pytest.raises(UserError, match="the model has no class 'oboe'"):
        made(path, recordings, tmp_path, model=model)


def test_what_can_not_be_reported(events, recordings, tmp_path):
    with pytest.raises(UserError, match=r"a file ending in \.html"):
        report(events, audio=recordings, out=tmp_path / "r.pdf")
    (tmp_path / "f.html").mkdir()
    with pytest.raises(UserError, match="this is a folder"):
        report(events, audio=recordings, out=tmp_path / "f.html")
    with pytest.raises(UserError, match="must lie between 0 and 100, came as -1"):
        made(events, recordings, tmp_path, examples=-1)
    with pytest.raises(UserError, match="can't be read"):
        made(tmp_path / "no.csv", recordings, tmp_path)
    weak = tmp_path / "weak.csv"
    weak.write_text("filename,event_labels\nquiet.wav,dog\n")
    with pytest.raises(UserError, match="tags alone; give what detect has written"):
        made(weak, recordings, tmp_path)
    weak.write_text(HEADER + "nowhere.wav,0,1,dog,1\n")
    with pytest.raises(UserError, match="none of the files in the table"):
        made(weak, recordings, tmp_path)


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_and_plays_it(browser, recordings, tmp_path, scheme):
    from axe_playwright_python.sync_playwright import Axe

    evil = "<script>document.title = 'owned'</script>"
    folder = tmp_path / "audio"
    shutil.copytree(recordings, folder)
    hostile = "S_20250201_050000 <img src=x onerror=alert(1)>.wav"
    shutil.copyfile(folder / "quiet.wav", folder / hostile)
    table = tmp_path / "events.csv"
    rows = [f"S_20250131_235958.wav,{n / 2},{n / 2 + 0.4},dog,0.{n + 1}\n" for n in range(8)]
    rows += [f"{hostile},1,2,{evil},0.8\n", "quiet.wav,0,1,cat,\n"]
    table.write_text(HEADER + "".join(rows))
    found, _ = made(table, folder, tmp_path)
    page = browser.new_page(color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(found.out.as_uri())

    sounds = page.locator("audio")
    assert sounds.count() == found.examples == 10
    # With a threshold's column too the table of classes is no wider than the page.
    page.locator("thead").first.evaluate(
        """head => {
            const cell = head.rows[0].lastElementChild;
            for (const row of head.parentElement.rows) {
                row.append(row.lastElementChild.cloneNode(true));
            }
            cell.nextElementSibling.textContent = "threshold";
        }"""
    )
    frame = page.locator(".scroll").first
    assert frame.evaluate("frame => frame.scrollWidth - frame.clientWidth") == 0
    for place in (0, 1):
        sounds.nth(place).evaluate("sound => { sound.muted = true; return sound.play(); }")
        page.wait_for_function(
            "place => document.querySelectorAll('audio')[place].currentTime > 0.1", arg=place
        )
    assert sounds.nth(0).evaluate("sound => sound.paused")  # one plays at a time
    assert float(page.locator(".playing .head").nth(1).get_attribute("x1")) > 0
    sizes = page.evaluate(
        "async () => Promise.all([...document.querySelectorAll('svg image')].map(async (image) => {"
        " const read = new Image(); read.src = image.href.baseVal; await read.decode();"
        " return [read.naturalWidth, read.naturalHeight]; }))"
    )
    assert len(sizes) == 10
    assert min(map(min, sizes)) > 10

    head = page.get_by_role("button", name="events", exact=True).first
    head.focus()
    for order in ("ascending", "descending"):
        page.keyboard.press("Enter")
        assert head.locator("xpath=..").get_attribute("aria-sort") == order
        cells = page.locator("table.sortable").first.locator("tbody td:nth-child(2)")
        numbers = [int(text) for text in cells.all_inner_texts()]
        assert numbers == sorted(numbers, reverse=order == "descending") == numbers
    assert page.title() == "Sounds detected: events.csv"

    found_faults = Axe().run(page).response["violations"]
    assert [fault["id"] for fault in found_faults] == []
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.emulate_media(media="print")
    assert not sounds.first.is_visible()
    assert page.get_by_role("img").first.is_visible()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [found.out.as_uri()]
    page.close()


@pytest.mark.slow
def test_no_more_runs_on_the_page_than_its_own_script(browser, events, recordings, tmp_path):
    found, text = made(events, recordings, tmp_path)
    found.out.write_text(
        text.replace("</main>", "<script>document.title = 'owned'</script></main>")
    )
    page = browser.new_page()
    page.goto(found.out.as_uri())
    assert page.title() == "Sounds detected: events.csv"
    page.close()
