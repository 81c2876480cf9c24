"""Pictures: of a recording its spectrogram, frame probabilities and events (paper, Fig. 2), and of
a training its loss and scores, epoch by epoch."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earmark.errors import UserError
from earmark.events import Event
from earmark.scores import ScoreTrack
from earmark.timeline import FrameClock
from earmark.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIX = ".png"
MOST_COLUMNS = 900
"""About the pixels of a row: of more columns, some would not be drawn at all."""
MOST_CLASSES = 12
LONGEST_NAME, LONGEST_TITLE = 28, 100

DETECTED, REFERENCE = "#0072B2", "#E69F00"  # of Okabe and Ito's palette for all kinds of sight
GUIDE = "#D0D0D0"
_PALETTE = (DETECTED, REFERENCE, "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_LINES: tuple[Any, ...] = ("-", "--")
_DPI, _INCHES = 100, (12, 9)
# 80 dB as a difference of natural logarithms of magnitudes.
_RANGE = 80 / 20 * np.log(10)


class Envelope:
    """The largest values of frames over time, in at most ``most`` columns however many come.

    A column covers ``step`` frames, a power of 2; what comes out does not depend on the blocks
    in which frames came.

    Args:
        clock: that of the frames, the first of which is the recording's first.
    """

    def __init__(self, clock: FrameClock, most: int = MOST_COLUMNS) -> None:
        self.values: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.step = 1
        self._clock = clock
        self._most = most
        self._frames = 0

    @property
    def clock(self) -> FrameClock:
        """The clock of the columns."""
        return self._clock.coarser(self.step)

    def add(self, frames: NDArray[np.float32]) -> None:
        """Takes in the next frames (t, N)."""
        if not len(frames):
            return
        begun = self._frames % self.step
        starts = np.arange(-begun, len(frames), self.step).clip(0)
        columns = np.maximum.reduceat(frames, starts, axis=0)
        if begun:
            columns[0] = np.maximum(columns[0], self.values[-1])
            self.values = self.values[:-1]
        self.values = np.concatenate([self.values, columns]) if len(self.values) else columns
        self._frames += len(frames)
        while len(self.values) > self._most:
            pairs = np.arange(0, len(self.values), 2)
            self.values = np.maximum.reduceat(self.values, pairs, axis=0)
            self.step *= 2


@dataclass(frozen=True, slots=True, eq=False)
class Spectrogram:
    """Features of a whole recording.

    Attributes:
        values: (T, F), log mel (natural logarithm of magnitudes) or MFCC.
        clock: when the frames sound.
        band_centres_hz: (F,) rising; None where the bands are coefficients.
    """

    values: NDArray[np.float32]
    clock: FrameClock
    band_centres_hz: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class TrainingCurve:
    """What a training logged of its epochs.

    Attributes:
        name: of the system; "" if it is the only one.
        numbers: of the epochs, from 1.
        losses: the mean loss of each.
        scores: the validation mAP of each; NaN where nothing was held out.
        kept: the epochs whose weights the model has.
    """

    name: str
    numbers: Sequence[int]
    losses: Sequence[float]
    scores: Sequence[float]
    kept: frozenset[int]


def draw(
    path: Path,
    spectrogram: Spectrogram,
    track: ScoreTrack,
    detected: Sequence[Event],
    reference: Sequence[Event] | None = None,
    title: str = "",
) -> None:
    """Draws ``figure`` into a PNG of 1200 x 900 pixels that appears whole or not at all.

    Raises:
        UserError: the file can't be written, or its name does not end in .png.
    """
    prepare(path)
    _write(path, figure(spectrogram, track, detected, reference, title))


def draw_curves(path: Path, curves: Sequence[TrainingCurve], title: str = "") -> None:
    """Draws ``curves_figure`` into a PNG as ``draw`` does."""
    prepare(path)
    _write(path, curves_figure(curves, title))


def _write(path: Path, picture: "Figure") -> None:
    content = _png(picture)
    with replacing(path) as part:
        part.write_bytes(content)


def prepare(path: Path) -> None:
    """Makes the folder of a picture; UserError where ``draw`` could not write one of this name."""
    if path.suffix.lower() != SUFFIX:
        raise UserError(f"a picture's name must end in {SUFFIX}; rename it", where=path)
    if path.is_dir():
        raise UserError("a picture goes to a file, but this is a folder", where=path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder can't be made: {error.strerror}", where=path.parent) from error


def figure(
    spectrogram: Spectrogram,
    track: ScoreTrack,
    detected: Sequence[Event],
    reference: Sequence[Event] | None = None,
    title: str = "",
) -> "Figure":
    """Three panels over one time axis: spectrogram, frame probabilities, events.

    Of more than ``MOST_CLASSES`` classes those with events are drawn, then those with the highest
    probabilities. Of longer recordings each column is the maximum of several frames.

    Args:
        spectrogram: of the whole recording.
        track: of the whole recording, from its first frame to its end.
        detected: events that were found.
        reference: events that are true; None where they are not known.
        title: taken literally, as are the names of classes.

    Raises:
        ValueError: the track is a part.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if track.end_seconds is None or track.start_frame:
        raise ValueError("a picture needs a track from the recording's start to its end")
    names, left_out = _choose(track, detected, reference or ())
    shown = {name: _shown(name, LONGEST_NAME) for name in names}
    title = _shown(title, LONGEST_TITLE)
    literal = _literal([title, *shown.values()])
    lanes = 0.4 + 0.6 * len(names) / MOST_CLASSES
    picture = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    top, middle, bottom = picture.subplots(
        3, 1, sharex=True, height_ratios=[1.0, lanes, lanes]
    ).tolist()
    picture.suptitle(title, fontsize=13, **literal)
    _draw_spectrogram(top, spectrogram, track.end_seconds)
    _draw_probabilities(middle, track, names)
    _draw_events(bottom, names, detected, reference)
    for axes in (middle, bottom):
        rows = [_row(names, name) + 0.5 for name in names]
        axes.set_yticks(rows, [shown[name] for name in names], **literal)
        axes.set_ylim(0, len(names))
        axes.tick_params(axis="y", length=0)
        for line in range(1, len(names)):
            axes.axhline(line, color=GUIDE, linewidth=0.8, zorder=0)
    middle.set_title(f"frame probabilities, from 0 to 1 in each row{left_out}", **_PANEL_TITLE)
    bottom.set_title("events", **_PANEL_TITLE)
    bottom.set_xlabel("time (s)")
    bottom.set_xlim(0, track.end_seconds)
    return picture


