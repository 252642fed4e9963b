"""asv: LeNet-5, a training step and inference, and what the import costs."""

from __future__ import annotations

import time

import numpy as np

from . import machine, networks, training_oracle
from .peers import cyconv as peer

THREADS = min(2, len(machine.usable_cpus()))


class Training:
    """One step of SGD with momentum: forward, loss, backward, update."""

    params = networks.LENET.batches
    param_names = ("batch",)

    def setup(self, batch: int) -> None:
        peer.load().set_num_threads(THREADS)
        state, data = networks.state(), networks.batches(batch)
        self.step = peer.training(networks.LENET, state, data, THREADS)["cyconv"].run
        losses = [float(self.step()) for _ in range(networks.LENET.checked)]
        np.testing.assert_allclose(losses, training_oracle.Reference(state).losses(data), rtol=1e-5)

    def time_step(self, batch: int) -> None:
        self.step()

    def track_images_per_second(self, batch: int) -> float:
        best, stop = float("inf"), time.perf_counter() + 0.5
        while (start := time.perf_counter()) < stop:
            self.step()
            best = min(best, time.perf_counter() - start)
        return batch / best

    track_images_per_second.unit = "images/s"  # type: ignore[attr-defined]


class Inference:
    """Logits of a batch, in eval mode."""

    params = networks.INFERENCE_BATCHES
    param_names = ("batch",)

    def setup(self, batch: int) -> None:
        peer.load().set_num_threads(THREADS)
        state, x = networks.state(), networks.batches(batch, 1)[0][0]
        self.run = peer.lenet_inference(state, x, THREADS)["cyconv"].run
        np.testing.assert_allclose(self.run(), training_oracle.Reference(state).logits(x), atol=1e-5)

    def time_logits(self, batch: int) -> None:
        self.run()

    def peakmem_logits(self, batch: int) -> None:
        self.run()


def timeraw_import() -> str:
    return "import cyconv"


def timeraw_import_numpy_alone() -> str:
    return "import numpy"
