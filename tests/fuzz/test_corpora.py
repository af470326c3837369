"""The corpora of the fuzz targets are written where no module of dfly is built."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_corpora_need_nothing_that_is_built(tmp_path):
    script = (
        "import pathlib, sys\n"
        "sys.modules['dfly'] = None\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "import run\n"
        f"run.OUT = pathlib.Path({str(tmp_path)!r})\n"
        "run.write_parser_corpus()\n"
        "run.write_loader_corpus()\n")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    for target in ("parser", "loader"):
        assert any((tmp_path / f"{target}-seeds").iterdir())
