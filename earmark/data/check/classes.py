"""Can each class be learnt and judged, and is it written in one way?"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from earmark.config import TrainingSettings
from earmark.data.check.findings import Case, Finding, are, have, tally
from earmark.data.check.tables import LabelledSet

FEW_CLIPS = 10
"""A class with fewer clips is too rare to learn: a held-out part of 15 % has one of them."""


def of_classes(sets: Sequence[LabelledSet]) -> Iterator[Finding]:
    """Classes that are rare, everywhere, nowhere, in one table alone, or written in two ways."""
    learnt = sets[0]
    counts_of = [class_counts(of_set) for of_set in sets]
    counts = counts_of[0]
    every = sum(counts_of, Counter[str]())
    if odd := [name for name in every if not name.isprintable()]:
        yield Finding(
            "error",
            "unprintable class names",
            "",
            f"{tally(odd, 'class name')} {have(odd)} characters that can't be printed",
            "rename them",
            tuple(Case(repr(name)) for name in odd),
        )
    yield from _of_spelling(every)
    for of_set, of_others in zip(sets[1:], counts_of[1:], strict=True):
        if unknown := sorted(set(of_others) - set(counts)):
            yield Finding(
                "error",
                "classes that are never learnt",
                of_set.name,
                f"{tally(unknown, 'class', 'classes')} of {of_set.name} {are(unknown)} in no "
                f"clip of {learnt.name}",
                "rename or remove them, or add clips to learn them from",
                tuple(map(Case, unknown)),
            )
        if never := sorted(set(counts) - set(of_others)):
            yield Finding(
                "warning",
                "classes that are never judged",
                of_set.name,
                f"{tally(never, 'class', 'classes')} of {learnt.name} {are(never)} in no clip "
                f"of {of_set.name}",
                "add clips: without any, a class can neither be tuned nor scored",
                tuple(map(Case, never)),
            )
    if rare := sorted((count, name) for name, count in counts.items() if count < FEW_CLIPS):
        yield Finding(
            "warning",
            "classes too rare to learn",
            learnt.name,
            f"{tally(rare, 'class', 'classes')} {have(rare)} fewer than {FEW_CLIPS} clips, with "
            "which a class can hardly be learnt, and not be judged",
            "collect more clips, or join or remove the classes",
            tuple(Case(name, f"{count} clip{'s' * (count > 1)}") for count, name in rare),
        )
    ratio = TrainingSettings().balance_ratio
    if counts and (found := max(counts.values()) / min(counts.values())) > ratio:
        most, least = (pick(counts, key=counts.__getitem__) for pick in (max, min))
        yield Finding(
            "note",
            "imbalance",
            learnt.name,
            f"'{most}' has {found:.0f} times as many clips as '{least}'",
            f"nothing: training draws clips so that no class comes more than {ratio:g} times as "
            "often as another",
        )
    lacked = {
        name
        for name in counts
        if any(clip.knows(name) and name not in clip.labels for clip in learnt.clips)
    }
    if always := sorted(set(counts) - lacked):
        yield Finding(
            "warning",
            "classes in every clip",
            learnt.name,
            f"{tally(always, 'class', 'classes')} {are(always)} in every clip, and nothing tells "
            "what sounds without",
            "add clips without, whose event_labels may be empty",
            tuple(map(Case, always)),
        )
    if never := sorted(set(learnt.table.class_names) - set(counts)):
        yield Finding(
            "note",
            "classes without clips",
            learnt.name,
            f"{tally(never, 'class', 'classes')} of the table {are(never)} in no clip",
            "nothing: they are left out",
            tuple(map(Case, never)),
        )


def class_counts(of_set: LabelledSet) -> Counter[str]:
    """How many clips have each class."""
    return Counter(label for clip in of_set.clips for label in clip.labels)


def folded(name: str) -> str:
    """A class's name without what people write in several ways.

    >>> folded("Car_horn") == folded("car  horn") == folded("car-HORN")
    True
    """
    composed = unicodedata.normalize("NFC", name.casefold())
    return " ".join(re.split(r"[\s_-]+", composed))


def _of_spelling(counts: Mapping[str, int]) -> Iterator[Finding]:
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(counts, key=lambda name: -counts[name]):
        spellings[folded(name)].append(name)
    alike = [names for names in spellings.values() if len(names) > 1]
    close = [
        (spellings[one][0], spellings[other][0]) for one, other in _one_letter_apart(spellings)
    ]

    def cases(groups: Sequence[Sequence[str]]) -> tuple[Case, ...]:
        return tuple(
            Case(" / ".join(map(repr, names)), ", ".join(f"{counts[name]:,}" for name in names))
            for names in groups
        )

    if alike:
        yield Finding(
            "error",
            "classes written in several ways",
            "",
            f"{tally(alike, 'class', 'classes')} {are(alike)} written in several ways, which "
            "differ in case, spaces, -, _ or the bytes of an accent, and count as several",
            "write each in one way",
            cases(alike),
        )
    if close:
        yield Finding(
            "warning",
            "class names a letter apart",
            "",
            f"{tally(close, 'pair')} of classes {are(close)} one letter apart",
            "look whether each is one class, and write it in one way",
            cases(close),
        )


def _one_letter_apart(names: Mapping[str, object]) -> list[tuple[str, str]]:
    """Pairs that a letter changed, added or lost makes equal; short ones and digits don't count.

    >>> _one_letter_apart(dict.fromkeys(["siren", "sirens", "sirex", "cat", "car", "song1"]))
    [('siren', 'sirens'), ('siren', 'sirex')]
    """
    without: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    pairs = set()
    for name in names:
        for place, letter in enumerate(name):
            rest = name[:place] + name[place + 1 :]
            if len(name) < 5 or letter.isdigit():
                continue
            if rest in names:
                pairs.add((min(name, rest), max(name, rest)))
            for other in without[place, rest]:
                pairs.add((min(name, other), max(name, other)))
            without[place, rest].append(name)
    return sorted(pairs)
