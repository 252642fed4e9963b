"""What every test run needs before NumPy is loaded, and profiles for generated examples."""

import os
import signal

# Shells let what they start in the background ignore Ctrl-C, and so would everything that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A test process computes on small arrays: threads of the BLAS that NumPy brings would only get in each other's way.
for _variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# Idle threads sleep instead of spinning: tests share tiny pieces of work between threads, on machines that may be busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import HealthCheck, settings  # noqa: E402

# The machine may be busy, so nothing is a matter of milliseconds. The same examples on every run: what CI finds can be
# found again; `--hypothesis-profile=search` looks for new ones.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": False}
settings.register_profile("usual", max_examples=60, derandomize=True, database=None, **_common)
settings.register_profile("quick", max_examples=15, derandomize=True, database=None, **_common)
settings.register_profile("search", max_examples=3000, **_common)
settings.load_profile("usual")
