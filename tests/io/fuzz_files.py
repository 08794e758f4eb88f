"""Fuzzes what reads files, with the coverage of the package as a guide.

    PYTHONPATH=tests/helpers python tests/io/fuzz_files.py WHAT [OPTION...]

``model``, ``tensor``, ``coded``, ``levels`` and ``rows`` change values in the JSON and arrays of
these golden files as ``test_schema.py`` does, ``chip`` those in the metadata of a model on a chip
(with torch), ``index`` those of an index of safetensors files, ``device`` those of a device;
``header`` changes the text of a header. Checksums fit, so that the changes get past them. A finding
ends the run with the input in a file ``crash-...``; it becomes a test. Options, such as
-max_total_time=SECONDS, are libFuzzer's. Needs atheris (``pip install atheris``), which is not one
of the test dependencies.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["noisycells"]):
    import noisycells as nc
    from noisycells.io import DecodeError, FormatError, Weights, files

from golden_files import CODED, LEVELS, MODEL, ROWS, TENSOR
from json_trees import any_tree
from test_schema import any_content, check

GOLDEN = {
    "model": MODEL, "tensor": TENSOR, "coded": CODED, "levels": LEVELS, "rows": ROWS,
}  # fmt: skip
Run = Callable[[bytes], object]


def taken_apart(golden: Path) -> tuple[bytes, bytes]:
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


def index(path: Path) -> Run:
    path = path.with_name("model.safetensors.index.json")
    path.with_name("a.safetensors").write_bytes(MODEL.read_bytes())

    def run(tree: Any) -> None:
        path.write_text(json.dumps(tree))
        try:
            with Weights(path) as weights:
                for name in weights.entries:
                    weights.read(name)
        except FormatError as error:
            assert str(path.parent) in str(error)
        except OSError:  # of a file that is not there
            pass

    with files.Reader(MODEL) as reader:
        names = dict.fromkeys(reader.entries, "a.safetensors")
    return any_tree({"metadata": {"total_size": 9}, "weight_map": names}, run)


def device(path: Path) -> Run:
    path = path.with_suffix(".json")
    made = nc.devices.fitted([0.0, 5.0, 9.0], [[0.0, 4.0, 9.0]] * 2, [[1.0] * 3] * 2, [1.0, 9.0])
    cell = nc.Channel([-1, 0, 1], [-1, 0.1, 1], 0.1, 0.02, branch=(-1, 1), write_bits=4)

    def run(tree: Any) -> None:
        path.write_text(json.dumps(tree))
        try:
            found = nc.devices.find(path)
        except ValueError as error:
            assert str(path) in str(error)
            return
        if not isinstance(found, nc.Channel):
            assert abs(found.program([found.g_max], 1)).max() < float("inf")
            found = found.channel()
        assert abs(found.sample([0.0, 1.0], 1)).max() < float("inf")

    return any_tree(
        {"device": made.to_dict(), "cell": cell.to_dict()},
        lambda both: [run(tree) for tree in (both.values() if isinstance(both, dict) else [both])],
    )


def chip(path: Path) -> Run:
    import torch

    import noisycells.torch as nct

    def digital() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 2))

    nct.save_chip(nct.program(nct.convert(digital(), nc.devices.ideal()), 1), path)
    text, data = taken_apart(path)
    content = json.loads(text)
    metadata = content["__metadata__"]
    keys = ("layers", "folded")

    def run(tree: Any) -> None:
        if isinstance(tree, dict):
            metadata.update({key: json.dumps(value) for key, value in tree.items()})
        header = json.dumps(content, separators=(",", ":")).encode()
        write_with_header(header + b" " * (-len(header) % 8), data, path)
        try:
            nct.load_chip(path, digital())
        except (DecodeError, FormatError, ValueError) as error:
            assert str(path) in str(error)

    return any_tree({key: json.loads(metadata[key]) for key in keys}, run)


def header(path: Path) -> tuple[bytes, Run]:
    text, data = taken_apart(TENSOR)

    def run(text: bytes) -> None:
        write_with_header(text, data, path)
        check(path)

    return text, run


TREES = {"index": index, "device": device, "chip": chip}


def main() -> None:
    what, *options = sys.argv[1:]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "fuzzed"
        seeds = Path(directory) / "seeds"
        seeds.mkdir()
        if what == "header":
            text, run = header(path)
            (seeds / what).write_bytes(text)
        else:
            made = TREES[what](path) if what in TREES else any_content(GOLDEN[what], path)
            run = made.hypothesis.fuzz_one_input
            for i in range(32):  # choices of long examples
                (seeds / str(i)).write_bytes(random.Random(i).randbytes(400))
            options = ["-len_control=0", "-max_len=2048", *options]
        atheris.Setup([sys.argv[0], *options, str(seeds)], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
