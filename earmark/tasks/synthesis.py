"""``synth``: a labelled data set of scenes, mixed from isolated sounds."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from earmark.audio import duration_seconds as recording_seconds
from earmark.audio import find_recordings, write
from earmark.config import explain
from earmark.data.labels import find_clips
from earmark.data.scenes import (
    Background,
    SceneSettings,
    Sound,
    mix_scene,
    scene_rng,
    sound_from_file,
)
from earmark.errors import UserError
from earmark.events import Event
from earmark.formats.durations import write_durations
from earmark.formats.label_table import LabelRow, weak_table
from earmark.formats.sounds import SoundRow, read_sounds
from earmark.formats.strong import event_cells, write_strong
from earmark.formats.tables import TAB, write_table
from earmark.formats.weak import write_weak
from earmark.tasks.progress import counted, in_short, progress
from earmark.tasks.recordings import made_folder
from earmark.writing import filling

_DEFAULTS = SceneSettings()


@dataclass(frozen=True, slots=True)
class SynthReport:
    """What was made.

    Attributes:
        out: the folder.
        scenes: how many.
        events: how many events of each class.
        sounds: how many sounds could be drawn from.
        too_short: the sounds that were left out because they are.
    """

    out: Path
    scenes: int
    events: Mapping[str, int]
    sounds: int
    too_short: tuple[str, ...]

    def text(self) -> str:
        """What was made, in a few lines."""
        lines = [f"{counted(self.scenes, 'scene')} of {counted(self.sounds, 'sound')}: {self.out}"]
        lines += [f"  {label}: {counted(count, 'event')}" for label, count in self.events.items()]
        if self.too_short:
            lines.append(f"too short: {in_short(self.too_short)}")
        return "\n".join(lines)


def synth(
    sounds_table: Path,
    *,
    audio: Path,
    out: Path,
    scenes: int,
    seed: int = 0,
    folds: str | None = None,
    duration_seconds: float = _DEFAULTS.duration_seconds,
    rate_hz: int = _DEFAULTS.rate_hz,
    events: tuple[int, int] = (_DEFAULTS.events_min, _DEFAULTS.events_max),
    snr_db: tuple[float, float] = (_DEFAULTS.snr_db_min, _DEFAULTS.snr_db_max),
    min_event_seconds: float = _DEFAULTS.min_event_seconds,
    max_event_seconds: float = _DEFAULTS.max_event_seconds,
    class_weights: Sequence[str] = (),
    class_ratio: float = _DEFAULTS.class_ratio,
    background: str = _DEFAULTS.background,
    background_db: tuple[float, float] = (_DEFAULTS.background_db_min, _DEFAULTS.background_db_max),
    background_audio: Path | None = None,
) -> SynthReport:
    """Mixes isolated sounds into labelled scenes.

    They go into ``out``: ``audio/``, ``weak.tsv``, ``strong.tsv``, ``durations.tsv``, and
    ``sources.tsv``, which says what each event is an excerpt of. The tables come last, so that a
    folder with them is complete. A scene depends on the seed and on its number alone, not on how
    many there are.

    Args:
        sounds_table: isolated sounds: ``filename``, ``event_label`` and, optionally, ``fold`` or
            ``group``, ``active_start_s`` and ``active_end_s``.
        audio: the folder of the sounds.
        out: a folder that doesn't exist, or is empty.
        scenes: how many.
        seed: of every draw.
        folds: values of the fold column, else of the group column, to draw from, with commas.
        duration_seconds: of a scene.
        rate_hz: of the scenes.
        events: least and most events a scene.
        snr_db: range of an event's level above the background.
        min_event_seconds: shorter sounds are left out.
        max_event_seconds: of longer sounds an excerpt is taken.
        class_weights: how often classes are drawn, as class=weight; 1 for one that isn't named.
        class_ratio: how many times as often the first class is drawn as the last.
        background: the noise: white, pink, brown, or mixed, which draws one of them a scene.
        background_db: range of the background's RMS re full scale.
        background_audio: recordings for backgrounds, instead of noise; that lies 40 dB below.

    Raises:
        UserError: ``out`` isn't empty, a sound isn't found, or the settings can't be met.
    """
    if scenes < 1 or seed < 0:
        raise UserError(f"need --scenes >= 1 and --seed >= 0, came as {scenes} and {seed}")
    values: dict[str, Any] = {
        "duration_seconds": duration_seconds,
        "rate_hz": rate_hz,
        "min_event_seconds": min_event_seconds,
        "max_event_seconds": max_event_seconds,
        "class_weights": _weights(class_weights),
        "class_ratio": class_ratio,
        "background": background,
    }
    for name, ends in {"events": events, "snr_db": snr_db, "background_db": background_db}.items():
        values[f"{name}_min"], values[f"{name}_max"] = ends
    try:
        settings = SceneSettings.model_validate(values)
    except ValidationError as error:
        raise UserError(_as_options(explain(error, SceneSettings))) from error
    _check_empty(out)
    sounds, too_short = _find_sounds(sounds_table, audio, folds, settings)
    backgrounds = _find_backgrounds(background_audio, settings)

    with filling(out):
        counts = mix_data_set(sounds, settings, out, scenes, seed, backgrounds)
    return SynthReport(out, scenes, counts, len(sounds), too_short)


def mix_data_set(
    sounds: Sequence[Sound],
    settings: SceneSettings,
    out: Path,
    scenes: int,
    seed: int,
    backgrounds: Sequence[Background] = (),
) -> Mapping[str, int]:
    """Scenes and their tables in an empty folder, see ``synth``; gives the events a class."""
    _check_empty(out)
    made_folder(out / "audio")
    digits = max(5, len(str(scenes - 1)))
    events: dict[str, list[Event]] = {}
    sources = [("filename", "source", "onset", "offset", "event_label", "snr_db", "background")]
    with progress("Mixing scenes", scenes) as advance:
        for index in range(scenes):
            scene = mix_scene(sounds, settings, scene_rng(seed, index), backgrounds)
            # Named after the folder, so that sets of scenes can be searched together.
            name = f"{out.name}_{index:0{digits}}.flac"
            write(out / "audio" / name, scene.samples, settings.rate_hz)
            events[name] = scene.events
            for item in scene.mixed:
                onset, offset, label = event_cells(item.event)
                snr_db = f"{item.snr_db:.2f}"
                sources.append((name, item.source, onset, offset, label, snr_db, scene.background))
            advance()
    write_table(out / "sources.tsv", sources, TAB)
    seconds = settings.samples / settings.rate_hz
    write_durations(out / "durations.tsv", dict.fromkeys(events, seconds))
    write_strong(out / "strong.tsv", events.items())
    write_weak(
        out / "weak.tsv",
        ((name, sorted({event.label for event in of}), None) for name, of in events.items()),
    )
    counts = Counter(event.label for of in events.values() for event in of)
    return {label: counts[label] for label in sorted({sound.label for sound in sounds})}


def _as_options(complaint: str) -> str:
    """What is wrong with settings, with the options that they were given by.

    >>> _as_options("snr_db needs its lower end first"), _as_options("rate_hz: must be ...")
    ('--snr-db needs its lower end first', '--rate-hz: must be ...')
    """
    options = {re.sub("_(min|max)$", "", name) for name in SceneSettings.model_fields}
    names = rf"\b({'|'.join(options)})(?:_min|_max)?\b"
    return re.sub(names, lambda found: f"--{found[1].replace('_', '-')}", complaint)


def _weights(assignments: Sequence[str]) -> dict[str, float]:
    """Weights of ``class=weight`` texts; a class may hold an equals sign, a weight may not."""
    weights = {}
    for assignment in assignments:
        label, _, weight = assignment.rpartition("=")
        try:
            weights[label] = float(weight)
        except ValueError:
            label = ""
        if not label:
            raise UserError(f"--class-weights takes class=weight, came as '{assignment}'")
    return weights


def _check_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("scenes need an empty folder; remove it or name another", where=out)


def _find_sounds(
    table: Path, audio: Path, folds: str | None, settings: SceneSettings
) -> tuple[list[Sound], tuple[str, ...]]:
    """The sounds to draw from, and the names of those that are too short."""
    rows = _in_folds(table, read_sounds(table), folds)
    named = [LabelRow(row.filename, frozenset([row.label]), line=row.line) for row in rows]
    clips, missing = find_clips(weak_table(table, named), audio)
    if missing:
        line = next(row.line for row in rows if row.filename == missing[0])
        raise UserError(
            f"'{missing[0]}' is not in {audio} ({len(missing)} such files); "
            "add them or remove their rows",
            where=table,
            line=line,
        )
    sounds, too_short = [], []
    shortest = settings.min_event_seconds
    for row, clip in zip(rows, clips, strict=True):
        start, stop = row.active_start_seconds or 0.0, row.active_end_seconds
        length = (recording_seconds(clip.path) if stop is None else stop) - start
        if round(length * settings.rate_hz) < round(shortest * settings.rate_hz):
            too_short.append(row.filename)
            continue
        sounds.append(
            sound_from_file(clip.path, row.label, row.filename, settings.rate_hz, start, stop)
        )
    lost = sorted({row.label for row in rows} - {sound.label for sound in sounds})
    if lost:
        raise UserError(
            f"every sound of class '{lost[0]}' is shorter than {shortest:g} s; lower the limit, "
            "or remove the class",
            where=table,
        )
    return sounds, tuple(too_short)


def _in_folds(table: Path, rows: list[SoundRow], folds: str | None) -> list[SoundRow]:
    if folds is None:
        if not rows:
            raise UserError("scenes need at least one sound, the table has none", where=table)
        return rows
    wanted = {fold.strip() for fold in folds.split(",")}
    by_fold = any(row.fold for row in rows)
    fold_of = [row.fold if by_fold else row.group for row in rows]
    known = sorted({fold for fold in fold_of if fold})
    if not known:
        raise UserError(
            "--folds needs a column 'fold' or 'group', and the table has none; leave it out",
            where=table,
        )
    if unknown := sorted(wanted.difference(known)):
        raise UserError(
            f"no sound is of fold '{unknown[0]}'; there are: {', '.join(known)}", where=table
        )
    return [row for row, fold in zip(rows, fold_of, strict=True) if fold in wanted]


def _find_backgrounds(audio: Path | None, settings: SceneSettings) -> list[Background]:
    if audio is None:
        return []
    found = []
    for name, path in find_recordings([audio]):
        seconds = recording_seconds(path)
        if seconds < settings.duration_seconds:
            raise UserError(
                f"a background must last a scene, {settings.duration_seconds:g} s, lasts "
                f"{seconds:g} s; remove it or shorten the scenes",
                where=path,
            )
        found.append(Background(path, name, seconds))
    return found
