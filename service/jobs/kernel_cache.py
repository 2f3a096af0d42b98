"""Where the compiled kernels of just these sources are.

Numba compiles a kernel anew when *its* file has changed, but not when a file has that it imports: after an upgrade in
place it would run old code. So each state of the sources has a directory of its own.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from service.jobs.kernel_target import target_environment

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = [
    "KERNELS",
    "kernel_cache_dir",
    "kernel_cache_key",
    "kernel_environment",
    "ready_kernel_cache",
    "remove_old_caches",
]

#: Sources of all kernels.
KERNELS = Path(__file__).parents[1] / "calibration" / "kernels"

_COMPILERS = ("numba", "llvmlite", "numpy")
_KEY = re.compile(r"sources-[0-9a-f]{16}")
_OLD_SECONDS = 30 * 86400.0


def kernel_cache_key(sources: Path = KERNELS) -> str:
    """Name of the state of all sources and of what compiles them; numba itself tells processors apart."""
    digest = hashlib.sha256(platform.python_version().encode())
    for name in _COMPILERS:
        digest.update(f" {name} {version(name)}".encode())
    for path in sorted(sources.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(sources)} {len(content)}\n".encode() + content)
    return f"sources-{digest.hexdigest()[:16]}"


def kernel_cache_dir(base: Path, sources: Path = KERNELS) -> Path:
    """Directory for compiled kernels below the configured one, which may be such a directory already."""
    return (base.parent if _KEY.fullmatch(base.name) else base).absolute() / kernel_cache_key(sources)


def ready_kernel_cache(settings: Settings) -> Path:
    """The directory, made if it was missing with what the image brings, and marked as in use."""
    directory = kernel_cache_dir(settings.numba_cache_dir)
    directory.parent.mkdir(parents=True, exist_ok=True)
    if settings.kernel_image_dir is not None and not directory.exists():
        _copy(kernel_cache_dir(settings.kernel_image_dir), directory)
    directory.mkdir(exist_ok=True)
    directory.touch()
    return directory


def kernel_environment(settings: Settings) -> dict[str, str]:
    """Variables for a process that runs kernels: where they are, and which processor they are for."""
    return {"NUMBA_CACHE_DIR": str(ready_kernel_cache(settings)), **target_environment(settings.kernel_cpu)}


def _copy(source: Path, directory: Path) -> None:
    """Copy compiled kernels, all or none; numba takes none from where it cannot write."""
    if not source.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="kernels-") as name:
        whole = Path(name) / source.name
        for file in source.rglob("*.nb?"):
            copy = whole / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)  # without its owner and its mode
        with suppress(OSError):  # another process was first
            whole.rename(directory)


def remove_old_caches(base: Path, older_than: float = _OLD_SECONDS) -> list[Path]:
    """Remove directories of other sources that nobody has marked for so long [s].

    Returns
    -------
    list of Path
        What was removed. A process that still uses one compiles again.
    """
    current = kernel_cache_dir(base)
    before = time.time() - older_than
    siblings = current.parent.iterdir() if current.parent.is_dir() else ()
    old = [path for path in siblings if _KEY.fullmatch(path.name) and path != current and _mtime(path) < before]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return old


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed by another worker
        return time.time()
