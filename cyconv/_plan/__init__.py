"""From a geometry to the walk of a kernel: which algorithm, and how it is cut into blocks.

Pure Python on numbers, no arrays. Nothing here depends on the number of threads, so neither do results.
"""

from ._common import Target, even
from .choice import choose
from .depthwise import depthwise, depthwise_obstacle
from .direct import flattened, forward, input_gradient, weight_gradient
from .winograd import winograd, winograd_obstacle

__all__ = [
    "Target",
    "choose",
    "depthwise",
    "depthwise_obstacle",
    "even",
    "flattened",
    "forward",
    "input_gradient",
    "weight_gradient",
    "winograd",
    "winograd_obstacle",
]
