"""Kernel objects must be closed worlds: usage check_symbols.py BUILD_DIRECTORY

Compiled with one SIMD level's flags, an object must not define a symbol that the linker could
take for another level's (weak or unique ones), run code before its level is chosen (static
initializers), or call anything but the C library's memory functions. Objects for every processor
must hold no AVX instruction.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# Emitted by compilers for copies, fills, and population counts without the instruction.
MAY_CALL = {"memcpy", "memset", "memmove", "__popcountdi2", "_GLOBAL_OFFSET_TABLE_"}


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def faults_of_kernels(path: Path, level: str) -> list[str]:
    faults, defined = [], []
    for line in output("nm", "-C", str(path)).splitlines():
        kind, name = re.fullmatch(r"[0-9a-f ]{16} (\S) (.*)", line).groups()  # type: ignore[union-attr]
        if kind in "WVuwv":
            faults.append(f"weak or unique symbol {name}")
        elif kind == "U" and name not in MAY_CALL:
            faults.append(f"calls {name}")
        elif kind.isupper() and kind != "U":
            defined.append(name)
    if defined != [f"noisycells::{level}::table"]:
        faults.append(f"defines {defined}, expected its table alone")
    for line in output("objdump", "-h", str(path)).splitlines():
        if re.search(r"\.(init_array|preinit_array|ctors|fini_array|dtors)\b", line):
            faults.append(f"static initializer: section {line.split()[1]}")
    return faults


def wide_instructions(path: Path) -> int:
    return len(re.findall(r"%[yz]mm", output("objdump", "-d", str(path))))


def main(build: Path) -> int:
    kernels = sorted(build.glob("CMakeFiles/noisycells_kernels_*.dir/**/*.o"))
    shared = sorted(build.glob("CMakeFiles/noisycells_core.dir/**/*.o"))
    if not kernels or not shared:
        print(f"{build}: found no objects of the core")
        return 1
    faults = 0
    for path in kernels:
        level = re.search(r"noisycells_kernels_(\w+)\.dir", str(path)).group(1)  # type: ignore[union-attr]
        found = faults_of_kernels(path, level)
        wide = wide_instructions(path)
        if level == "baseline" and wide:
            found.append(f"{wide} AVX instructions")
        print(f"{level}: {'; '.join(found) or 'closed'}, {wide} AVX instructions")
        faults += len(found)
    for path in shared:
        if wide := wide_instructions(path):
            print(f"{path.name}: {wide} AVX instructions")
            faults += 1
    print(f"{len(shared)} objects for every processor")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
