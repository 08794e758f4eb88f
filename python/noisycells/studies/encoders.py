"""Sentence encoders, and sentences: of transformers with text, or a tiny random one with tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import _arguments

__all__ = [
    "BATCH",
    "Encoder",
    "digest",
    "embedded",
    "encoder",
    "load",
    "neighbors",
    "sentences",
    "source",
    "split",
    "tiny",
    "tokenized",
    "unpadded",
]

Batches = list[dict[str, Tensor]]

BATCH = 16  # sentences
TOKENS = 1000  # of the tiny encoder
LENGTH = 24  # most tokens of its sentences


class Encoder(nn.Module):
    """Sentence embeddings: the mean over tokens, of length 1.

    Parameters
    ----------
    model : torch.nn.Module
        Gives an object with a ``last_hidden_state`` (sentences, tokens, features).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Tensor) -> Tensor:
        """(sentences, features)."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **others)
        return _pooled(found.last_hidden_state, attention_mask)


class TinyEncoder(nn.Module):
    """The same of a random transformer: 2 layers of 64 features, 4 heads and 128 hidden units."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, 0.0, "gelu", batch_first=True)
        self.embedding = nn.Embedding(TOKENS, 64)
        self.positions = nn.Parameter(0.1 * torch.randn(LENGTH, 64))
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(sentences, features)."""
        x = self.embedding(input_ids) + self.positions[: input_ids.shape[1]]
        found = self.layers(x, src_key_padding_mask=attention_mask == 0)
        return _pooled(found, attention_mask)


def _pooled(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    mask = attention_mask[..., None].to(hidden)
    return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def sentences(count: int) -> list[str]:
    """Of Python's reference (``pydoc_data.topics``), in an order drawn once; at most 1,000 or so.

    They are other ones with another Python.
    """
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


def load(directory: str | Path) -> tuple[Encoder, Any]:
    """The encoder in a directory as ``AutoModel.from_pretrained`` takes it, and its tokenizer.

    Raises
    ------
    ImportError
        If transformers is not installed.
    """
    from transformers import AutoModel, AutoTokenizer  # type: ignore[import-not-found, unused-ignore]

    model = AutoModel.from_pretrained(directory, local_files_only=True).float()
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    return Encoder(model).eval(), tokenizer


def tokenized(tokenizer: Any, texts: list[str]) -> Batches:
    """Batches of 16 sentences, of at most 64 tokens."""
    parts = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    make: dict[str, Any] = {"padding": True, "truncation": True, "max_length": 64}
    return [dict(tokenizer(part, return_tensors="pt", **make)) for part in parts]


def tiny(count: int, seed: int) -> tuple[nn.Module, Batches]:
    """A tiny encoder, and batches of so many sentences of random tokens, some more often."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_arguments.seed("seed", seed))
        model = TinyEncoder().eval()
        often = 1 / torch.arange(1.0, TOKENS + 1)  # Zipf's law
        ids = often.expand(count, -1).multinomial(LENGTH, replacement=True)
        length = torch.randint(6, LENGTH + 1, (count, 1))
    mask = (torch.arange(LENGTH) < length).long()
    parts = zip(ids.split(BATCH), mask.split(BATCH), strict=True)
    return model, [{"input_ids": i, "attention_mask": m} for i, m in parts]


def encoder(named: Mapping[str, str] | None, count: int, seed: int) -> tuple[nn.Module, Batches]:
    """An encoder, and batches of so many sentences.

    Parameters
    ----------
    named : mapping, optional
        A :func:`source`. None: a tiny random one, whose sentences are random, too.
    count : int
    seed : int
        Of the tiny encoder.

    Raises
    ------
    ValueError
        If there are not so many sentences.
    """
    if named is None:
        return tiny(count, seed)
    texts = sentences(count)
    if len(texts) < count:
        raise _arguments.wrong_value("sentences", f"at most {len(texts)} in all", count)
    model, tokenizer = load(named["directory"])
    return model, tokenized(tokenizer, texts)


def split(batches: Batches, first: int) -> tuple[Batches, Batches]:
    """The first sentences, and the others; whole batches."""
    size = len(batches[0]["input_ids"])
    return batches[: -(-first // size)], batches[-(-first // size) :]


def unpadded(batches: Batches) -> Batches:
    """The same sentences with others of as many tokens, so that there is no padding."""
    rows: dict[int, list[dict[str, Tensor]]] = {}
    for batch in batches:
        for i, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            rows.setdefault(length, []).append({n: t[i, :length] for n, t in batch.items()})
    return [
        {name: torch.stack([row[name] for row in found[i : i + BATCH]]) for name in found[0]}
        for _, found in sorted(rows.items())
        for i in range(0, len(found), BATCH)
    ]


@torch.no_grad()
def embedded(model: nn.Module, batches: Batches) -> Tensor:
    """(sentences, features)."""
    return torch.cat([model(**batch) for batch in batches])


def neighbors(found: Tensor, clean: Tensor) -> float:
    """Percent of sentences whose nearest other one is the same for both, (n, features) each."""
    nearest = []
    for embeddings in (found, clean):
        similar = embeddings @ embeddings.T
        nearest.append(similar.fill_diagonal_(-2.0).argmax(1))
    return 100 * (nearest[0] == nearest[1]).double().mean().item()


def source(directory: Path | None) -> dict[str, str] | None:
    """Where an encoder is, and what; None: a tiny one."""
    if directory is None:
        return None
    return {"directory": str(directory), "digest": digest(directory)}


def digest(directory: Path) -> str:
    """Of the configuration and the weights in a directory; 32 hexadecimal digits."""
    files = sorted([*directory.glob("*.json"), *directory.glob("*.safetensors"),
                    *directory.glob("*.bin"), *directory.glob("*.txt")])  # fmt: skip
    if not (directory / "config.json").is_file():
        raise _arguments.wrong_value(
            "encoder",
            "a directory of a model of transformers",
            f"{directory} without a config.json",
        )
    total = hashlib.blake2b(digest_size=16)
    for file in files:
        total.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()
