"""Until the compiled core has crossbars: the same calls on reference.py. Slow."""
from __future__ import annotations
from types import SimpleNamespace
from typing import Any
import numpy as np
from . import reference as r
from ..runtime import simd_level

def Programming(table, x0, inv_dx, low, high, stuck=(0, 0), stuck_conductances=(0, 0)):
    return r.Programming(table, x0, inv_dx, low, high, r.Stuck(*stuck, *stuck_conductances))

def Ageing(relaxation, drift, flicker, x0, inv_dx, low, high, stuck=(0, 0), stuck_conductances=(0, 0)):
    return r.Ageing(relaxation, drift, flicker, x0, inv_dx, low, high, r.Stuck(*stuck, *stuck_conductances))

def program(weights, inverse, sign, g_min, span, out, device, seed, stream, cell, num_threads=0):
    out[:] = r.program(r.targets(weights, inverse[:, None], sign, g_min, span), device, r.Draw(seed, stream, cell))

def age(weights, inverse, sign, g_min, span, programmed, out, device, seed, stream, cell, num_threads=0):
    t = r.targets(weights, inverse[:, None], sign, g_min, span)
    out[:] = r.age(t, programmed, device, r.Draw(seed, stream, cell))

class CrossbarArray:
    def __init__(self, n, k, rows, planes, integer, int8, variance):
        self.rows, self.integer, self.int8 = rows, integer, int8
        self.planes = [None] * planes
        self.simd_level = simd_level()
    def pack(self, plane, positive, negative, inverse_span, variance, num_threads=0):
        self.planes[plane] = r.Plane(r.plane_values(positive, negative, inverse_span), variance)
    def product(self, x, y, dac_levels, slice_bits, adc_levels, steps, plane_factors, output_noise,
                weight_noise, fixed_range, scale, bias, row_scale, seed, stream, inside, num_threads=0):
        if not np.isfinite(x).all():
            raise ValueError("x: expected finite values, got NaN or infinity")
        spec = r.Spec(self.rows, dac_levels, slice_bits, adc_levels, steps, plane_factors,
                      output_noise, weight_noise, self.integer, self.int8)
        ranges = r.input_ranges(x if row_scale is None else x * row_scale, fixed_range)
        res = r.product(x, self.planes, spec, ranges, scale, seed, stream, row_scale, bias)
        y[:] = res.y
        if inside is not None:
            inside[:] = np.packbits(res.inside, axis=-1, bitorder="little")
        return res.clipped
    def convolve(self, x, y, kernel, stride, padding, dilation, *how):
        p = np.pad(x, [(0, 0), (0, 0)] + [(a, a) for a in padding])
        b, od, oh, ow, n = y.shape
        c = x.shape[1]
        cols = np.empty((b, od, oh, ow, c, *kernel), np.float32)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                for l in range(kernel[2]):
                    at = [k * d for k, d in zip((i, j, l), dilation)]
                    cut = p[:, :, at[0]:at[0] + (od - 1) * stride[0] + 1:stride[0],
                            at[1]:at[1] + (oh - 1) * stride[1] + 1:stride[1],
                            at[2]:at[2] + (ow - 1) * stride[2] + 1:stride[2]]
                    cols[..., i, j, l] = cut.transpose(0, 2, 3, 4, 1)
        flat = np.empty((b * od * oh * ow, n), np.float32)
        clipped = self.product(cols.reshape(len(flat), -1), flat, *how)
        y[:] = flat.reshape(y.shape)
        return clipped
