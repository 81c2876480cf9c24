"""Makes psds_eval_scores.json: what psds_eval 0.5.3 says of small random lists of events.

psds_eval doesn't run on numpy 2, so it needs an environment of its own, of Python 3.11:

    python3.11 -m venv psds_environment
    psds_environment/bin/pip install numpy==1.23.5 pandas==1.5.3 matplotlib==3.10.9 psds_eval==0.5.3
    psds_environment/bin/python tests/golden/psds_eval_scores.py

Times are multiples of 0.1 ms, so that no share of time falls right on a criterion: psds_eval
leaves those to floating point. Events of a class are apart: it refuses those that overlap.
"""

import json
import random
import warnings
from pathlib import Path

NAMES = ["bell", "car", "dog", "horn"]
SCENARIOS = {
    "psds1": {"dtc": 0.7, "gtc": 0.7, "cttc": None, "alpha_ct": 0.0, "alpha_st": 1.0},
    "psds2": {"dtc": 0.1, "gtc": 0.1, "cttc": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0},
    "halves": {"dtc": 0.5, "gtc": 0.5, "cttc": 0.5, "alpha_ct": 1.0, "alpha_st": 0.0},
}


def random_clip(draw: random.Random, seconds: float, count: int) -> list[list]:
    """Rows of onset, offset and label, those of one label apart."""
    rows, end = [], dict.fromkeys(NAMES, 0.0)
    for _ in range(count):
        label = draw.choice(NAMES)
        onset = round(end[label] + draw.uniform(0.01, seconds / 3), 4)
        offset = round(onset + draw.uniform(0.05, seconds / 2), 4)
        if offset <= seconds:
            rows.append([onset, offset, label])
            end[label] = offset
    return rows


def moved(draw: random.Random, rows: list[list], by: float, lost: float) -> list[list]:
    """The rows with other boundaries, some of another label, some lost."""
    found, end = [], dict.fromkeys(NAMES, 0.0)
    for onset, offset, label in sorted(rows):
        if draw.random() < lost:
            continue
        label = draw.choice(NAMES) if draw.random() < 0.2 else label
        onset = round(max(end[label] + 0.001, onset + draw.uniform(-by, by)), 4)
        offset = round(offset + draw.uniform(-by, by), 4)
        if offset > onset + 0.01:
            found.append([onset, offset, label])
            end[label] = offset
    return found


def table(rows: list[list], *columns: str):
    # Imported only here, so that the tests can be collected without.
    from pandas import DataFrame

    return DataFrame(rows, columns=columns)


def events(clips: dict[str, list[list]]):
    rows = [[clip, *row] for clip, found in clips.items() for row in found]
    return table(rows, "filename", "onset", "offset", "event_label")


def made(seed: int) -> dict:
    """A reference, operating points, and psds_eval's scores of them."""
    from psds_eval import PSDSEval

    draw = random.Random(seed)
    # A long silence, so that the curves cover many rates below the largest.
    durations = {f"clip{n}": 10.0 for n in range(12)} | {"silence": 600.0 * (seed + 1)}
    reference = {clip: random_clip(draw, 10.0, 6) for clip in list(durations)[:12]}
    points = [
        {
            clip: moved(draw, rows, 0.1 + 0.15 * point, 0.6 / (point + 1))
            for clip, rows in reference.items()
        }
        | {"silence": random_clip(draw, 500.0, 4 * point)}
        for point in range(7)
    ]
    results = {}
    for name, asked in SCENARIOS.items():
        judge = PSDSEval(
            asked["dtc"],
            asked["gtc"],
            asked["cttc"] or 0.3,
            ground_truth=events(reference),
            metadata=table([*durations.items()], "filename", "duration"),
        )
        for point in points:
            judge.add_operating_point(events(point))
        value = judge.psds(asked["alpha_ct"], asked["alpha_st"], max_efpr=100.0).value
        f1 = [judge.compute_macro_f_score(events(point)) for point in points]
        results[name] = {
            "psds": float(value),
            "macro_f1": [float(mean) for mean, _ in f1],
            "class_f1": [[float(of_class[label]) for label in NAMES] for _, of_class in f1],
        }
    return {
        "durations": durations,
        "reference": reference,
        "operating_points": points,
        "results": results,
    }


def main() -> None:
    warnings.simplefilter("ignore", FutureWarning)
    golden = {
        "class_names": NAMES,
        "scenarios": SCENARIOS,
        "cases": [made(seed) for seed in range(3)],
    }
    text = json.dumps(golden, separators=(",", ":"))
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
