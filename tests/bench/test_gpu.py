"""The benchmark of a GPU, where there is none."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch")

from bench import gpu  # noqa: E402


def test_it_refuses_a_machine_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench.gpu"])
    with pytest.raises(SystemExit, match=r"^bench\.gpu: expected a GPU with CUDA.*nothing was"):
        gpu.main()
    assert capsys.readouterr().out == ""
