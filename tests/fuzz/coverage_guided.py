"""Lets Atheris (libFuzzer) look for bytes that lead a parser to where no test has been.

    python tests/fuzz/coverage_guided.py labels -max_total_time=3600

runs until a defect is found, whose bytes are then in a file ``crash-...`` here; naming that file
in place of the options runs it again. The parsers are those of ``parsers.READERS``.
"""

import sys
import tempfile
from pathlib import Path


def main() -> None:
    import atheris

    # What is imported before this is not watched.
    with atheris.instrument_imports(include=["earmark"]):
        from parsers import READERS, attempt, seeds

    name, *options = sys.argv[1:]
    if name not in READERS:
        raise SystemExit(f"one of {', '.join(READERS)}, came as {name}")

    def one(content: bytes) -> None:
        attempt(name, content)

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(name)):
            (Path(corpus) / str(number)).write_bytes(seed)
        folders = [] if any(Path(option).is_file() for option in options) else [corpus]
        atheris.Setup([sys.argv[0], *options, *folders], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
