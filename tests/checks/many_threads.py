"""A pytest plugin for the check of data races: every operation in parallel, however small, on three threads."""

from __future__ import annotations

from cyconv import _settings

_settings.SERIAL_WORK = 0
_settings.set_num_threads(3)
