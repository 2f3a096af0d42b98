"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.jobs.kernel_cache import kernel_cache_dir

if given := os.environ.get("NUMBA_CACHE_DIR"):
    # Before anything imports numba: no test may run a kernel that was compiled from other sources.
    os.environ["NUMBA_CACHE_DIR"] = str(kernel_cache_dir(Path(given)))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of servers that tests start: compiled kernels are kept between runs."""
    from visitcal.demo import kernel_cache

    return {"VISITCAL_KERNEL_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(kernel_cache()))}


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real exposures and the outputs of Rubin's own code; absent on most machines."""
    path = Path(os.environ.get("VISITCAL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip("the shared data folder is absent: set VISITCAL_SHARED")
    return path


@pytest.fixture(scope="session")
def parity_dir(shared_dir: Path) -> Path:
    """Simulated exposures with the outputs of Rubin's own code."""
    path = shared_dir / "parity"
    if not path.is_dir():
        pytest.skip("the parity folder is absent")
    return path


@pytest.fixture(scope="session")
def data_dir(shared_dir: Path) -> Path:
    """Real exposures and reference catalogues."""
    path = shared_dir / "data"
    if not path.is_dir():
        pytest.skip("the folder of real exposures is absent")
    return path
