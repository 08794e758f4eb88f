"""The papers' networks: LeNet and its variants, a perceptron, and the residual networks."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn
from torch.nn import functional as F

from .. import _arguments

__all__ = [
    "MLP",
    "LeNet",
    "LeNetDeep",
    "LeNetNarrow",
    "LeNetWide",
    "ResNet",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "SlimResNet20",
]

Shape = tuple[int, int, int]


class LeNet(nn.Module):
    """LeNet with 430,500 weights and 580 biases (Isik et al. 2020, Table 3).

    Two 5x5 convolutions of 20 and 50 filters, each with ReLU and 2x2 max pooling, then linear
    layers 800-500-10 with a ReLU between them.

    Parameters
    ----------
    classes : int
        Number of outputs.
    width : float
        Factor on the filters of both convolutions and on the 500 hidden units, rounded.
    depth : int
        More 3x3 convolutions after the second one, each with as many filters, the same size of
        image and a ReLU, before the second pooling.
    shape : tuple of int
        Channels, height and width of the images.

    Raises
    ------
    ValueError
        If ``width`` leaves a layer without filters, ``depth`` is negative or the images are below
        16 x 16.
    """

    def __init__(
        self,
        classes: int = 10,
        width: float = 1.0,
        depth: int = 0,
        shape: Shape = (1, 28, 28),
    ) -> None:
        super().__init__()
        width = _arguments.number("width", width, above=0)
        first, second, hidden = (round(count * width) for count in (20, 50, 500))
        if first < 1:
            raise _arguments.wrong_value("width", "at least one filter of 20 to be left", width)
        depth = _arguments.count("depth", depth, 0)
        classes = _arguments.count("classes", classes)
        channels, *sides = (_arguments.count("shape", size) for size in shape)
        if min(sides) < 16:
            raise _arguments.wrong_value("shape", "images of 16 x 16 or more", shape)
        height, breadth = (((side - 4) // 2 - 4) // 2 for side in sides)
        self.conv1 = nn.Conv2d(channels, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.more = nn.ModuleList(nn.Conv2d(second, second, 3, padding=1) for _ in range(depth))
        self.fc1 = nn.Linear(second * height * breadth, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of images of shape (n, *shape)."""
        # Pooling first gives the same values as ReLU first, on a quarter of the data.
        x = F.relu(F.max_pool2d(self.conv1(images), 2))
        x = self.conv2(x)
        for convolution in self.more:
            x = convolution(F.relu(x))
        x = F.relu(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(x.flatten(1)))
        result: Tensor = self.fc2(x)
        return result


def LeNetWide(classes: int = 10, shape: Shape = (1, 28, 28)) -> LeNet:
    """LeNet with twice the filters and hidden units: 40, 100 and 1000; 1.71 M weights.

    The sizes of this and the next two are this package's: Zhou et al. (2020, Figs. 2b and 6)
    compare LeNet with wider, narrower and deeper variants, and the text at hand does not say how
    much wider, narrower or deeper.
    """
    return LeNet(classes, width=2, shape=shape)


def LeNetNarrow(classes: int = 10, shape: Shape = (1, 28, 28)) -> LeNet:
    """LeNet with half the filters and hidden units: 10, 25 and 250; 0.11 M weights."""
    return LeNet(classes, width=0.5, shape=shape)


def LeNetDeep(classes: int = 10, shape: Shape = (1, 28, 28)) -> LeNet:
    """LeNet with two more convolutions, six layers in all; 0.48 M weights."""
    return LeNet(classes, depth=2, shape=shape)


class MLP(nn.Module):
    """Three linear layers 784-100-100-10 with ReLU between them (Isik et al. 2020, Table 4).

    Parameters
    ----------
    classes : int
        Number of outputs.
    shape : tuple of int
        Channels, height and width of the images.
    """

    def __init__(self, classes: int = 10, shape: Shape = (1, 28, 28)) -> None:
        super().__init__()
        self.fc1 = nn.Linear(math.prod(shape), 100)
        self.fc2 = nn.Linear(100, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of images of shape (n, *shape)."""
        x = F.relu(self.fc1(images.flatten(1)))
        x = F.relu(self.fc2(x))
        result: Tensor = self.fc3(x)
        return result


class ResNet(nn.Module):
    """A residual network for small images (He et al. 2016, section 4.2).

    A 3x3 convolution, stages of blocks, the average over the image, a linear layer. A block is two
    3x3 convolutions, each with batch normalization, and a shortcut past both; ReLU follows the
    first and the sum. Each stage after the first halves the size and doubles the filters in its
    first block, whose shortcut takes every second pixel and either leaves the new channels 0 or
    passes through a 1x1 convolution with batch normalization.

    Parameters
    ----------
    classes : int
        Number of outputs.
    in_channels : int
        Channels of the images, which may be of any size.
    width : int
        Filters of the first stage.
    blocks : int
        Blocks a stage.
    stages : int
        Stages; the network is 2 x blocks x stages + 2 layers deep.
    projection : bool
        Whether shortcuts into a new stage have weights (options B and A of the paper).

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016,
    https://doi.org/10.1109/CVPR.2016.90.
    """

    def __init__(
        self,
        classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        blocks: int = 3,
        stages: int = 3,
        projection: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = [width] + [width << stage for stage in range(stages) for _ in range(blocks)]
        self.blocks = nn.Sequential(
            *(_Block(*sizes, projection) for sizes in itertools.pairwise(widths))
        )
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of images of shape (n, in_channels, height, width)."""
        x = F.relu(self.norm(self.conv(images)))
        result: Tensor = self.fc(self.blocks(x).mean((2, 3)))
        return result


def ResNet18(classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-18 for small images, 11.17 M parameters (Isik et al. 2020, Table 5).

    Four stages of two blocks with 64 to 512 filters and shortcuts with weights.
    """
    return ResNet(classes, in_channels, width=64, blocks=2, stages=4, projection=True)


def ResNet20(classes: int = 10, in_channels: int = 3, width: int = 16) -> ResNet:
    """ResNet-20 for CIFAR, 269,722 parameters (He et al. 2016, section 4.2)."""
    return ResNet(classes, in_channels, width)


def ResNet32(classes: int = 10, in_channels: int = 3, width: int = 16) -> ResNet:
    """ResNet-32 for CIFAR, 464,154 parameters (He et al. 2016, section 4.2)."""
    return ResNet(classes, in_channels, width, blocks=5)


def SlimResNet20(classes: int = 10, in_channels: int = 3, blocks: int = 3) -> ResNet:
    """The "slim ResNet-20" of Isik et al. (2020), which text and table tell differently.

    The name and the 0.27 M parameters of the text (appendix B) are those of ResNet-20, with 3
    blocks a stage; their Table 6 shows 2, which makes 14 layers and 172,506 parameters.
    """
    return ResNet(classes, in_channels, blocks=blocks)


class _Block(nn.Module):
    """Two convolutions and the shortcut past them."""

    def __init__(self, channels: int, width: int, projection: bool) -> None:
        super().__init__()
        self.stride, self.new = width // channels, width - channels
        self.conv1 = nn.Conv2d(channels, width, 3, self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(channels, width, 1, self.stride, bias=False), nn.BatchNorm2d(width)
            )
            if projection and self.new
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.new:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return F.relu(y + x)
