"""The MNIST networks of Isik et al. (2020, Tables 3 and 4), and ResNet-20 of He et al. (2016)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MLP", "LeNet", "ResNet20"]


class LeNet(nn.Module):
    """LeNet with 430,500 weights and 580 biases (Isik et al. 2020, Table 3).

    Two 5x5 convolutions of 20 and 50 filters, each with ReLU and 2x2 max pooling, then linear
    layers 800-500-10 with a ReLU between them.

    Parameters
    ----------
    classes : int
        Number of outputs.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of images of shape (n, 1, 28, 28)."""
        # Pooling first gives the same values as ReLU first, on a quarter of the data.
        x = F.relu(F.max_pool2d(self.conv1(images), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class MLP(nn.Module):
    """Three linear layers 784-100-100-10 with ReLU between them (Isik et al. 2020, Table 4).

    Parameters
    ----------
    classes : int
        Number of outputs.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 100)
        self.fc2 = nn.Linear(100, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of images of shape (n, 1, 28, 28)."""
        x = F.relu(self.fc1(images.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class ResNet20(nn.Module):
    """ResNet-20 for CIFAR with 269,722 parameters (He et al. 2016, section 4.2).

    A 3x3 convolution, three stages of blocks, the average over the image, a linear layer. A block
    is two 3x3 convolutions, each with batch normalisation, and a shortcut past both; ReLU follows
    the first and the sum. Each stage after the first halves the size and doubles the filters in
    its first block, whose shortcut takes every second pixel and leaves the new channels 0.

    Parameters
    ----------
    classes : int
        Number of outputs.
    in_channels : int
        Channels of the images.
    width : int
        Filters of the first stage.
    blocks : int
        Blocks a stage; the network is 6 x blocks + 2 layers deep.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016,
    https://doi.org/10.1109/CVPR.2016.90.
    """

    def __init__(
        self, classes: int = 10, in_channels: int = 3, width: int = 16, blocks: int = 3
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = [width] + [width << stage for stage in range(3) for _ in range(blocks)]
        self.blocks = nn.Sequential(*map(_Block, widths, widths[1:]))
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of images of shape (n, in_channels, height, width)."""
        x = F.relu(self.norm(self.conv(images)))
        return self.fc(self.blocks(x).mean((2, 3)))


class _Block(nn.Module):
    """Two convolutions and the shortcut past them."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.stride, self.new = width // channels, width - channels
        self.conv1 = nn.Conv2d(channels, width, 3, self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.new:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return F.relu(y + x)
