"""What a wheel must and must not hold: usage check_wheel.py WHEEL"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

MUST = (
    r"noisycells/__init__\.py",
    r"noisycells/_core\.pyi",
    r"noisycells/_core\..*\.so",
    r"noisycells/py\.typed",
    r"noisycells/cli/__init__\.py",
    r"noisycells-.*\.dist-info/entry_points\.txt",
    r"noisycells-.*\.dist-info/licenses/LICENSE",
)
MAY = (r"noisycells/.*\.(py|pyi|typed|so|json|csv|txt)", r"noisycells-.*\.dist-info/.*")


def main(wheel: Path) -> int:
    names = zipfile.ZipFile(wheel).namelist()
    lacks = [m for m in MUST if not any(re.fullmatch(m, n) for n in names)]
    extra = [n for n in names if not any(re.fullmatch(m, n) for m in MAY)]
    size = wheel.stat().st_size
    print(f"{wheel.name}: {len(names)} files, {size / 1000:.0f} kB")
    if lacks:
        print(f"lacks {lacks}")
    if extra:
        print(f"should not hold {extra}")
    if size > 3_000_000:
        print("larger than 3 MB")
    return int(bool(lacks or extra or size > 3_000_000))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
