"""Files: safetensors with checksums, and writing that leaves the old file or the new one."""

from .closing import Closing
from .dtypes import DTYPES, bytes_of, dtype_of, narrow, usual_name, widen
from .files import FORMAT, MAJOR, READ, DecodeError, FormatError, Reader, Writer, dumps, parse
from .shards import Weights, is_weights, weight_files
from .writing import check_output, replacing

__all__ = [
    "DTYPES",
    "FORMAT",
    "MAJOR",
    "READ",
    "Closing",
    "DecodeError",
    "FormatError",
    "Reader",
    "Weights",
    "Writer",
    "bytes_of",
    "check_output",
    "dtype_of",
    "dumps",
    "is_weights",
    "narrow",
    "parse",
    "replacing",
    "usual_name",
    "weight_files",
    "widen",
]


def __dir__() -> list[str]:
    return __all__
