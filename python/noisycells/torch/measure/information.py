"""Mutual information between a network's input and its noisy output (Zhou et al. 2020, Fig. 2b)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ... import _arguments
from ..._types import F64, I64
from ...random import fold_in
from ...storage import AnalogModel, CodedModel, StoredModel
from ..checks import check_module
from ..inputs import logits_of
from ..training.fit import device_of
from .evaluate import realizations, without_noise

__all__ = ["MutualInformation", "count_outputs", "entropy", "information", "mutual_information"]


@dataclass(frozen=True)
class MutualInformation:
    """Estimates of I(X; Y) = H(Y) - H(Y|X), in bits.

    The plug-in estimate is biased upwards: counts of few draws look more certain than the
    distribution that they are drawn from. To first order in 1 / draws the bias is
    ``(mean_x(K_x - 1) - (K - 1) / images) / (2 repeats ln 2)`` bits, with K_x the symbols that
    input x can give and K those that any can. The Miller-Madow correction subtracts it with the
    symbols that were seen, which leaves part of the bias where many symbols are rare; the
    corrected value can be slightly negative.

    Parameters
    ----------
    plug_in : float
        With the shares of the counts as probabilities.
    corrected : float
        With both entropies corrected after Miller and Madow.
    noise_free : float
        Of the network without noise. Exact, since H(Y|X) = 0 and the images are all the inputs.
    chance : float
        Plug-in estimate of the same outputs dealt out to the inputs at random, where the truth is
        0: what the bias comes to when nothing is left.
    symbols : int
        Different outputs seen under noise.
    """

    plug_in: float
    corrected: float
    noise_free: float
    chance: float
    symbols: int

    @property
    def normalized(self) -> float:
        """``plug_in / noise_free``; NaN for a network that gives all images the same output."""
        return self.plug_in / self.noise_free if self.noise_free else float("nan")

    @property
    def normalized_corrected(self) -> float:
        """``corrected / noise_free``, as :attr:`normalized`."""
        return self.corrected / self.noise_free if self.noise_free else float("nan")


def mutual_information(
    model: nn.Module,
    images: npt.NDArray[np.float32] | Tensor,
    repeats: int = 100,
    *,
    output: str = "class",
    bins: int = 2,
    seed: int = 0,
    stored: StoredModel | CodedModel | AnalogModel | None = None,
) -> MutualInformation:
    """How much the noisy output of a network tells about which image went in.

    The input is uniform over ``images`` (the paper takes 200 training images), and each is run on
    ``repeats`` noisy realizations (the paper: 100) of the model, from the sources of noise that
    :func:`noisycells.torch.evaluate` knows. How the paper makes symbols of its outputs is not
    known to us; both common ways are here. No estimate exceeds ``log2(len(images))``.

    Parameters
    ----------
    model : torch.nn.Module
    images : ndarray of float32 or Tensor, shape (n, ...)
        Normalized as for training.
    repeats : int
        Noisy realizations, at least 1.
    output : "class" or "softmax"
        The symbol is the predicted class; or the cell of a histogram of all softmax outputs
        together, each in ``bins`` intervals of equal width. Two tell which output is above one
        half, if any is; more make many more symbols, and the bias grows until ``chance`` is
        near ``plug_in`` and nothing can be concluded.
    bins : int
        Intervals of [0, 1], 2 to 256; only for ``output="softmax"``.
    seed : int
        Seed of the realizations.
    stored : StoredModel, CodedModel or AnalogModel, optional
        As for :func:`noisycells.torch.evaluate`.

    Returns
    -------
    MutualInformation

    Raises
    ------
    ValueError
        If there is no image, no noise or more than one source of it, or an argument is out of
        range.
    """
    check_module(model)
    if len(images) == 0:
        raise _arguments.wrong_value("images", "at least one", "0")
    repeats = _arguments.count("repeats", repeats)
    _arguments.choice("output", output, ("class", "softmax"))
    bins = _arguments.integer("bins", bins, 2, 256)
    seed = _arguments.seed("seed", seed)
    x = torch.as_tensor(images, device=device_of(model))
    bins = bins if output == "softmax" else 0
    with without_noise(model):
        clean = _symbols(model, x, bins)
    noisy = []
    with realizations(model, stored) as realization:
        for i in range(repeats):
            with realization(fold_in(seed, i)):
                noisy.append(_symbols(model, x, bins))
    counts = count_outputs(np.stack(noisy))
    dealt = np.random.default_rng(seed).permutation(np.concatenate(noisy)).reshape(np.shape(noisy))
    return MutualInformation(
        information(counts),
        information(counts, corrected=True),
        information(count_outputs(clean[None])),
        information(count_outputs(dealt)),
        counts.shape[1],
    )


def _symbols(model: nn.Module, images: Tensor, bins: int) -> I64:
    """Of each image the cells of its softmax outputs in that many bins; with 0 its class."""
    logits = torch.cat([logits_of(model(batch)) for batch in images.split(500)])
    if not bins:
        return logits.argmax(1, keepdim=True).cpu().numpy()
    scaled = logits.softmax(1).double() * bins
    return scaled.long().clamp(max=bins - 1).cpu().numpy()


def count_outputs(outputs: npt.NDArray[np.integer]) -> I64:
    """How often each input gave each symbol.

    Parameters
    ----------
    outputs : ndarray of int, shape (repeats, inputs, parts)
        All parts of an output together are its symbol.

    Returns
    -------
    ndarray of int64, shape (inputs, symbols)
        Symbols that nothing gave have no column.
    """
    repeats, inputs, parts = outputs.shape
    found, symbol = np.unique(outputs.reshape(-1, parts), axis=0, return_inverse=True)
    counts = np.zeros((inputs, len(found)), np.int64)
    np.add.at(counts, (np.tile(np.arange(inputs), repeats), symbol.reshape(-1)), 1)
    return counts


def information(counts: npt.ArrayLike, corrected: bool = False) -> float:
    """Mutual information of a table of counts, in bits.

    Parameters
    ----------
    counts : array_like of int, shape (inputs, symbols)
        How often each input gave each symbol, each input at least once.
    corrected : bool
        Take the entropies of :func:`entropy` with their correction.
    """
    counts = np.asarray(counts)
    shares = counts.sum(1) / counts.sum()
    return float(entropy(counts.sum(0), corrected) - shares @ entropy(counts, corrected))


def entropy(counts: npt.ArrayLike, corrected: bool = False) -> F64:
    """Entropy in bits of the distributions that counts are draws from, along the last axis.

    Parameters
    ----------
    counts : array_like of int, shape (..., symbols)
        Sum of each at least 1.
    corrected : bool
        Add ``(K - 1) / (2 n ln 2)`` to the plug-in estimate, for n draws that gave K different
        symbols: the first-order bias found by G. A. Miller, "Note on the bias of information
        estimates" (1955).

    Returns
    -------
    ndarray of float64, shape (...)
    """
    counts = np.asarray(counts, np.float64)
    draws = counts.sum(-1)
    p = counts / draws[..., None]
    bits = -np.sum(p * np.log2(np.where(p > 0, p, 1)), axis=-1)
    if corrected:
        bits = bits + (np.count_nonzero(counts, axis=-1) - 1) / (2 * np.log(2) * draws)
    return np.asarray(bits, np.float64)
