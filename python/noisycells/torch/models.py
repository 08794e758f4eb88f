"""The two MNIST networks of Isik et al. (2020, Tables 3 and 4)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MLP", "LeNet"]


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
