"""Files: safetensors with checksums, and writing that leaves the old file or the new one."""

from .dtypes import DTYPES, bytes_of, dtype_of, narrow, usual_name, widen
from .files import FORMAT, MAJOR, READ, DecodeError, FormatError, Reader, Writer, dumps, parse
from .writing import check_output, replacing

__all__ = [
    "DTYPES",
    "FORMAT",
    "MAJOR",
    "READ",
    "DecodeError",
    "FormatError",
    "Reader",
    "Writer",
    "bytes_of",
    "check_output",
    "dtype_of",
    "dumps",
    "narrow",
    "parse",
    "replacing",
    "usual_name",
    "widen",
]


def __dir__() -> list[str]:
    return __all__
