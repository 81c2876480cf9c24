"""When recordings began: by names and headers as recorders write them."""

import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.clock_times import start_of

MORNING = datetime(2025, 1, 31, 5, 42)
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("20250131_054200.WAV", MORNING),
        ("20250131_054200T.WAV", MORNING),
        ("SITE_20250131_054200.wav", MORNING),
        ("SM304472_0+1_20250131$054200.wav", MORNING),
        ("site-7_20250131-054200_000.flac", MORNING),
        ("2025-01-31T05-42-00", MORNING),
        ("2025-01-31T05:42:00.mp3", MORNING),
        ("owl 2025.01.31 05.42.00.wav", MORNING),
        ("20250131T054200.250.wav", MORNING.replace(microsecond=250_000)),
        ("20250131T054200.000250.wav", MORNING.replace(microsecond=250)),
        ("20250131_054200+0200.wav", MORNING.replace(tzinfo=EAST)),
        ("20250131_054200+02.wav", MORNING.replace(tzinfo=EAST)),
        ("2025-01-31T05-42-00+02:00_owl.wav", MORNING.replace(tzinfo=EAST)),
        ("20250131_054200-0330.wav", MORNING.replace(tzinfo=timezone(-timedelta(hours=3.5)))),
        ("20250131_054200Z.wav", MORNING.replace(tzinfo=UTC)),
        ("2025-01-31T05-42-00.000Z.wav", MORNING.replace(tzinfo=UTC)),
        ("5E90A4D4.WAV", datetime(2020, 4, 10, 16, 54, 44, tzinfo=UTC)),
        # A number in front of a date, a part's number behind it, and one that is no zone.
        ("00012345_20250131_054200-01.wav", MORNING),
        ("20250131_054200-0001.wav", MORNING),
        ("20250131_054200-0200001.wav", MORNING),
        ("20250131_054200Zebra.wav", MORNING),
        ("20251331_054200_20250131_054200.wav", MORNING),
    ],
)  # fmt: skip
def test_names(name, start):
    found = start_of(Path(name))
    assert found == start
    assert found.tzinfo == start.tzinfo


@pytest.mark.parametrize(
    "name",
    [
        "a.wav", "20250131.wav", "20250131_0542.wav", "20251331_054200.wav", "20250131_256100.wav",
        "120250131_054200.wav", "20250131_0542001.wav", "2025-0131_054200.wav",
        "18250131_054200.wav", "2025-01-31T05-4200.wav", "\uff12\uff10250131_054200.wav",
        # Digits alone count recordings; another suffix or a word is no AudioMoth's.
        "56781234.WAV", "5E90A4D4.flac", "5e90a4d4.wav", "DEADBEEF.WAV", "1E90A4D4.WAV", "",
    ],
)  # fmt: skip
def test_names_without_a_time(name):
    assert start_of(Path(name)) is None


@settings(deadline=None, max_examples=100)
@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)), st.sampled_from(["", "Z", "+1345"])
)
def test_any_time_in_a_name(moment, zone):
    moment = moment.replace(microsecond=0)
    for form in ("%Y%m%d_%H%M%S", "%Y-%m-%dT%H-%M-%S", "X_%Y%m%d$%H%M%S"):
        found = start_of(Path(f"{moment.strftime(form)}{zone}.wav".replace("X", "S1")))
        assert found.replace(tzinfo=None) == moment
        assert found.utcoffset() == {"": None, "Z": timedelta(0)}.get(
            zone, timedelta(hours=13, minutes=45)
        )


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    return name + struct.pack("<I", length) + content + b"\0" * (len(content) % 2)


def wav(*chunks: bytes, form: bytes = b"RIFF") -> bytes:
    content = b"WAVE" + chunk(b"fmt ", bytes(16)) + b"".join(chunks)
    return form + struct.pack("<I", len(content)) + content


def comment(text: str) -> bytes:
    return chunk(b"LIST", b"INFO" + chunk(b"ICMT", text.encode()))


def broadcast(date: bytes, time: bytes) -> bytes:
    return chunk(b"bext", b"who".ljust(320, b"\0") + date + time + bytes(254))


