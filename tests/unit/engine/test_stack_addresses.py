"""What other threads may touch must not lie on a stack: debug builds refuse it where it is handed over."""

import os
import subprocess
import sys

import pytest

from dfly._core.testing import loop_testing


@pytest.mark.parametrize("call", ["submit_from_stack", "lock_from_stack", "listen_from_stack"])
def test_stack_addresses_abort_in_debug_builds(call):
    code = f"from dfly._core.testing import stack_testing; stack_testing.{call}()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, PYTHONPATH=os.getcwd()))
    if loop_testing.debug_enabled:
        assert done.returncode < 0
        assert "must not lie on a stack" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
