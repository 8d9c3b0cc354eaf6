"""One thread a test process: several run side by side."""

from __future__ import annotations

import pytest
import torch

from tests.command import cxrgaze

__all__ = ["cxrgaze"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Leave the other cores to the other test processes."""
    torch.set_num_threads(1)
