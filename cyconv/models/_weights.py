"""Starting values that keep the variance through many layers of ReLU."""

from __future__ import annotations

from typing import Any

from cyconv.nn import Conv2d, Module
from cyconv.nn.init import constant_, kaiming_normal_


def start(model: Module, rng: Any) -> None:
    """
    Draw the weights of all convolutions of a model anew, as He, Zhang, Ren and Sun (2015, "Delving deep into
    rectifiers") do: normal with variance 2 / (K R S), biases 0.

    Parameters
    ----------
    model : Module
        The network; its Conv2d layers are changed in place.
    rng : numpy.random.Generator
        Where the values come from.
    """
    for layer in model.modules():
        if isinstance(layer, Conv2d):
            kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", rng=rng)
            if layer.bias is not None:
                constant_(layer.bias, 0.0)
