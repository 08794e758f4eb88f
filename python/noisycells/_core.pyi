"""The compiled core. Arrays are C-contiguous, of exactly the dtype shown, 1-D unless said.

Definitions are in :mod:`noisycells.reference`. ``num_threads`` 0 means the package setting.
Sizes that do not agree raise ValueError, other dtypes or layouts TypeError.
"""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]
_U8 = NDArray[np.uint8]
_U16 = NDArray[np.uint16]
_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]
_I32 = NDArray[np.int32]
_Converter = tuple[float, float, float, int]  # lo, step, 1 / step, levels
_Range = tuple[float, float, float, float, float, int, _Converter | None]  # reference.Range

__version__: str
compiler: str

def simd_level() -> str: ...
def available_simd_levels() -> list[str]: ...
def set_simd_level(name: str) -> bool: ...
def threading_backend() -> str: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def after_fork_in_child() -> None: ...
def philox4x32(counter: _U32, key: _U32, rounds: int, out: _U32) -> None:
    """counter and out (n, 4), key (n, 2)."""

def standard_normal(
    out: _F32, seed: int, stream: int, offset: int, num_threads: int = 0
) -> None: ...
def fold_in(seed: int, data: int) -> int:
    """reference.fold_in."""

def block_digests(data: _U8, key: _I32, out: _U64, num_threads: int = 0) -> None:
    """reference.block_digests; data (n,), key (1028,), out (ceil(n / 4096), 2)."""

def random_words(out: _U32, seed: int, stream: int, offset: int, num_threads: int = 0) -> None: ...

class ChannelTables:
    """reference.ChannelTables; table (n, 4), read (n, 2). Copies what it is given."""

    def __init__(
        self,
        table: _F32,
        x0: float,
        inv_dx: float,
        read: _F32 | None = None,
        adc: _Converter | None = None,
        d2d: float = 0.0,
        stuck: tuple[int, int] = (0, 0),
    ) -> None: ...

class CodecTables:
    """reference.CodecTables; inverse (m, 2). Copies what it is given."""

    def __init__(
        self, inverse: _F32, y0: float, inv_dy: float, ranges: Sequence[_Range], sign: bool
    ) -> None: ...
    @property
    def side_width(self) -> int: ...

def sample(
    x: _F32,
    out: _F32,
    cells: int | _I32,
    channel: ChannelTables,
    chip: int,
    read: int,
    stream: int,
    offset: int = 0,
    literal: bool = False,
    num_threads: int = 0,
) -> None: ...
def levels_capacity(stored: int, codec: CodecTables) -> int:
    """Bytes of room that encode needs for packed levels."""

def count_stored(mask: _U8, n: int, num_threads: int = 0) -> int: ...
def scan(
    weights: _F32 | _F64, mask: _U8 | None, num_threads: int = 0
) -> tuple[int, float, float, bool]:
    """Of the stored weights: how many, smallest, largest, whether all are finite."""

def magnitude_histogram(
    weights: _F32 | _F64, mask: _U8 | None, top: float, bins: int, num_threads: int = 0
) -> NDArray[np.int64]:
    """|w| of the stored weights in equal bins on [0, top]; what lies above in the last."""

def encode(
    weights: _F32 | _F64,
    mask: _U8 | None,
    codec: CodecTables,
    levels: _F32 | _U8,
    side: _U8,
    num_threads: int = 0,
) -> int:
    """Returns the elements (float32) or bytes (packed) of ``levels`` that were written."""

def decode(
    levels: _F32 | _U8,
    side: _U8,
    mask: _U8 | None,
    out: _F32,
    codec: CodecTables,
    channel: ChannelTables,
    chip: int,
    read: int,
    stream: int,
    literal: bool = False,
    num_threads: int = 0,
) -> None: ...
def transmit(
    weights: _F32 | _F64,
    mask: _U8 | None,
    out: _F32,
    codec: CodecTables,
    channel: ChannelTables,
    chip: int,
    read: int,
    stream: int,
    literal: bool = False,
    num_threads: int = 0,
) -> None:
    """encode and decode in one pass; the same bits."""

def side_bits(
    weights: _F32 | _F64, codec: CodecTables, side: _U8, num_threads: int = 0
) -> None: ...
@overload
def pack_bits(codes: _U8, width: int, out: _U8, num_threads: int = 0) -> bool: ...
@overload
def pack_bits(codes: _U16, width: int, out: _U8, num_threads: int = 0) -> bool: ...
@overload
def unpack_bits(buffer: _U8, width: int, out: _U8, num_threads: int = 0) -> None: ...
@overload
def unpack_bits(buffer: _U8, width: int, out: _U16, num_threads: int = 0) -> None: ...

class Programming:
    """reference.Programming of :mod:`noisycells.crossbar`, bound."""

    def __init__(
        self,
        table: _F32,
        x0: float,
        inv_dx: float,
        low: float,
        high: float,
        stuck: tuple[int, int] = (0, 0),
        stuck_conductances: tuple[float, float] = (0.0, 0.0),
    ) -> None: ...

class Aging:
    """reference.Aging of :mod:`noisycells.crossbar`, bound."""

    def __init__(
        self,
        relaxation: _F32 | None,
        drift: _F32 | None,
        flicker: _F32 | None,
        x0: float,
        inv_dx: float,
        low: float,
        high: float,
        stuck: tuple[int, int] = (0, 0),
        stuck_conductances: tuple[float, float] = (0.0, 0.0),
    ) -> None: ...

