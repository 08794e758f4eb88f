"""Models of transformers on chips in directories: one call brings the model and its chip back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import noisycells.torch as nct  # noqa: E402

nn = torch.nn
SIZES: dict[str, int] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}


def config(**more: Any) -> Any:
    return transformers.BertConfig(**{**SIZES, **more})


def batch() -> dict[str, Any]:
    torch.manual_seed(3)
    mask = (torch.arange(8) < torch.tensor([[8], [5], [3]])).long()
    return {"input_ids": torch.randint(50, (3, 8)), "attention_mask": mask}


def on_chip(make: Any, dtype: Any = torch.float32) -> Any:
    """A random model, deployed for an hour and corrected."""
    torch.manual_seed(0)
    model = make(config()).to(dtype).eval()
    nct.deploy(model, "pcm_hermes", batch(), seconds=3600.0, quiet=True)
    return nct.correct(model, batch(), 2)


def output(model: Any, key: int = 7) -> Any:
    inputs = batch()
    torch.manual_seed(key)
    with torch.no_grad():
        return model(**inputs)[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_chip_comes_back(dtype: str, tmp_path: Path) -> None:
    model = on_chip(transformers.BertModel, getattr(torch, dtype))
    nct.save_pretrained(model, tmp_path / "made")
    torch.manual_seed(1)  # of no consequence
    again = nct.from_pretrained(tmp_path / "made")
    assert type(again) is transformers.BertModel and not again.training
    assert again.dtype is model.dtype and torch.equal(output(again), output(model))
    assert not torch.equal(output(again, 8), output(model))  # reads have noise
    # its life goes on as that of the other, and so does the digital model under it
    for one in (model, again):
        nct.at(one, 86_400.0)
    assert torch.equal(output(again), output(model))
    assert torch.equal(output(nct.restore(again)), output(nct.restore(model)))


def test_classes_that_are_given(tmp_path: Path) -> None:
    """An Auto class, one of transformers, and one's own; weights that are tied stay so."""

    class Own(transformers.BertForMaskedLM):  # type: ignore[misc, name-defined, unused-ignore]
        """As a user's."""

    model = on_chip(Own)
    nct.save_pretrained(model, tmp_path)
    with pytest.raises(ValueError, match=r"model_class: expected .*, got None for 'Own'"):
        nct.from_pretrained(tmp_path)
    for kind in (Own, transformers.BertForMaskedLM, transformers.AutoModelForMaskedLM):
        again: Any = nct.from_pretrained(tmp_path, kind)
        assert torch.equal(output(again), output(model))
        assert again.cls.predictions.decoder.weight is again.get_input_embeddings().weight
    eager: Any = nct.from_pretrained(tmp_path, Own, attn_implementation="eager")
    assert eager.config._attn_implementation == "eager"


def test_generation_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(small).eval()
    model.generation_config.max_new_tokens, model.generation_config.eos_token_id = 5, None
    nct.deploy(model, "pcm_hermes", {"input_ids": torch.arange(8)[None]}, quiet=True)
    nct.save_pretrained(model, tmp_path)
    found = []
    for one in (model, nct.from_pretrained(tmp_path)):
        torch.manual_seed(1)
        found.append(one.generate(torch.tensor([[1, 2]]), pad_token_id=0, do_sample=False))
    assert found[0].shape == (1, 7) and torch.equal(*found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_the_digital_model_may_stand_beside_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    digital = transformers.BertModel(config()).eval()
    digital.save_pretrained(tmp_path)
    model = on_chip(transformers.BertModel)
    nct.save_pretrained(torch.compile(model), tmp_path)
    assert torch.equal(output(nct.from_pretrained(tmp_path)), output(model))
    plain = transformers.AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
    assert torch.equal(output(plain), output(digital))


def test_what_is_no_chip_of_this_model_is_refused(tmp_path: Path) -> None:
    model = on_chip(transformers.BertModel)
    nct.save_pretrained(model, tmp_path)
    with pytest.raises(ValueError, match=r"model: expected .*chip.safetensors, got others for"):
        nct.from_pretrained(tmp_path, transformers.BertForMaskedLM)
    config(intermediate_size=24).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model: expected that of .*chip.safetensors"):
        nct.from_pretrained(tmp_path, transformers.BertModel)
    config(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model: expected .*others for encoder.layer.1"):
        nct.from_pretrained(tmp_path, transformers.BertModel)
    with pytest.raises(TypeError, match="model_class: expected a class of models of transformers"):
        nct.from_pretrained(tmp_path, nn.Linear)
    with pytest.raises(TypeError, match="rank"):
        nct.from_pretrained(tmp_path, transformers.BertModel, rank=3)
    whole = (tmp_path / "chip.safetensors").read_bytes()
    (tmp_path / "chip.safetensors").write_bytes(whole[:-4] + bytes(4))
    with pytest.raises(ValueError, match=r"chip\.safetensors: "):
        nct.from_pretrained(tmp_path, transformers.BertModel)


def test_what_is_no_directory_or_model_is_refused(tmp_path: Path) -> None:
    transformers.BertModel(config()).save_pretrained(tmp_path / "digital")
    for folder, lacking in (("digital", "chip"), ("nowhere", "config.json and chip")):
        with pytest.raises(ValueError, match=f"directory: expected .* without {lacking}"):
            nct.from_pretrained(tmp_path / folder)
    for wrong in (transformers.BertModel(config()), nn.Sequential(nn.Linear(3, 2)), 3):
        with pytest.raises((TypeError, ValueError), match="model: expected"):
            nct.save_pretrained(wrong, tmp_path / "made")  # type: ignore[arg-type, unused-ignore]
    assert not (tmp_path / "made").exists()


def test_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for call in (nct.from_pretrained, lambda _: nct.save_pretrained(nn.Linear(3, 2), tmp_path)):
        with pytest.raises(ModuleNotFoundError, match="needs transformers, which is not installed"):
            call(tmp_path)
