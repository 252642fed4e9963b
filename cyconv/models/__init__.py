"""Known networks as compositions of layers."""

from cyconv.models.lenet import LeNet5

__all__ = ["LeNet5"]
