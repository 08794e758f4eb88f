"""Layers of torch that compute on crossbars: converting a model, the layers, and their operator.

:mod:`.convert` turns a model's layers into crossbar layers and back; :mod:`.layers` has these;
:mod:`.operator` is the one operator that they call, :mod:`.gradient` its derivative,
:mod:`.fused` its product on a GPU, with the bits of the core, and :mod:`.fallback` the same product
in operations of torch, for other devices and dtypes.
"""
