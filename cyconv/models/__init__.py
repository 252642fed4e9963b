"""Known networks as compositions of layers."""

from cyconv.models.lenet import LeNet5
from cyconv.models.resnet import ResNet20
from cyconv.models.vgg import VGG11

__all__ = ["LeNet5", "ResNet20", "VGG11"]