def guano(stamp: str) -> bytes:
    text = f"GUANO|Version: 1.0\nMake: Wildlife Acoustics\nTimestamp: {stamp}\nNote: ü\n"
    return chunk(b"guan", text.encode())


SAMPLES = chunk(b"data", bytes(7))  # odd, so that a byte of padding follows


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (wav(comment("Recorded at 05:42:00 31/01/2025 (UTC) by AudioMoth 24F3 at gain 2"), SAMPLES),
         MORNING.replace(tzinfo=UTC)),
        (wav(comment("Recorded at 05:42:00 31/01/2025 (UTC+2) by AudioMoth"), SAMPLES),
         MORNING.replace(tzinfo=EAST)),
        (wav(comment("Recorded at 05:42:00.500 31/01/2025 (UTC-9:30) by AudioMoth"), SAMPLES),
         datetime(2025, 1, 31, 5, 42, 0, 500_000, timezone(-timedelta(hours=9, minutes=30)))),
        (wav(SAMPLES, broadcast(b"2025-01-31", b"05:42:00")), MORNING),
        (wav(SAMPLES, broadcast(b"2025:01:31", b"05-42-00")), MORNING),
        (wav(SAMPLES, guano("2025-01-31T05:42:00+02:00")), MORNING.replace(tzinfo=EAST)),
        (wav(SAMPLES, guano("2025-01-31 05:42:00")), MORNING),
        (wav(SAMPLES, guano("2025-01-31T05:42:00Z")), MORNING.replace(tzinfo=UTC)),
        # The most exact of several; a damaged one is passed over.
        (wav(broadcast(b"2024-01-01", b"00:00:00"), guano("2025-01-31T05:42:00")), MORNING),
        (wav(guano("yesterday"), broadcast(b"2025-01-31", b"05:42:00")), MORNING),
        # Beyond 4 GB, the size of the samples stands elsewhere.
        (wav(chunk(b"ds64", struct.pack("<QQQ", 0, 7, 0)), chunk(b"data", bytes(7), 0xFFFFFFFF),
             guano("2025-01-31T05:42:00"), form=b"RF64"), MORNING),
    ],
)  # fmt: skip
def test_headers(tmp_path, content, start):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    found = start_of(path)
    assert found == start
    assert found.tzinfo == start.tzinfo


@pytest.mark.parametrize(
    "content",
    [
        b"", b"RIFF", b"fLaC" + bytes(40), wav(SAMPLES), wav(comment("a bird")),
        wav(comment("Recorded at 25:42:00 31/01/2025 (UTC)")),
        wav(comment("Recorded at 05:42:00 31/01/2025 (UTC+99)")),
        wav(broadcast(b"0000-00-00", b"00:00:00")), wav(broadcast(b"          ", b"        ")),
        wav(chunk(b"bext", b"short")), wav(guano("")), wav(chunk(b"guan", b"\xff\xfe")),
        wav(chunk(b"data", b"", 0xFFFFFFFF), guano("2025-01-31T05:42:00"))[:-5],
        wav(chunk(b"ds64", struct.pack("<QQQ", 0, 2**64 - 1, 0)), chunk(b"data", b"", 0xFFFFFFFF)),
        wav(*[chunk(b"junk", b"")] * 5000),
    ],
)  # fmt: skip
def test_headers_without_a_time(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert start_of(path) is None


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40), st.integers(0, 600))
def test_damaged_headers_are_no_times(tmp_path_factory, noise, at):
    whole = wav(
        comment("Recorded at 05:42:00 31/01/2025 (UTC)"), broadcast(b"2025-01-31", b"05:42:00")
    )
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    found = start_of(path)
    assert found is None or isinstance(found, datetime)


def test_the_header_lends_its_zone_to_the_name(tmp_path):
    path = tmp_path / "20250131_054200.WAV"
    path.write_bytes(wav(comment("Recorded at 05:42:00 31/01/2025 (UTC+2) by AudioMoth")))
    assert start_of(path).tzinfo == EAST
    path.write_bytes(wav(comment("Recorded at 23:00:00 01/01/1970 (UTC) by AudioMoth")))
    assert start_of(path) == MORNING
    zoned = tmp_path / "20250131_054200Z.WAV"
    path.rename(zoned)
    assert start_of(zoned) == MORNING.replace(tzinfo=UTC)
