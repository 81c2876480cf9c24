"""Every parser of what comes from outside, as a function of a file's bytes, and seeds for each.

A parser gives a right result or a UserError of one line. What else it may do is a defect: these
functions let it out.
"""

import io
import json
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from earmark import audio
from earmark.clock_times import start_of
from earmark.config import ClassDecoding, parse_assignments, read_toml, settings_from
from earmark.errors import UserError
from earmark.features import Normaliser
from earmark.formats.audioset import read_class_names
from earmark.formats.durations import read_durations
from earmark.formats.events import read_events
from earmark.formats.labels import LABEL_FORMATS, read_labels
from earmark.formats.scores import read_scores
from earmark.formats.sounds import read_sounds
from earmark.formats.strong import write_strong
from earmark.formats.tables import read_table, write_table
from earmark.formats.tags import read_tags
from earmark.formats.weak import write_weak
from earmark.model.bundle import TrainingSummary, describe, load, read_description, save

CLASSES = ("Air horn, truck horn", "Zug, ĝ")

TABLES = {
    "weak": 'filename\tevent_labels\tgroup\na.wav\t"Air horn, truck horn",Car\tx\nb.wav\t\ty\n',
    "segments": "file,onset,offset,event_labels\na,0,1.5,Car;Bus\nb,,,\n",
    "strong": "filename\tonset\toffset\tevent_label\tscore\na\t0\t.5e1\tCar\t0.3\nb\t\t\t\t\n",
    "wide": "filename,Car,Bus\na.wav,1,0\nb.wav,0,0\n",
    "esc50": "filename,fold,target,category\n1-2.wav,1,0,dog\n2-2.wav,2,1,cat\n",
    "dcase2017": '-0RWZT-miFs,1.0,11.0,"Car, Bus, coach","/m/1,/m/2"\nx0RWZT-miFs,0,1,Car,/m/1\n',
    "dcase2017_strong": "-0RWZT-miFs_1.000_11.000.wav\t0.0\t2.5\tCar\n",
    "audioset": '# YTID, ...\n-0RWZT-miFs, 420.000, 430.000, "/m/03fwl,/m/07q4ntr"\n',
    "audioset_strong": "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    "-0RWZT-miFs_420000\t0.1\t0.2\t/m/03fwl\n",
    "class_names": "index,mid,display_name\n0,/m/03fwl,Goat\n1,/m/x,=1+1\n",
    "durations": "filename\tduration\na\t10.0\n",
    "scores": "onset\toffset\tCar\tBus\n0.0\t0.5\t0.1\t1e-9\n0.5\t1\t0\t1\n",
    "raven": "Selection\tView\tBegin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tSpecies\n"
    "1\tWaveform 1\t61\t62.5\tC:\\a\\b.wav\t1\tEATO\n"
    "1\tSpectrogram 1\t61\t62.5\tC:\\a\\b.wav\t1\tEATO\n"
    "2\tSpectrogram 1\t99\t100\tC:\\a\\c.wav\t9\tRBNU\n",
    "sounds": "file,class,fold,active_start_s,active_end_s\na,dog,1,0.1,0.9\nb,cat,2,,\n",
    "settings": '[features]\nrate_hz = 8_000\nhigh_hz = 4e3\n[network]\nrecurrent = "none"\n',
}

TRACK = '0.5\t1.25\tKäuz, "alt"\n\\\t1484.6\t-1.0\n2\t2\tpoint\textra\n'
RECORDS: dict[str, list[dict[str, object]]] = {
    "events": [
        {"filename": "a.wav", "onset": 0.5, "offset": 2, "event_label": "Zug, ĝ", "score": None},
        {"filename": "b.wav", "onset": None, "offset": None, "event_label": None, "score": None},
    ],
    "tags": [{"filename": "a", "event_labels": ["Car", "Horn, truck"]}],
    "wide": [{"file": "a", "Car": True, "Bus": False}, {"file": "b", "Car": True, "Bus": True}],
}


