"""Damaged and forged files of every kind: a right result or a clear error, and nothing else.

    FUZZ_EXAMPLES=20000 python -m pytest tests/fuzz/test_mutations.py

looks for longer.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parsers import READERS, attempt, seeds

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 40))

NUMBERS = [0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
BYTES = [
    *(
        n.to_bytes(width, order)
        for n in NUMBERS
        for width in (1, 2, 4, 8)
        for order in ("little", "big")
        if n < 256**width
    ),
    *(b"\t", b",", b'"', b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80"),
    *(
        b"nan",
        b"inf",
        b"-1",
        b"1e999",
        b"0.0",
        b"9" * 400,
        b"=1+1",
        b"../../x",
        b"/etc/passwd",
        b"-0",
    ),
    *(b"[", b"[" * 3000, b"{", b'{"a":' * 3000, b"]", b"}", b"null", b"true", b"1e5", b"\\ud800"),
    *("猫\u2028\u202e\x1b[2J".encode(), b";", b"Y", b" ", b"/m/1,/m/1", b"members/.."),
]


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A seed with some stretches cut, repeated, overwritten or put in."""
    content = draw(st.sampled_from(seeds(name)))
    for _ in range(draw(st.integers(1, 4))):
        # What headers say stands near the start.
        near = draw(st.booleans())
        place = draw(st.integers(0, min(len(content), 64) if near else len(content)))
        length = draw(st.integers(0, 16))
        piece = draw(st.one_of(st.sampled_from(BYTES), st.binary(max_size=8)))
        match draw(st.sampled_from(["cut", "repeat", "overwrite", "insert", "end"])):
            case "cut":
                content = content[:place] + content[place + length :]
            case "repeat":
                content = content[: place + length] + content[place:]
            case "overwrite":
                content = content[:place] + piece + content[place + len(piece) :]
            case "insert":
                content = content[:place] + piece + content[place:]
            case "end":
                content = content[:place]
    return content


@pytest.mark.parametrize("name", READERS)
def test_what_is_well_formed_is_taken(name: str) -> None:
    assert any(attempt(name, seed) for seed in seeds(name))
    if name in ("wav", "flac", "ogg", "mp3", "settings", "description", "weights"):
        assert all(attempt(name, seed) for seed in seeds(name))


@pytest.mark.parametrize("name", READERS)
@settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(name: str, data: st.DataObject) -> None:
    attempt(name, data.draw(mutated(name)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("description", b"[" * 100_000),
        ("description", b'{"a":' * 100_000),
        ("settings", b"a = " + b"[" * 100_000),
        ("settings", b"a = " + b"9" * 5000),
        ("assignments", b"training.epochs=" + b"[" * 100_000),
        ("assignments", b"training.epochs=" + b"9" * 5000),
        ("labels", b'filename,event_labels\n"' + b"a" * 100_000),
    ],
)
def test_texts_without_bottom_are_refused(name: str, content: bytes) -> None:
    assert not attempt(name, content)


CELL = st.text(max_size=6) | st.sampled_from(
    ["=1+1", "+1", "-1", "@x", "'", "a\nb", "猫", "\u202e", ""]
)


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    header=st.sampled_from([seed.split(b"\n")[0].decode() for seed in seeds("labels")]),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=6), max_size=4),
)
def test_any_text_below_any_header(header: str, rows: list[list[str]]) -> None:
    delimiter = "\t" if "\t" in header else ","
    width = len(header.split(delimiter))
    quoted = ['"' + cell.replace('"', '""') + '"' for row in rows for cell in row]
    lines = [
        delimiter.join((quoted[at:] + quoted + ['""'] * width)[:width]) for at in range(len(rows))
    ]
    attempt("labels", "\n".join([header, *lines]).encode("utf-8", "replace"))
