"""ruff over the Python files, as configured in pyproject.toml."""

import subprocess
import sys

from tidy_tree import ROOT, name, sources


def test_ruff_is_clean():
    # Line length is checked by test_sources, for all languages alike.
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "--ignore=E501", "--output-format=concise"]
    run = subprocess.run([*command, *map(name, sources(".py"))], cwd=ROOT, capture_output=True, text=True,
                         check=False)
    assert run.returncode == 0, run.stdout + run.stderr