def _tables_agree(path: Path) -> None:
    """What is read and written is read back, and the labels with it."""
    table = read_table(path)
    again = path.with_name("again")
    rows = [row.cells for row in table.records]
    write_table(again, rows, table.delimiter)
    assert [row.cells for row in read_table(again).records] == rows


def _labels(path: Path) -> None:
    if not path.read_bytes()[:9].startswith(b"-"):
        _tables_agree(path)
    _labels_agree(path)


def _labels_agree(path: Path) -> None:
    """Read in any format, labels are read back from what is written of them."""
    for name in ("auto", *LABEL_FORMATS):
        if name == "folders":
            continue
        try:
            table = read_labels(path, name)
        except UserError:
            if name == "auto":
                raise
            continue
        again = path.with_name("labels.tsv")
        if table.strong:
            write_strong(again, [(row.filename, row.events or ()) for row in table.rows])
        elif all(row.start_seconds is None for row in table.rows):
            write_weak(again, [(row.filename, row.labels, row.group) for row in table.rows])
        else:
            continue
        if table.rows and len({row.filename for row in table.rows}) == len(table.rows):
            found = {row.filename: row.labels for row in read_labels(again).rows}
            assert found == {row.filename: row.labels for row in table.rows}


def _settings(path: Path) -> None:
    settings_from(read_toml(path), where=path)


def _assignments(path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    settings_from(parse_assignments(text.split("\n")))


def _audio(path: Path) -> None:
    found = audio.probe(path)
    assert 1 <= found.rate_hz <= audio.HIGHEST_RATE_HZ
    rate_hz = 8000
    part = audio.read(path, rate_hz, 0.0, 2.0)
    assert part.dtype == np.float32
    assert part.size <= 2 * rate_hz
    assert np.isfinite(part).all()
    total = 0
    for block in audio.blocks(path, rate_hz, 1.0):
        assert np.isfinite(block).all()
        assert block.size <= rate_hz
        total += block.size
        if total > 30 * rate_hz:
            return


def _description(path: Path) -> None:
    read_description(path.parent)


def _wav_header(path: Path) -> None:
    found = start_of(path)
    assert found is None or found.isoformat()


def _weights(path: Path) -> None:
    (path.parent / "model.json").write_bytes(model_files()[0])
    networks = load(path.parent).networks
    assert all(bool(p.isfinite().all()) for network in networks for p in network.parameters())


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "labels": ("table.txt", _labels),
    "class_names": ("table.txt", read_class_names),
    "audacity": ("table.txt", _labels_agree),
    "json": ("table.json", _labels_agree),
    "jsonl": ("table.jsonl", _labels_agree),
    "parquet": ("table.parquet", _labels_agree),
    "clock": ("sound.wav", _wav_header),
    "durations": ("table.txt", read_durations),
    "events": ("table.txt", read_events),
    "scores": ("table.txt", read_scores),
    "sounds": ("table.txt", read_sounds),
    "tags": ("table.txt", read_tags),
    "settings": ("settings.toml", _settings),
    "assignments": ("settings.toml", _assignments),
    "description": ("model.json", _description),
    "weights": ("model.safetensors", _weights),
    "wav": ("sound.wav", _audio),
    "flac": ("sound.flac", _audio),
    "ogg": ("sound.ogg", _audio),
    "mp3": ("sound.mp3", _audio),
}


def attempt(name: str, content: bytes) -> bool:
    """Whether a parser takes the bytes of a file; what is neither yes nor no gets out."""
    filename, reader = READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / filename
        path.write_bytes(content)
        try:
            reader(path)
        except UserError as error:
            said = str(error)
        else:
            return True
    assert said.isprintable()
    return False