def curves_figure(curves: Sequence[TrainingCurve], title: str = "") -> "Figure":
    """Two panels over the epochs: loss, and the validation mAP if anything was held out.

    Rings mark the epochs whose weights the model has.

    Args:
        curves: of at least one system; ``MOST_CLASSES`` of them are drawn.
        title: taken literally, as are the names of systems.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [_shown(curve.name, LONGEST_NAME) for curve in curves[:MOST_CLASSES]]
    title = _shown(title, LONGEST_TITLE)
    literal = _literal([title, *shown])
    picture = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    panels = [("loss of the training clips", "loss", [curve.losses for curve in curves])]
    if any(np.isfinite(curve.scores).any() for curve in curves):
        what = "mean average precision of the tags of the validation clips"
        panels.append((what, "mAP", [curve.scores for curve in curves]))
    left = len(curves) - len(shown)
    remark = f"; {left} of {len(curves)} systems left out" if left else ""
    every = picture.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (what, unit, values) in zip(every, panels, strict=True):
        for place, curve in enumerate(curves[:MOST_CLASSES]):
            colour, line = _PALETTE[place % len(_PALETTE)], _LINES[place // len(_PALETTE)]
            style: dict[str, Any] = {"color": colour, "marker": ".", "label": shown[place]}
            axes.plot(curve.numbers, values[place], linestyle=line, **style)
            pairs = zip(curve.numbers, values[place], strict=True)
            kept = [(number, value) for number, value in pairs if number in curve.kept]
            if kept:
                ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none"}
                axes.plot(*zip(*kept, strict=True), "o", color=colour, label="", **ring)
        axes.set_title(f"{what}{remark}", **_PANEL_TITLE)
        axes.set_ylabel(unit)
        axes.grid(color=GUIDE, linewidth=0.8)
    every[-1].set_xlabel("epoch")
    every[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    picture.suptitle(title, fontsize=13, **literal)
    _curves_legend(picture, shown, curves)
    return picture


def _curves_legend(
    picture: "Figure", shown: Sequence[str], curves: Sequence[TrainingCurve]
) -> None:
    """Which line is of which system, if there are several, and what rings mean."""
    from matplotlib.lines import Line2D

    handles = []
    if len(curves) > 1:
        for place, name in enumerate(shown):
            colour, line = _PALETTE[place % len(_PALETTE)], _LINES[place // len(_PALETTE)]
            handles.append(Line2D([], [], color=colour, linestyle=line, label=name))
    if any(curve.kept for curve in curves):
        ring: dict[str, Any] = {"marker": "o", "markersize": 11, "markerfacecolor": "none"}
        what = "epochs whose weights the model has"
        handles.append(Line2D([], [], color="#404040", linestyle="", label=what, **ring))
    if handles:
        labels = [str(handle.get_label()) for handle in handles]
        # Given one by one: a legend by itself leaves out names that start with an underscore.
        legend = picture.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        for text in legend.get_texts():
            text.set(**_literal(labels))


_PANEL_TITLE: dict[str, Any] = {"loc": "left", "fontsize": 10}


def _choose(
    track: ScoreTrack, detected: Iterable[Event], reference: Iterable[Event]
) -> tuple[list[str], str]:
    """The classes to draw, the model's in its order before others, and a remark on the rest."""
    peaks = track.probabilities.max(axis=0, initial=0.0).tolist()
    peak_of = dict(zip(track.class_names, peaks, strict=True))
    occurring = {event.label for events in (detected, reference) for event in events}
    unknown = sorted(occurring - peak_of.keys())
    names = [*track.class_names, *unknown]
    first = sorted(names, key=lambda name: (name not in occurring, -peak_of.get(name, 0.0)))
    chosen = set(first[:MOST_CLASSES])
    left = [name for name in names if name not in chosen]
    if not left:
        return names, ""
    with_events = len(occurring - chosen)
    remark = f"; {len(left)} of {len(names)} classes left out"
    remark += f", {with_events} of them with events" if with_events else ""
    return [name for name in names if name in chosen], remark


