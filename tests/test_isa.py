"""Every instruction set that this machine runs, not only the one that was loaded: the kernels' tests in processes.

The sizes in those tests follow the tile of the kernels that are loaded, so each set is tried at its own edges.
"""

import re
from pathlib import Path

import pytest
from processes import run_python

from cyconv import kernels

TESTS = Path(__file__).parent
OTHERS = [isa for isa in kernels.available() if isa != kernels.ISA]

#: Against the oracle and beside each other; what is about Python code alone is the same for every instruction set.
SUBSET = (
    "agrees_with_the_oracle or by_hand or any_cut_of_the_work or both_forms or every_branch or rectified "
    "or any_size or no_byte_outside or nan_ or any_number_of_threads"
)
FILES = ("test_conv.py", "test_conv_plans.py", "test_conv_invariance.py", "test_linear.py", "test_bounds.py")


def run_tests(isa, *options):
    """Run the subset under an instruction set; return the process."""
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "--hypothesis-profile=quick", "--tb=short", *options]
    return run_python(*arguments, *(str(TESTS / name) for name in FILES), cwd=TESTS.parent, timeout=600, CYCONV_ISA=isa)


@pytest.mark.skipif(not OTHERS, reason="one instruction set was built, or runs here")
@pytest.mark.parametrize("isa", OTHERS)
def test_kernels_of_another_instruction_set(isa):
    done = run_tests(isa, "-k", SUBSET)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-2000:]
    assert int(passed[1]) > 500
    assert "failed" not in done.stdout


def test_a_failure_under_another_instruction_set_is_noticed(tmp_path):
    (tmp_path / "test_isa_is_wrong.py").write_text(
        "def test_it():\n    from cyconv import kernels\n    assert not kernels.ISA\n"
    )
    isa = kernels.available()[0]
    done = run_python("-m", "pytest", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path, CYCONV_ISA=isa)
    assert done.returncode == 1
    assert f"assert not '{isa}'" in done.stdout
