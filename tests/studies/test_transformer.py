"""The study of a sentence encoder: its options, texts, and a directory of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
from noisycells.cli import main  # noqa: E402
from noisycells.studies import encoders, measures, transformer  # noqa: E402


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["study", "transformer", *map(str, arguments)])


def means(report: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(e["row"], e["column"]): e["mean"] for e in report["tables"][0]["entries"]}


def test_corrections_help(tmp_path: Path) -> None:
    result = run("--quick", "--device", "pcm_hermes", "--times", "86400", "--repeats", 3,
                 "-o", tmp_path, "--cache", tmp_path / "cache", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    found = means(report)
    left = {way: 1 - found[f"pcm_hermes, {way}", "1 day"] for way in transformer.WAYS}
    assert left["deployed"] < 0.5 * left["converted"]
    assert left["corrected"] < 0.6 * left["deployed"]
    assert left["trained"] < 1.1 * left["corrected"]
    assert report["settings"]["encoder"] is None and report["settings"]["rank"] == 4
    kept = [entry["mean"] for entry in report["tables"][1]["entries"]]
    assert all(50 <= value <= 100 for value in kept)


def test_offsets_alone_help(tmp_path: Path) -> None:
    result = run("--quick", "--device", "pcm_hermes", "--times", "1", "--repeats", 3, "--rank", 0,
                 "--ways", "deployed,corrected", "-o", tmp_path, "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    found = means(json.loads(result.stdout))
    left = {way: 1 - found[f"pcm_hermes, {way}", "1 s"] for way in ("deployed", "corrected")}
    assert left["corrected"] < 0.9 * left["deployed"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny random BERT, with a tokenizer of whole words."""
    transformers = pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    words = sorted({w.strip(".,").lower() for s in encoders.sentences(2000) for w in s.split()})
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_a_directory_of_transformers(directory: Path, tmp_path: Path) -> None:
    options = ("--quick", "--encoder", directory, "--device", "ideal", "--ways", "deployed",
               "-o", tmp_path, "--cache", tmp_path / "cache", "--json")  # fmt: skip
    result = run(*options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert means(report)["ideal, deployed", "programmed"] > 0.99
    assert report["settings"]["encoder"] == "tiny-bert"
    assert str(directory.parent) not in result.stdout
    (directory / "config.json").write_text((directory / "config.json").read_text() + "\n")
    assert json.loads(run(*options).stdout)["settings"] != report["settings"]  # another digest


def test_sentences() -> None:
    found = encoders.sentences(600)
    assert len(set(found)) == 600 and found[:10] == encoders.sentences(10)
    assert all(40 <= len(text) <= 160 for text in found)


def test_neighbors_that_stay() -> None:
    clean = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]))
    assert encoders.neighbors(clean, clean) == 100
    assert encoders.neighbors(clean[[0, 2, 1, 3]], clean) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ways", "retrained"), "ways: expected some of converted"),
        (("--rank", 0), r"rank: expected an int in [1, "),
        (("--examples", 5), r"examples: expected an int in [32, "),
        (("--device", "ideal", "--device", "ideal"), "device: expected devices of different"),
        (
            ("--encoder", Path(__file__).parent),
            "encoder: expected a directory of a model of transformers",
        ),
    ],
)
def test_refused(options: tuple[object, ...], message: str, tmp_path: Path) -> None:
    result = run("--quick", *options, "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert result.exit_code == 2 and message in result.stderr, result.output


def test_devices_are_measured_when_they_were() -> None:
    times = transformer.Options().times
    assert measures.moments(nc.devices.ideal(), times) == []
    assert measures.moments(nc.devices.pcm_hermes(), times) == [1.0, 3600.0, 86_400.0]
    assert measures.moments(nc.devices.pcm_hermes(), (1e6,)) == []
