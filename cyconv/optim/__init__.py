"""
Optimisers, with torch's arguments and update formulas; schedules of the learning rate in `lr_scheduler`.

Each takes the parameters once and updates them in place from their ``grad``, in one pass over memory; a parameter
without a gradient is left out. ``lr`` and the other settings are attributes, which a schedule may set between steps;
groups of parameters have their own in ``param_groups``.
"""

from cyconv.optim import lr_scheduler
from cyconv.optim._algorithms import SGD, Adagrad, Adam, AdamW, RMSprop
from cyconv.optim._base import Optimizer

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