def _row(names: Sequence[str], name: str) -> int:
    """The lower edge of a class's row; the first class is on top."""
    return len(names) - 1 - names.index(name)


def upper_levels(log_mel: NDArray[np.float32]) -> tuple[float, float]:
    """Between which levels a spectrogram has colours: its upper 80 dB, or less if it is flat."""
    high = float(log_mel.max())
    return max(float(log_mel.min()), high - _RANGE), high


def _draw_spectrogram(axes: "Axes", spectrogram: Spectrogram, end_seconds: float) -> None:
    envelope = Envelope(spectrogram.clock)
    envelope.add(spectrogram.values)
    columns, bands = envelope.values.shape
    edges = envelope.clock.edges_seconds(columns, end_seconds)
    centres = spectrogram.band_centres_hz
    if centres is None:
        # The first coefficient is the level; by its extremes the others would look all alike.
        low, high = np.percentile(envelope.values, [2, 98]).tolist()
        what = "MFCC"
        axes.set_ylabel("coefficient")
    else:
        low, high = upper_levels(envelope.values)
        what = "log mel spectrogram, the upper 80 dB"
        axes.set_yticks(*_frequency_ticks(centres))
        axes.set_ylabel("frequency")
    axes.pcolormesh(
        edges,
        np.arange(bands + 1) - 0.5,
        envelope.values.T,
        cmap="magma",
        vmin=low,
        vmax=high,
        antialiased=False,
    )
    axes.set_title(what, **_PANEL_TITLE)


