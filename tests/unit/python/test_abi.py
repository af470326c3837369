"""The stamps of compiled modules: equal in one build, refused when one module is from another."""

import sys

import pytest

import dfly._core.server  # noqa: F401  (loads every module of the data plane)
from dfly._core import check_abi


def test_one_build_is_accepted():
    check_abi()
    loaded = [m for name, m in sys.modules.items() if name.startswith("dfly._core.")]
    stamps = {m.__abi__ for m in loaded if hasattr(m, "__abi__")}
    assert len(stamps) == 1


def test_a_mixed_build_is_refused(monkeypatch):
    monkeypatch.setattr(sys.modules["dfly._core.store.dash"], "__abi__", "other")
    with pytest.raises(ImportError, match="dfly._core.store.dash"):
        check_abi()
