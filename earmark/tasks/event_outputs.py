"""Where the tables of detected events go: one of all recordings, or one a recording."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from earmark.audio import AudioError
from earmark.errors import UserError
from earmark.formats.event_formats import EventFormat, event_formats
from earmark.formats.recorded import Recorded, refuse_unless_plain
from earmark.tasks.recordings import in_made_folder, made_folder, refuse_model
from earmark.writing import to_disk


@dataclass(frozen=True, slots=True)
class EventOutputs:
    """The files that formats are written to; whole, they survive that the machine loses power.

    Attributes:
        formats: by their names.
        tables: of formats with one table over all recordings, its path.
        folders: of formats with a table a recording, the folder.
        clock_times: whether rows say when an event starts by the clock.
    """

    formats: Mapping[str, EventFormat]
    tables: Mapping[str, Path]
    folders: Mapping[str, Path]
    clock_times: bool

    @property
    def places(self) -> tuple[Path, ...]:
        """Files and folders, each once."""
        return tuple(dict.fromkeys([*self.tables.values(), *self.folders.values()]))

    @property
    def sounds(self) -> bool:
        """Whether a format asks for each recording's duration and rate."""
        return any(kind.sounds for kind in self.formats.values())

    def takes(self, folder: Path, suffix: str) -> bool:
        """Whether tables that end so go to a folder, one a recording."""
        return any(
            self.formats[name].suffix == suffix and path.absolute() == folder.absolute()
            for name, path in self.folders.items()
        )

    def prepare(self, recordings: int, class_names: Iterable[str]) -> None:
        """Makes the folders, and refuses what could only fail at the end.

        Raises:
            UserError: a format can't hold so many recordings, or a class's name, or a folder is a
                model's.
        """
        labels = list(class_names)
        for name, kind in self.formats.items():
            kind.require()
            if kind.plain_labels:
                refuse_unless_plain(labels, "a label", name)
        for name, path in self.tables.items():
            if self.formats[name].one_recording and recordings > 1:
                raise UserError(
                    f"a table in the format '{name}' holds one recording, there are {recordings}; "
                    "give a folder for --out",
                    where=path,
                )
            if path.is_dir():
                raise UserError("is a folder, where a table should go; rename it", where=path)
            in_made_folder(path)
        for folder in self.folders.values():
            refuse_model(folder)
            made_folder(folder)

    def refuse_name(self, name: str) -> None:
        """Raises AudioError for a recording whose name a format can't hold."""
        for of_format, kind in self.formats.items():
            if kind.plain_names:
                try:
                    refuse_unless_plain([name], "a filename", of_format)
                except UserError as error:
                    raise AudioError(str(error)) from None

    def write_tables(self, recordings: Callable[[], Iterable[Recorded]]) -> None:
        """The tables over all recordings, which are gone through in order, once a format."""
        for name, path in self.tables.items():
            self.formats[name].write(path, recordings(), self.clock_times)
        to_disk(self.tables.values())

    def write_of(self, recorded: Recorded, *, missing: bool = False) -> None:
        """The tables of one recording, or those that are missing or empty."""
        for name, folder in self.folders.items():
            path = folder / f"{recorded.filename}{self.formats[name].suffix}"
            if not missing or not path.is_file() or path.stat().st_size == 0:
                self.formats[name].write(in_made_folder(path), [recorded], self.clock_times)
                to_disk([path])


def event_outputs(out: Path, names: str, clock_times: bool) -> EventOutputs:
    """What the formats ``names`` are written to.

    With ``out`` a folder, each format has a table a recording there. With ``events.csv`` it is the
    table of the format that ends so, the others are called alike, ``events.selections.txt``, and
    those of one recording a table go to a folder, ``events.audacity``.

    Raises:
        UserError: it can't be told which format a file is of, or two formats would have one file.
    """
    formats = event_formats(names)
    if clock_times and not any(kind.clock_times for kind in formats.values()):
        raise UserError(
            f"there is no place for clock times in the format {names}; leave out --clock-times, or "
            "add a format that has one, such as csv"
        )
    if not out.suffix or out.is_dir():
        if out.is_file():
            raise _no_place(out, formats)
        of_suffix: dict[str, str] = {}
        for name, kind in formats.items():
            if (first := of_suffix.setdefault(kind.suffix, name)) != name:
                raise UserError(
                    f"two tables may not be one file, but '{first}' and '{name}' both end in "
                    f"{kind.suffix}; write one of them to another --out",
                    where=out,
                )
        return EventOutputs(formats, {}, dict.fromkeys(formats, out), clock_times)
    meant = [name for name, kind in formats.items() if kind.suffix.endswith(out.suffix)]
    if len(formats) > 1:
        meant = [name for name in meant if not formats[name].one_recording]
    if not meant:
        raise _no_place(out, formats)
    if len(meant) > 1:
        raise UserError(
            f"it can't be told which of {' and '.join(meant)} this is; give one of them alone, "
            "an ending that only one has, or a folder",
            where=out,
        )
    stem = out.name.removesuffix(formats[meant[0]].suffix).removesuffix(out.suffix)
    tables, folders = {meant[0]: out}, {}
    for name, kind in formats.items():
        if name == meant[0]:
            continue
        if kind.one_recording:
            folders[name] = out.with_name(f"{stem}.{name}")
        else:
            tables[name] = out.with_name(f"{stem}{kind.suffix}")
    if len(set(tables.values())) < len(tables):
        raise UserError(
            "two tables may not be one file; give one of "
            f"{' and '.join(name for name, path in tables.items())} alone",
            where=out,
        )
    return EventOutputs(formats, tables, folders, clock_times)


def _no_place(out: Path, formats: Mapping[str, EventFormat]) -> UserError:
    endings = " or ".join(dict.fromkeys(kind.suffix for kind in formats.values()))
    return UserError(f"events go to a file ending in {endings} or to a folder", where=out)
