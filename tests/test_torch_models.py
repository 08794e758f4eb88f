"""The papers' networks, and the door to the torch part."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import noisycells.torch as nct  # noqa: E402


def test_lenet_is_table_3() -> None:
    shapes = {name: tuple(p.shape) for name, p in nct.LeNet().named_parameters()}
    assert shapes == {
        "conv1.weight": (20, 1, 5, 5),
        "conv1.bias": (20,),
        "conv2.weight": (50, 20, 5, 5),
        "conv2.bias": (50,),
        "fc1.weight": (500, 800),
        "fc1.bias": (500,),
        "fc2.weight": (10, 500),
        "fc2.bias": (10,),
    }


def test_lenet_forward_in_the_order_of_the_paper() -> None:
    model = nct.build(nct.LeNet, seed=1)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    layers = (
        *(model.conv1, torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(model.conv2, torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(torch.nn.Flatten(), model.fc1, torch.nn.ReLU(), model.fc2),
    )
    assert torch.equal(model(images), torch.nn.Sequential(*layers)(images))


def test_mlp_is_table_4() -> None:
    model = nct.MLP(classes=7)
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim == 2]
    assert shapes == [(100, 784), (100, 100), (7, 100)]
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    layers = (
        *(torch.nn.Flatten(), model.fc1, torch.nn.ReLU()),
        *(model.fc2, torch.nn.ReLU(), model.fc3),
    )
    assert torch.equal(model(images), torch.nn.Sequential(*layers)(images))


def test_resnet20_has_the_layers_of_the_paper() -> None:
    model = nct.ResNet20()
    assert sum(p.numel() for p in model.parameters()) == 269_722
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [16] * 7 + [32] * 6 + [64] * 6
    assert [n for n, m in enumerate(convolutions) if m.stride == (2, 2)] == [7, 13]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_resnet20_shortcuts_pass_by_the_convolutions() -> None:
    model = nct.ResNet20(classes=4, in_channels=1, width=2, blocks=1).eval()
    for name, p in model.named_parameters():
        if "norm2" in name:
            torch.nn.init.zeros_(p)
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    x = torch.relu(model.norm(model.conv(images)))
    pooled = x[:, :, ::4, ::4].mean((2, 3))
    expected = torch.nn.functional.linear(pooled, model.fc.weight[:, :2], model.fc.bias)
    torch.testing.assert_close(model(images), expected)


def test_absent_torch_names_the_extra() -> None:
    code = "import sys; sys.modules['torch'] = None; import noisycells.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'noisycells[torch]'" in done.stderr.splitlines()[-1]
