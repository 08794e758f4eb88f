"""Fuzzes the reader of files, with the coverage of the package as a guide.

    PYTHONPATH=tests/helpers python tests/io/fuzz_files.py content|header [OPTION...]

``content`` changes values in the JSON of golden files as ``test_schema.py`` does, ``header``
the text of their headers. The checksums fit, so that the changes get past them. A finding ends the
run with the input in a file ``crash-...``; it becomes a test. Options,
such as -max_total_time=SECONDS, are libFuzzer's. Needs atheris (``pip install
atheris``), which is not one of the test dependencies.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["noisycells"]):
    from noisycells.io import files

from golden_files import MODEL, TENSOR
from test_schema import any_content, check


def header_of(golden: Path) -> tuple[bytes, bytes]:
    """The text of a header, and the data that follow it."""
    raw = golden.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return raw[8 : 8 + length], raw[8 + length :]


def write_with_header(text: bytes, data: bytes, path: Path) -> None:
    """A file whose header, if it starts as one, has the right checksum."""
    header = len(text).to_bytes(8, "little") + text
    place = files._START.match(header, 8)
    if place is not None:
        at = place.start(3)
        header = header[:at] + files._header_checksum(header, at) + header[at + 8 :]
    path.write_bytes(header + data)


def main() -> None:
    what, *options = sys.argv[1:]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "fuzzed"
        seeds = Path(directory) / "seeds"
        seeds.mkdir()
        if what == "content":
            run = any_content(MODEL, path).hypothesis.fuzz_one_input
        else:
            text, data = header_of(TENSOR)
            (seeds / "header").write_bytes(text)

            def run(text: bytes) -> None:
                write_with_header(text, data, path)
                check(path)

        atheris.Setup([sys.argv[0], *options, str(seeds)], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
