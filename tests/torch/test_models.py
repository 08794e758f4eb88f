"""The papers' networks, and the door to the torch part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

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


def relu_and_pool(model: nct.LeNet) -> list[torch.nn.Module]:
    """The layers of a deep LeNet after its first pooling, in the order of the docstring."""
    relu = torch.nn.ReLU()
    more = [layer for convolution in model.more for layer in (convolution, relu)]
    pool = [torch.nn.MaxPool2d(2), torch.nn.Flatten()]
    return [model.conv2, relu, *more, *pool, model.fc1, relu, model.fc2]


def test_variants_of_lenet() -> None:
    """Weights by hand: 25 a filter and channel of a 5x5 convolution, 9 of a 3x3 one."""
    for make, first, second, hidden, depth in (
        (nct.LeNet, 20, 50, 500, 0),
        (nct.LeNetWide, 40, 100, 1000, 0),
        (nct.LeNetNarrow, 10, 25, 250, 0),
        (nct.LeNetDeep, 20, 50, 500, 2),
        (lambda: nct.LeNet(width=0.25, depth=1), 5, 12, 125, 1),
    ):
        weights = sum(p.numel() for p in make().parameters() if p.ndim > 1)
        convolutions = 25 * first * (1 + second) + 9 * depth * second**2
        assert weights == convolutions + hidden * (16 * second + 10)


def test_deep_lenet_forward() -> None:
    model = nct.build(nct.LeNetDeep, seed=1)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    first = torch.max_pool2d(torch.relu(model.conv1(images)), 2)
    expected = torch.nn.Sequential(*relu_and_pool(model))(first)
    assert torch.equal(model(images), expected)


@pytest.mark.parametrize("make", [nct.LeNet, nct.LeNetWide, nct.LeNetDeep, nct.MLP])
def test_networks_for_other_images(make: Callable[..., torch.nn.Module]) -> None:
    assert make(7, shape=(3, 32, 24))(torch.zeros(2, 3, 32, 24)).shape == (2, 7)


def test_sizes_of_lenet_are_checked() -> None:
    with pytest.raises(ValueError, match=r"width: expected .* got 0.01"):
        nct.LeNet(width=0.01)
    with pytest.raises(ValueError, match=r"depth: expected an int in \[0, .*, got -1"):
        nct.LeNet(depth=-1)
    with pytest.raises(ValueError, match=r"shape: expected .* 16 x 16 or more, got \(1, 28, 15\)"):
        nct.LeNet(shape=(1, 28, 15))


def test_resnet20_has_the_layers_of_the_paper() -> None:
    model = nct.ResNet20()
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [16] * 7 + [32] * 6 + [64] * 6
    assert [n for n, m in enumerate(convolutions) if m.stride == (2, 2)] == [7, 13]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("make", "parameters", "depth"),
    [
        (nct.ResNet18, 11_173_962, 18),  # Isik et al., appendix B: 11.2 M
        (nct.ResNet20, 269_722, 20),  # He et al., Table 6: 0.27 M
        (nct.ResNet32, 464_154, 32),  # He et al., Table 6: 0.46 M
        (nct.SlimResNet20, 269_722, 20),
        (lambda: nct.SlimResNet20(blocks=2), 172_506, 14),
    ],
)
def test_sizes_of_resnets(make: Callable[[], torch.nn.Module], parameters: int, depth: int) -> None:
    model = make()
    assert sum(p.numel() for p in model.parameters()) == parameters
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == depth
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_resnet18_has_the_stages_of_the_paper() -> None:
    model = nct.ResNet18(in_channels=1)
    sizes: list[torch.Size] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[1:]))
    model(torch.zeros(1, 1, 32, 32))
    expected = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert sizes == [torch.Size(size) for size in expected for _ in range(2)]


def test_projections_are_the_shortcuts() -> None:
    model = nct.ResNet(4, 1, width=2, blocks=1, stages=2, projection=True).eval()
    torch.nn.init.zeros_(model.blocks[0].norm2.weight)
    torch.nn.init.zeros_(model.blocks[1].norm2.weight)
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    x = torch.relu(model.norm(model.conv(images)))
    convolution, norm = model.blocks[1].shortcut
    x = torch.relu(norm(torch.conv2d(x, convolution.weight, stride=2)))
    torch.testing.assert_close(model(images), model.fc(x.mean((2, 3))))


def test_resnet20_shortcuts_pass_by_the_convolutions() -> None:
    model = nct.ResNet(classes=4, in_channels=1, width=2, blocks=1).eval()
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
