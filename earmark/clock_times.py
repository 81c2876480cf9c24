"""When a recording began by the clock, from its name or from the header of a WAV file.

Names: AudioMoth ``20250131_054200.WAV``, once the seconds since 1970 in hexadecimal digits,
``5E90A4D4.WAV``; Song Meter ``SITE_20250131_054200.wav``; ``2025-01-31T05-42-00``; all also with a
time zone behind them, ``+0200`` or ``Z``. Headers: what AudioMoth comments, GUANO's ``Timestamp``,
and the origination of a broadcast wave (bext).
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO

LOOKED_FOR = (
    "no date and time in the name (like 20250131_054200, 2025-01-31T05-42-00 or 5E90A4D4.WAV) and "
    "none in a WAV header (AudioMoth, GUANO, bext)"
)
"""What a recording without a clock time lacks, in words."""

_HOURS = "(?:0[0-9]|1[0-4])"
# A minus with two digits behind it is more often a number that counts recordings.
_ZONE = rf"Z|[+-]{_HOURS}:?(?:00|15|30|45)|[+]{_HOURS}"
_NAME = re.compile(
    r"(?<![0-9])((?:19|20)[0-9]{2})([-_.]?)([0-9]{2})\2([0-9]{2})[ _T$-]"
    r"([0-9]{2})([-_.:]?)([0-9]{2})\6([0-9]{2})(?:[.]([0-9]{3}|[0-9]{6}))?(?![0-9])"
    rf"(?:({_ZONE})(?![0-9A-Za-z]))?"
)
# With a letter at least: digits alone are as often a number that counts recordings.
_SECONDS_SINCE_1970 = re.compile(r"(?=.*[A-F])[5-7][0-9A-F]{7}")
_AUDIOMOTH = re.compile(
    rb"Recorded at ([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{3}))? "
    rb"([0-9]{2})/([0-9]{2})/([0-9]{4}) \(UTC(?:([+-])([0-9]{1,2})(?::([0-9]{2}))?)?\)"
)
_BEXT = re.compile(rb"((?:19|20)[0-9]{2}).([0-9]{2}).([0-9]{2})([0-9]{2}).([0-9]{2}).([0-9]{2})")
_GUANO = re.compile(r"^Timestamp:\s*(\S.*?)\s*$", re.MULTILINE)

_LARGEST_CHUNK = 1 << 20
_MOST_CHUNKS = 1000


def start_of(path: Path) -> datetime | None:
    """When a recording began, with its time zone where that is known; None if nothing says it.

    The name comes first. A time zone that it lacks is the header's, if both say the same time.
    """
    named = _named(path.name)
    if named is not None and named.tzinfo is not None:
        return named
    written = _written(path)
    if named is None or (
        written is not None
        and written.replace(tzinfo=None, microsecond=0) == named.replace(microsecond=0)
    ):
        return written
    return named


def _named(name: str) -> datetime | None:
    """The first date and time in a file's name.

    >>> _named("SITE_20250131_054200.wav"), _named("2025-01-31T05-42-00Z.flac").tzname()
    (datetime.datetime(2025, 1, 31, 5, 42), 'UTC')
    """
    stem, _, suffix = name.rpartition(".")
    if suffix.lower() == "wav" and _SECONDS_SINCE_1970.fullmatch(stem):
        return datetime.fromtimestamp(int(stem, 16), UTC)
    for match in _NAME.finditer(stem or name):
        year, _, month, day, hour, _, minute, second, fraction, zone = match.groups()
        with suppress(ValueError):  # 20251399_256199 is another number
            moment = _datetime(year, month, day, hour, minute, second)
            moment = moment.replace(microsecond=int((fraction or "0").ljust(6, "0")))
            return moment if zone is None else moment.replace(tzinfo=_zone(zone))
    return None


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _written(path: Path) -> datetime | None:
    """What the header of a WAV file says, the most exact of its places first."""
    found: dict[bytes, datetime] = {}
    with suppress(OSError), open(path, "rb") as file:
        for name, content in _chunks(file):
            read = {b"guan": _guano, b"LIST": _audiomoth, b"bext": _bext}[name]
            with suppress(ValueError, OverflowError):  # 00:00:00 00/00/0000 is no time
                moment = read(content)
                if moment is not None and 1900 <= moment.year < 2200:
                    found.setdefault(name, moment)
    return next((found[name] for name in (b"guan", b"LIST", b"bext") if name in found), None)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a RIFF or RF64 file that may say when it was recorded, wherever they are."""
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        return
    of_data = None
    for _ in range(_MOST_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return
        name, size = header[:4], struct.unpack("<I", header[4:])[0]
        start = file.tell()
        if name == b"ds64":
            sizes = file.read(16)
            of_data = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else None
        elif name == b"data" and size == 0xFFFFFFFF and of_data is not None:
            size = of_data
        elif name in (b"guan", b"LIST", b"bext"):
            yield name, file.read(min(size, _LARGEST_CHUNK))
        if start + size >= 1 << 62:
            return
        file.seek(start + size + size % 2)


def _guano(content: bytes) -> datetime | None:
    match = _GUANO.search(content.decode("utf-8", "replace"))
    return None if match is None else datetime.fromisoformat(match[1])


def _audiomoth(content: bytes) -> datetime | None:
    match = _AUDIOMOTH.search(content)
    if match is None:
        return None
    hour, minute, second, thousandths, day, month, year = match.groups()[:7]
    sign, hours, minutes = match.groups()[7:]
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    return _datetime(year, month, day, hour, minute, second).replace(
        microsecond=1000 * int(thousandths or 0),
        tzinfo=timezone(-offset if sign == b"-" else offset),
    )


def _bext(content: bytes) -> datetime | None:
    match = _BEXT.match(content[320:338])
    return None if match is None else _datetime(*match.groups())


def _datetime(*parts: str | bytes) -> datetime:
    """Of year, month, day, hour, minute and second in digits; ValueError if there is none such."""
    year, month, day, hour, minute, second = map(int, parts)
    return datetime(year, month, day, hour, minute, second)
