"""From a geometry to the walk of a kernel: which algorithm, and how it is cut into blocks.

Pure Python on numbers, no arrays. Nothing here depends on the number of threads, so neither do results.
"""

from ._common import Target, even
from ._volume import edges_of_volume, flattened, volume
from .choice import COMPARED, choose, cost, input_gradient_tile, obstacle, weight_gradient_tile
from .depthwise import (
    depthwise,
    depthwise_obstacle,
    depthwise_weight_gradient,
    mirrored_obstacle,
    planes_gradient,
    spread_obstacle,
)
from .direct import forward, input_gradient
from .tiled_gradient import winograd_gradient
from .weight_gradient import weight_gradient
from .winograd import winograd, winograd_gradient_obstacle, winograd_input_gradient_obstacle, winograd_obstacle

__all__ = [
    "COMPARED",
    "Target",
    "choose",
    "cost",
    "depthwise",
    "depthwise_obstacle",
    "depthwise_weight_gradient",
    "edges_of_volume",
    "even",
    "flattened",
    "forward",
    "input_gradient",
    "input_gradient_tile",
    "mirrored_obstacle",
    "obstacle",
    "planes_gradient",
    "spread_obstacle",
    "volume",
    "weight_gradient",
    "weight_gradient_tile",
    "winograd",
    "winograd_gradient",
    "winograd_gradient_obstacle",
    "winograd_input_gradient_obstacle",
    "winograd_obstacle",
]