def program(
    weights: _F32,
    inverse: _F32,
    sign: int,
    g_min: float,
    span: float,
    out: _F32,
    device: Programming,
    seed: int,
    stream: int,
    cell: int,
    num_threads: int = 0,
) -> None: ...
def program_pair(
    weights: _F32,
    inverse: _F32,
    g_min: float,
    span: float,
    positive: _F32,
    negative: _F32,
    device: Programming,
    seed: int,
    stream: int,
    cell: int,
    num_threads: int = 0,
) -> None:
    """program for both polarities, the negative one as cell + 1; the same bits."""

def age(
    weights: _F32,
    inverse: _F32,
    sign: int,
    g_min: float,
    span: float,
    programmed: _F32,
    out: _F32,
    device: Aging,
    seed: int,
    stream: int,
    cell: int,
    num_threads: int = 0,
) -> None: ...

class ProductSettings:
    """How products with an array are computed. Copies the arrays it is given.

    A pass is one analog read: a tile of rows of a plane under a slice of the inputs, numbered in
    this order from the innermost out: tile, plane, slice. Full scale is that of an input vector.
    """

    def __init__(
        self,
        *,
        dac_levels: int,
        slice_bits: int,
        adc_levels: int,
        steps: _F32,
        plane_factors: _F32,
        output_noise: float,
        weight_noise: bool,
        fixed_range: float | None,
        scale: _F32,
        row_scale: _F32 | None,
    ) -> None:
        """The fields.

        Parameters
        ----------
        dac_levels : int in [0, 32767]
            Largest code of an input, at most 127 in the integer kernels; 0: an ideal DAC.
        slice_bits : int in [0, 15]
            Bits of an input slice; 0: all at once.
        adc_levels : int in [0, 32767]
            Largest code of a sum; 0: an ideal ADC.
        steps : float32 (passes,)
            One step of the ADC, in units of full scale times (g_max - g_min).
        plane_factors : float32 (planes,)
            What each plane counts digitally.
        output_noise : float
            Standard deviation of each sum, in the units of ``steps``.
        weight_noise : bool
            Whether the read variances that were packed act.
        fixed_range : float or None
            Full scale of the inputs; None: the largest magnitude of each vector.
        scale : float32 (n,)
            Digital factor of each output.
        row_scale : float32 (k,) or None
            Finite; each input is multiplied by it before the DAC.
        """

class Convolution:
    """How a kernel moves over images; each argument is (depth, height, width)."""

    def __init__(
        self,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int],
        padding: tuple[int, int, int],
        dilation: tuple[int, int, int],
    ) -> None: ...

class CrossbarArray:
    """Packed conductances of one array; for the SIMD level in use when it was made."""

    def __init__(
        self, n: int, k: int, rows: int, planes: int, integer: bool, int8: bool, variance: bool
    ) -> None: ...
    @property
    def simd_level(self) -> str: ...
    def pack(
        self,
        plane: int,
        positive: _F32 | None,
        negative: _F32 | None,
        inverse_span: float,
        variance: _F32 | None,
        num_threads: int = 0,
    ) -> _F32:
        """Pack one plane's conductances (n, k), uS; ``variance`` in units of the span squared.

        Returns reference.reach of each tile.
        """

    def product(
        self,
        x: _F32,
        y: _F32,
        settings: ProductSettings,
        seed: int,
        stream: int,
        bias: _F32 | None = None,
        inside: _U8 | None = None,
        convolution: Convolution | None = None,
        num_threads: int = 0,
    ) -> int:
        """Write the product of x (batch, k) to y (batch, n); return how many the DAC clipped.

        With a convolution, x (images, channels, depth, height, width) holds the images whose
        patches are the vectors, and y is (images, depth', height', width', n). ``seed`` and
        ``stream`` are those of the read noise; ``bias`` (n,) is added digitally. ``inside``
        (passes, vectors, (n + 7) // 8) gets bits, lowest first, of the sums within the range of
        the ADC.
        Raises ValueError where x is not finite; y and ``inside`` are then written in part.
        """

def weight_gradient(
    x: _F32,
    grad: _F32,
    total: _F32,
    convolution: Convolution,
    *,
    rows: int,
    dac_levels: int,
    shift: int,
    digit: int,
    fixed_range: float | None,
    row_scale: _F32 | None,
    inside: _U8 | None,
    num_threads: int = 0,
) -> None:
    """Write the gradient of a plane's weights under one slice to ``total`` (n, k).

    ``x`` as in a product with a convolution; ``grad`` (vectors, n), of the outputs. ``rows``: of a
    tile. ``shift`` and ``digit``: the slice's lowest bit and largest digit; digit 0: no slices.
    ``inside`` (tiles, vectors, (n + 7) // 8): which sums of each tile pass their gradient.
    """

class LdpcCode:
    """A code of storage.ldpc.Code; edges (n, 3) of row, column, shift. Bits are one a byte."""

    def __init__(self, rows: int, columns: int, lanes: int, middle: int, edges: _I32) -> None: ...
    def encode(self, information: _U8, words: _U8, num_threads: int = 0) -> None: ...
    def decode(
        self, llr: _F32, most: int, words: _U8, rounds: _I32, num_threads: int = 0
    ) -> None: ...

def entropy_encode(values: _I32, rows: int, columns: int, group: int) -> bytes:
    """storage.entropy.encode; values (rows columns,)."""

def entropy_decode(code: _U8, rows: int, columns: int, group: int, values: _I32) -> None: ...