@cache
def seeds(name: str) -> list[bytes]:
    """Files that a parser takes, to start from."""
    if name in ("wav", "flac", "ogg", "mp3"):
        return _sounds(name)
    if name == "clock":
        return [_header()]
    if name == "audacity":
        return [TRACK.encode()]
    if name in ("json", "jsonl", "parquet"):
        return [_records(name, records) for records in RECORDS.values()]
    if name == "description":
        return [model_files()[0]]
    if name == "weights":
        return [model_files()[1]]
    if name == "settings":
        return [TABLES["settings"].encode()]
    if name == "assignments":
        return [b"training.epochs=5\nnetwork.time_pooling=[1,1,2]\ntraining.balance=false"]
    return [text.encode() for key, text in TABLES.items() if key != "settings"]


def _records(kind: str, records: list[dict[str, object]]) -> bytes:
    if kind == "parquet":
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(records), file)
        return file.getvalue()
    lines = [json.dumps(record) for record in records]
    return (f"[{', '.join(lines)}]" if kind == "json" else "\n".join(lines)).encode()


def _header() -> bytes:
    """What recorders write into a WAV file beside its samples."""
    comment = b"Recorded at 05:42:00 31/01/2025 (UTC+1) by AudioMoth"
    chunks = {
        b"bext": bytes(320) + b"2025-01-3105:42:00" + bytes(264),
        b"LIST": b"INFOICMT" + struct.pack("<I", len(comment)) + comment,
        b"data": bytes(8),
        b"guan": b"GUANO|Version: 1.0\nTimestamp: 2025-01-31T05:42:00+01:00\n",
    }
    content = b"WAVE" + b"".join(
        name + struct.pack("<I", len(chunk)) + chunk + bytes(len(chunk) % 2)
        for name, chunk in chunks.items()
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _sounds(suffix: str) -> list[bytes]:
    noise = np.random.default_rng(0).normal(0, 0.1, (1200, 2)).astype(np.float32)
    if suffix == "mp3":
        file = io.BytesIO()
        with av.open(file, "w", format="mp3") as container:
            stream = container.add_stream("libmp3lame", rate=16_000, layout="mono")
            frame = av.AudioFrame.from_ndarray(noise.T[:1].copy(), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return [file.getvalue()]
    found = []
    subtypes = {"wav": ("PCM_16", "FLOAT", "ULAW", "MS_ADPCM"), "flac": ("PCM_16",)}
    for subtype in subtypes.get(suffix, ("VORBIS", "OPUS")):
        file = io.BytesIO()
        soundfile.write(file, noise, 16_000, format=suffix.upper(), subtype=subtype)
        found.append(file.getvalue())
    return found


@cache
def model_files() -> tuple[bytes, bytes]:
    """``model.json`` and the weights of the smallest model."""
    settings = settings_from(
        {
            "features": {"mel_bands": 8},
            "network": {"filters": 2, "recurrent": "none", "layers_per_block": 1},
        }
    )
    summary = TrainingSummary(
        recipe="none",
        seed=0,
        epochs=1,
        precision="float32",
        clips=3,
        clips_of_class=dict.fromkeys(CLASSES, 3),
        weights="of nothing",
        thresholds="untuned",
        tuned_on={},
        validation={},
        seconds=1.5,
    )
    rule = ClassDecoding(
        tag_threshold=0.3,
        threshold=0.5,
        low_threshold=0.2,
        max_gap_seconds=0.2,
        min_event_seconds=0.1,
    )
    normaliser = Normaliser(np.linspace(-3, -1, 8), np.full(8, 0.5))
    made = describe(CLASSES, settings, [rule] * 2, normaliser, 240, 1, summary, "CC BY 4.0")
    with tempfile.TemporaryDirectory() as name:
        save(Path(name), made, [made.network().state_dict()], "")
        text = json.dumps(
            json.loads((Path(name) / "model.json").read_text()), separators=(",", ":")
        )
        return text.encode(), (Path(name) / "model.safetensors").read_bytes()
