"""The soak test, short: SOAK_SECONDS sets its length (the full one is tests/soak/soak.py, 2 minutes)."""

import importlib.util
import os
from pathlib import Path

_specification = importlib.util.spec_from_file_location("soak", Path(__file__).with_name("soak.py"))
soak = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(soak)


def test_everything_is_as_it_was_after_load_with_killed_connections():
    seconds = os.environ.get("SOAK_SECONDS", "6")
    assert soak.soak(soak.parse_arguments(["--seconds", seconds, "--workers", "2"])) == []
