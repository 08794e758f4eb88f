"""Compile each C++ header on its own: it includes what it uses. Usage: check_headers.py TREE BUILD

Headers of the kernels are compiled as the baseline level includes them, inside a namespace. Those
that a level names stand behind others: product_vector-inl.h, product_vnni-inl.h and
product_amx-inl.h behind product-inl.h, and the vectors behind vector-inl.h.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

tree, build = (Path(argument).resolve() for argument in sys.argv[1:])
BEHIND = {"product_vector-inl.h", "product_vnni-inl.h", "product_amx-inl.h"}
KERNEL = """
#include "noisycells/kernels.h"
#include <type_traits>
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include "levels/baseline-inl.h"
namespace noisycells { namespace {
#include "%s"
} }
"""


def compiled(header: Path) -> str:
    """What the compiler says of a translation unit with this header alone; nothing: it is well."""
    kernel = header.parent.name == "kernels"
    code = KERNEL % header.name if kernel else f'#include "{header}"\n'
    include = [f"-I{tree / 'cpp/include'}", f"-I{tree / 'cpp/kernels'}", f"-I{build}"]
    command = [os.environ.get("CXX", "c++"), "-std=c++17", "-fsyntax-only", "-x", "c++"]
    done = subprocess.run(
        [*command, *include, "-"], input=code, capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


headers = [
    h
    for folder in ("include/noisycells", "kernels", "src", "tests")
    for h in sorted((tree / "cpp" / folder).glob("*.h"))
    if h.name not in BEHIND
]
assert len(headers) > 20, f"{tree}: found {len(headers)} headers only"
with ThreadPoolExecutor(2) as pool:
    said = dict(zip(headers, pool.map(compiled, headers), strict=True))
for header, errors in said.items():
    if errors:
        print(f"{header.relative_to(tree)} does not compile on its own:\n{errors}")
sys.exit(any(said.values()))
