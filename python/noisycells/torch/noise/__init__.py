"""Noise in the weights of a model while it is trained or evaluated: Zhou et al. (2020).

:mod:`.inject` puts it there for the time of a ``with`` block, :mod:`.kinds` says what is drawn,
:mod:`.effective` replaces weights by values, and :mod:`.quantize` rounds them to few levels.
"""