def _frequency_ticks(centres_hz: NDArray[np.float64]) -> tuple[list[float], list[str]]:
    """Bands, where need be between two, and their frequencies: octaves of 1 kHz with room."""
    bands = np.arange(len(centres_hz))
    places: list[float] = []
    labels: list[str] = []
    for hz in 1000.0 * 2.0 ** np.arange(8, -4, -1):
        place = float(np.interp(hz, centres_hz, bands))
        room = not places or places[-1] - place >= len(bands) / 16
        if centres_hz[0] <= hz <= centres_hz[-1] and room:
            places.append(place)
            labels.append(f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz:g} Hz")
    if len(places) < 2:
        chosen = np.unique(np.linspace(0, len(bands) - 1, 5).round().astype(int))
        return chosen.tolist(), [f"{centres_hz[band]:.0f} Hz" for band in chosen]
    return places, labels


def _draw_probabilities(axes: "Axes", track: ScoreTrack, names: Sequence[str]) -> None:
    envelope = Envelope(track.clock)
    envelope.add(track.probabilities)
    edges = envelope.clock.edges_seconds(len(envelope.values), track.end_seconds)
    index_of = {name: k for k, name in enumerate(track.class_names)}
    for name in names:
        row = _row(names, name)
        if name in index_of:
            heights = row + 0.92 * envelope.values[:, index_of[name]]
            axes.stairs(heights, edges, baseline=row, fill=True, color=DETECTED, label=name)
        else:
            axes.text(
                0.5,
                row + 0.5,
                "the model does not know this class",
                transform=axes.get_yaxis_transform(),
                verticalalignment="center",
                horizontalalignment="center",
                color="#606060",
                fontsize=9,
            )


def _draw_events(
    axes: "Axes",
    names: Sequence[str],
    detected: Sequence[Event],
    reference: Sequence[Event] | None,
) -> None:
    """Bars in the row of each class: what is true above what was detected, as in Fig. 2."""
    from matplotlib.patches import Patch

    sides = [] if reference is None else [("reference", REFERENCE, reference)]
    sides.append(("detected", DETECTED, detected))
    height = 0.8 / len(sides)
    for place, (side, colour, events) in enumerate(sides):
        for name in names:
            spans = [(e.onset_seconds, e.duration_seconds) for e in events if e.label == name]
            if spans:
                bottom = _row(names, name) + 0.9 - (place + 1) * height
                # The edge keeps an event in sight that is shorter than a pixel.
                bars = axes.broken_barh(spans, (bottom, height), color=colour, linewidth=0.7)
                bars.set_label(f"{side} {name}")
    axes.legend(
        handles=[Patch(color=colour, label=side) for side, colour, _ in sides],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(sides),
        frameon=False,
        borderaxespad=0.1,
    )


def _shown(name: str, longest: int) -> str:
    """A name in one line that is not too long, with ``?`` for what is no Unicode."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _literal(texts: Iterable[str]) -> dict[str, Any]:
    """Properties of text drawn as it stands, in fonts that have its letters if any has them."""
    from matplotlib.font_manager import fontManager, get_font

    missing = {ord(letter) for text in texts for letter in text}
    families = {"DejaVu Sans": None}  # comes with matplotlib
    # The font of last resort claims to have every letter, and shows boxes.
    fonts = [font for font in fontManager.ttflist if "Last Resort" not in font.name]
    for font in sorted(fonts, key=lambda font: font.name not in families):
        if not missing:
            break
        try:
            has = missing & get_font(font.fname).get_charmap().keys()
        except (OSError, RuntimeError):
            # A font file that is damaged or gone: another may do.
            continue
        if has:
            missing -= has
            families[font.name] = None
    return {"fontfamily": list(families), "parse_math": False, "usetex": False}


def _png(picture: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = picture.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    buffer = BytesIO()
    with warnings.catch_warnings():
        # Letters that no font has are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        # Unlike savefig this heeds no settings of the user's that change the size.
        canvas.print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()
