"""Bytes in noisy cells without error: blocks of an error-correcting code over cells of some levels.

The bytes are cut into blocks of about the same size, each with a CRC-32, and each is a word of a
code of just that size (:mod:`ldpc`). A block's bits are scrambled and mixed before they become
levels, and its cells lie far apart. A block that cannot be decoded, or whose checksum does not
agree, is an error by its number; what it holds is never given.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _arguments, _core, random
from .._types import U8
from ..io import DecodeError
from .constellation import Constellation
from .ldpc import LANES, MAX_DEGREE, Code, make_code

CRC_BITS = 32
LONGEST = 61_440
"""Bits of information in a block at most, about."""
MAX_ROWS = 32
"""Rows of the table of a code at most."""
AT_ONCE = 64
"""Blocks decoded together, for memory's sake."""
HEADER_BITS = 96
"""Bits of a layout: 4 bytes for the bytes, 2 each for blocks, rows, columns and lanes."""


class Layout(NamedTuple):
    """How bytes lie in cells.

    Attributes
    ----------
    size : int
        Bytes of the content.
    blocks : int
        Blocks; each has the same number of bytes, the last one filled up with zeros.
    rows, information, lanes : int
        Of the code's table (:func:`noisycells.storage.ldpc.make_code`).
    """

    size: int
    blocks: int
    rows: int
    information: int
    lanes: int

    @property
    def share(self) -> int:
        """Bytes of the content in a block."""
        return -(-self.size // self.blocks)

    @property
    def used(self) -> int:
        """Bits of information in a block: content and checksum. The code's other ones are 0."""
        return 8 * self.share + CRC_BITS

    @property
    def sent(self) -> int:
        """Bits of a block that are in cells."""
        return self.used + self.rows * self.lanes

    def cells(self, bits: int) -> int:
        """Cells of all blocks, of ``bits`` bits each."""
        return self.blocks * -(-self.sent // bits)

    def code(self) -> Code:
        """The code of every block."""
        rate = self.information / (self.information + self.rows)
        heavy = 0.18 * min(max((0.85 - rate) / 0.15, 0.0), 1.0)
        light = 4 if rate > 0.85 else 3
        return make_code(self.rows, self.information, self.lanes, round(heavy, 2), light)


def best_rate(information: float, length: int, failure: float) -> float:
    """The share of information that a word of ``length`` bits may have.

    ``information`` is what each bit carries over the channel, 0 to 1. Below it lie what belief
    propagation on these codes does not reach, measured, and the normal approximation of a finite
    length (Y. Polyanskiy, H. V. Poor, S. Verdu, IEEE Trans. Inf. Theory 56, 2010) for a share of
    ``failure`` of blocks that fail.
    """
    spread = math.sqrt(information * (1 - information) / length)
    margin = -NormalDist().inv_cdf(failure) * spread
    return information - 0.012 - 0.05 * (1 - information) - 1.6 * margin


def plan(size: int, information: float, failure: float) -> Layout:
    """The layout of ``size`` bytes in bits that carry ``information`` each.

    ``failure`` is the probability that any block of a read fails. Raises ValueError where the
    channel is too noisy for that.
    """
    bits = 8 * max(size, 1)
    blocks = -(-bits // LONGEST)
    used = 8 * -(-size // blocks) + CRC_BITS
    rate = 0.5
    for _ in range(8):
        rate = best_rate(information, math.ceil(used / max(rate, 0.1)), failure / blocks)
    if not rate >= 0.1:
        raise _arguments.wrong_value(
            "channel",
            "noise at which bits can be read",
            f"one that leaves {information:.3f} of each bit",
        )
    # A row of the table has at most so many entries, 4 in a column.
    parity = max(used * (1 - rate) / rate, used * 4 / (0.8 * MAX_DEGREE))
    found = []
    for rows in range(min(12, max(6, math.ceil(parity / LANES))), MAX_ROWS + 1):
        lanes = LANES * max(1, math.ceil(parity / rows / LANES))
        layout = Layout(size, blocks, rows, -(-used // lanes), lanes)
        found.append((rows * lanes, abs(rows - 16), layout))
    return min(found)[-1]


def write(content: bytes, layout: Layout, constellation: Constellation) -> U8:
    """Levels of the cells that hold ``content``."""
    code, share = layout.code(), layout.share
    information = np.zeros((layout.blocks, code.information), np.uint8)
    for b in range(layout.blocks):
        piece = content[b * share : (b + 1) * share].ljust(share, b"\0")
        checked = piece + zlib.crc32(piece).to_bytes(4, "little")
        information[b, : layout.used] = np.unpackbits(np.frombuffer(checked, np.uint8))
    sent = _sent(code.encode(information), layout, code)
    bits = constellation.bits
    padded = np.zeros((layout.blocks, -(-layout.sent // bits) * bits), np.uint8)
    padded[:, : layout.sent] = sent[:, _order(layout.sent)] ^ _scramble(layout)
    levels = constellation.write(padded.reshape(-1, bits))
    return np.ascontiguousarray(levels.reshape(layout.blocks, -1).T).reshape(-1)


def content(cells: U8, layout: Layout, constellation: Constellation) -> bytes:
    """What :func:`write` put into cells, from their levels as they were written, without noise.

    Raises ValueError where these are not what it would write.
    """
    code = layout.code()
    labels = constellation.labels[cells.reshape(-1, layout.blocks).T]
    bits = labels[..., None] >> np.arange(constellation.bits, dtype=np.uint8) & 1
    mixed = bits.reshape(layout.blocks, -1)
    sent = np.empty((layout.blocks, layout.sent), np.uint8)
    sent[:, _order(layout.sent)] = mixed[:, : layout.sent] ^ _scramble(layout)
    information = np.zeros((layout.blocks, code.information), np.uint8)
    information[:, : layout.used] = sent[:, : layout.used]
    pieces = [_checked(word) for word in information[:, : layout.used]]
    found = b"".join(piece or b"" for piece in pieces)
    same = np.array_equal(_sent(code.encode(information), layout, code), sent)
    if None in pieces or not same or mixed[:, layout.sent :].any() or any(found[layout.size :]):
        raise _arguments.wrong_value("cells", "words of the code with their checksums", "others")
    return found[: layout.size]


Read = Callable[[int], tuple[NDArray[np.float32], Constellation]]
"""Gives the outputs of all cells in the mean of so many reads, and what they mean."""


def read(
    layout: Layout, look: Read, reads: int, name: str, *, num_threads: int | None = None
) -> bytes:
    """The content, after up to ``reads`` reads of the cells.

    Blocks that one read leaves in doubt are tried again with means and spreads of the levels as
    the read itself shows them; then in the mean of two reads, of four, and more.

    Raises
    ------
    DecodeError
        If a block is still in doubt; with the first such block's number.
    """
    code = layout.code()
    pieces: list[bytes | None] = [None] * layout.blocks
    count = 1
    while True:
        outputs, expected = look(count)
        for refit in (False, True):
            doubtful = [b for b, piece in enumerate(pieces) if piece is None]
            constellation = expected.refit(outputs) if refit else expected
            for start in range(0, len(doubtful), AT_ONCE):
                some = doubtful[start : start + AT_ONCE]
                soft = _soft_bits(outputs, layout, constellation, some, code)
                words, rounds = code.decode(soft, num_threads=num_threads)
                for b, word, taken in zip(some, words, rounds, strict=True):
                    pieces[b] = _checked(word[: layout.used]) if taken >= 0 else None
            if None not in pieces:
                return b"".join(piece for piece in pieces if piece is not None)[: layout.size]
        failed = [b for b, piece in enumerate(pieces) if piece is None]
        if count >= reads:
            raise DecodeError(
                f"{name}: block {failed[0]} of {layout.blocks} cannot be decoded after {count} "
                f"{'read' if count == 1 else 'reads'} ({len(failed)} blocks in doubt)"
            )
        count = min(2 * count, reads)


def _checked(bits: U8) -> bytes | None:
    found = np.packbits(bits).tobytes()
    return found[:-4] if zlib.crc32(found[:-4]).to_bytes(4, "little") == found[-4:] else None


def _soft_bits(
    outputs: NDArray[np.float32],
    layout: Layout,
    constellation: Constellation,
    blocks: list[int],
    code: Code,
) -> NDArray[np.float32]:
    chosen = np.ascontiguousarray(outputs.reshape(-1, layout.blocks)[:, blocks].T)
    soft = constellation.soft_bits(chosen.reshape(-1)).reshape(len(blocks), -1)[:, : layout.sent]
    soft = np.where(_scramble(layout)[blocks], -soft, soft)
    full = np.full((len(blocks), code.length), 1000.0, np.float32)  # the bits that are 0
    sent = np.empty_like(soft)
    sent[:, _order(layout.sent)] = soft
    full[:, : layout.used] = sent[:, : layout.used]
    full[:, code.information :] = sent[:, layout.used :]
    return full


def _sent(words: U8, layout: Layout, code: Code) -> U8:
    """The bits of words that are in cells: all but those that are always 0."""
    return np.concatenate([words[:, : layout.used], words[:, code.information :]], axis=1)


def _order(count: int) -> NDArray[np.intp]:
    """The order in which a block's bits lie in its cells."""
    words = np.empty(count, np.uint32)
    _core.random_words(words, random.key(count, "block order"), 0, 0)
    return np.argsort(words, kind="stable")


def _scramble(layout: Layout) -> U8:
    """Bits that are added to each block's, so that all levels are written equally often."""
    words = np.empty(layout.blocks * layout.sent, np.uint32)
    _core.random_words(words, random.key(layout.sent, "block scrambling"), 0, 0)
    return (words & 1).astype(np.uint8).reshape(layout.blocks, layout.sent)
