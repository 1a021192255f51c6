"""Unit tests: a warning is an error."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The real servers' clients of the other tests leak a socket here and there; our own code must not."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("error"))


@pytest.fixture(scope="module", autouse=True)
def _only_our_own() -> None:
    """What other tests of this process have leaked goes before, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
