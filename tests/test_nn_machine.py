"""A network in any order of calls: hypothesis looks for one after which it computes something else than the oracle.

The model of the network is its weights and the gradients that should have added up; what it computes is computed once
more by the algorithm ``reference``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tolerances import assert_close

import cyconv
from cyconv import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from cyconv.optim import SGD


def network(seed: int, channels: int) -> Sequential:
    """Return (N, 3, 8, 8) -> (N, 5), with a layer of every kind that keeps something between calls."""
    c = channels
    body = Sequential(Conv2d(c, c, 3, padding=1, rng=seed + 1), BatchNorm2d(c), ReLU(), Conv2d(c, c, 1, rng=seed + 2))
    return Sequential(
        Conv2d(3, c, 3, padding="same", rng=seed), ReLU(), MaxPool2d(2), Residual(body), ReLU(),
        ConvTranspose2d(c, c, 2, stride=2, rng=seed + 3), AvgPool2d(2), Flatten(), Linear(16 * c, 5, rng=seed + 4),
    )  # fmt: skip


class Network(RuleBasedStateMachine):
    """Any order of train, eval, forward, backward, step, zero_grad, save, load and wrong calls."""

    @initialize(seed=st.integers(0, 3), channels=st.sampled_from([2, 5, 16]))
    def begin(self, seed, channels):
        self.seed, self.channels = seed, channels
        self.model, self.twin = network(seed, channels), network(seed, channels)
        self.optimizer, self.twin_optimizer = (SGD(m.parameters(), 1e-4, momentum=0.5) for m in (self.model, self.twin))
        self.pending = None  # the images of a forward pass in training mode that has not been carried back
        self.saved = None

    @rule(n=st.integers(0, 3), seed=st.integers(0, 5), last=st.booleans())
    def forward(self, n, seed, last):
        n = max(n, 2) if self.model.training else n  # batch norm has no variance of one pixel, nor of none
        x = np.random.default_rng(seed).standard_normal((n, 3, 8, 8), np.float32)
        if last:
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        y = self.model(x)
        with cyconv.configure(algorithm="reference"):
            expected = self.twin(x)
        assert_close(y, expected, algorithm="winograd_f4", scale=max(np.abs(expected).max(initial=0), 1))
        if self.model.training:
            self.pending = y.shape

    @precondition(lambda self: self.pending is not None and self.model.training)
    @rule(seed=st.integers(0, 5), input_grad=st.booleans())
    def backward(self, seed, input_grad):
        g = np.random.default_rng(seed).standard_normal(self.pending, np.float32)
        dx = self.model.backward(g, input_grad=input_grad)
        with cyconv.configure(algorithm="reference"):
            expected = self.twin.backward(g, input_grad=input_grad)
        assert (dx is None) == (not input_grad)
        if input_grad:
            assert_close(dx, expected, algorithm="winograd_f4", scale=max(np.abs(expected).max(), 1))
        self.pending = None

    @precondition(lambda self: self.pending is not None and self.model.training)
    @rule()
    def wrong_gradient(self):
        before = [p.grad if p.grad is None else p.grad.copy() for p in self.model.parameters()]
        for wrong in (np.ones((1, 2, 3), np.float32), np.ones(self.pending, np.float64), "x"):
            with pytest.raises((ValueError, TypeError)):
                self.model.backward(wrong)
        for parameter, gradient in zip(self.model.parameters(), before, strict=True):
            assert (parameter.grad is None) == (gradient is None)
            if gradient is not None:
                np.testing.assert_array_equal(parameter.grad, gradient)

    @rule(wrong=st.sampled_from([np.ones((2, 4, 8, 8), np.float32), np.ones((2, 3, 8, 8), np.float64), None, "x"]))
    def wrong_input(self, wrong):
        with pytest.raises((ValueError, TypeError)):
            self.model(wrong)
        self.pending = None  # what was remembered before a failed call need not be kept

    @rule(training=st.sampled_from([True, True, True, False]))
    def mode(self, training):
        for m in (self.model, self.twin):
            m.train(training)
        self.pending = None

    @precondition(lambda self: self.model.training)
    @rule(n=st.integers(2, 4), seed=st.integers(0, 5), last=st.booleans())
    def learn(self, n, seed, last):
        """A whole turn, as a training loop makes it: by chance alone it would be rare."""
        self.forward(n, seed, last)
        self.backward(seed, True)

    @rule(to_none=st.booleans())
    def zero_grad(self, to_none):
        for m in (self.model, self.twin):
            m.zero_grad(to_none)

    @precondition(lambda self: self.model.training)
    @rule()
    def step(self):
        for optimizer in (self.optimizer, self.twin_optimizer):
            optimizer.step()
        self.twin.load_state_dict(self.model.state_dict())  # roundings of many steps are not what is looked for

    @rule()
    def save(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.npz")
            cyconv.save(path, self.model)
            self.saved = cyconv.load(path)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def load(self):
        for m in (self.model, self.twin):
            m.load_state_dict(self.saved)
        self.pending = None

    @precondition(lambda self: self.saved is not None)
    @rule()
    def load_half(self):
        """A state that lacks an entry is refused, and nothing of it is taken."""
        before = {name: value.copy() for name, value in self.model.state_dict().items()}
        short = dict(list(self.saved.items())[:-1])
        with pytest.raises((ValueError, KeyError)):
            self.model.load_state_dict(short)
        for name, value in self.model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])

    @invariant()
    def gradients_are_those_of_the_oracle(self):
        for (name, p), q in zip(self.model.named_parameters(), self.twin.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None), name
            if p.grad is not None:
                # Sums of hundreds of terms cancel, those of a bias before a batch norm wholly: 100 is what they sum to
                # in magnitude.
                assert_close(p.grad, q.grad, algorithm="winograd_f4", scale=max(np.abs(q.grad).max(), 100))


Network.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
test_a_network_in_any_order_of_calls = Network.TestCase
