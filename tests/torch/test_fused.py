"""Fused kernels for GPUs: interpreted, as Triton compiles them, and on a GPU if there is one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
from noisycells.torch.crossbar import fused  # noqa: E402

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed (torch for CUDA brings it)",
)

HELPERS = Path(__file__).parents[1] / "helpers"


def run(arguments: list[str], **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def check_bits(config: pytest.Config, interpreted: bool) -> None:
    """Run tests/helpers/fused_checks.py."""
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={config.rootpath}"]
    if config.inipath is not None:
        arguments += ["-c", str(config.inipath)]
    checks = str(HELPERS / "fused_checks.py")
    output = run([*arguments, checks], TRITON_INTERPRET=str(int(interpreted)))
    assert re.search(r"\d+ passed", output) and "skipped" not in output, output


@needs_triton
def test_the_bits_of_the_core_under_the_interpreter(request: pytest.FixtureRequest) -> None:
    check_bits(request.config, interpreted=True)


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_bits_of_the_core_on_a_gpu(request: pytest.FixtureRequest) -> None:
    check_bits(request.config, interpreted=False)


@needs_triton
def test_compiled_kernels_round_as_ieee_754_defines(tmp_path: Path) -> None:
    """No approximations, no flushing to zero, and no sums that may be fused with products.

    PTX fuses add and mul only where they name no rounding; the multiply-adds are tl.fma.
    """
    found = run(
        [str(HELPERS / "fused_ptx.py"), "80", "90"],
        TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0",
    )  # fmt: skip
    operations = set(
        re.findall(r"\b(?:add|sub|mul|fma|mad|div|sqrt|rsqrt|ex2|lg2)\.[\w.]*f32", found)
    )
    assert operations == {"add.rn.f32", "mul.rn.f32", "fma.rn.f32", "div.rn.f32", "sqrt.rn.f32"}
    assert "ftz" not in found and "approx" not in found


TAKEN = {"device": torch.device("cuda"), "dtype": torch.float32}


@pytest.mark.parametrize(
    "differs, spec, capability, kernels, taken",
    [
        ({}, {}, (9, 0), True, True),
        ({}, {"kernel": "int8"}, (8, 0), True, True),
        ({}, {"kernel": "float32"}, (9, 0), True, False),
        ({}, {"dac_bits": None}, (9, 0), True, False),
        ({}, {"rows": 513}, (9, 0), True, False),
        ({}, {}, (7, 5), True, False),
        ({}, {}, (9, 0), False, False),
        ({"dtype": torch.float64}, {}, (9, 0), True, False),
        ({"device": torch.device("cpu")}, {}, (9, 0), True, False),
    ],
)
def test_what_the_kernels_take(
    differs: dict[str, Any], spec: dict[str, Any], capability: tuple[int, int], kernels: bool,
    taken: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The rule of docs/crossbar.md, about a tensor that is not there."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(fused, "_kernels", lambda: object() if kernels else None)
    x: Any = SimpleNamespace(**{**TAKEN, **differs})
    assert fused.takes(x, nc.CrossbarSpec(**spec)) is taken
