"""Compiled kernels are never those of other sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.jobs import kernel_cache, runner
from service.jobs.kernel_cache import (
    KERNELS,
    kernel_cache_dir,
    kernel_cache_key,
    ready_kernel_cache,
    remove_old_caches,
)
from service.jobs.kernel_target import target_environment
from service.settings import Settings

INNER = """
from numba import njit

@njit(cache=True)
def inner(x):
    return x + {}
"""
OUTER = """
from numba import njit
from package.inner import inner

@njit(cache=True)
def outer(x):
    return inner(x)
"""


def run(directory: Path, cache: Path) -> int:
    """What a new process gets from the outer kernel of the package."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(directory)}
    command = [sys.executable, "-c", "from package.outer import outer; print(outer(0))"]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def test_a_changed_imported_kernel_is_compiled_anew(tmp_path: Path) -> None:
    package, base = tmp_path / "package", tmp_path / "cache"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "outer.py").write_text(OUTER)
    (package / "inner.py").write_text(INNER.format(1))
    before = kernel_cache_dir(base, package)
    assert run(tmp_path, before) == 1
    (package / "inner.py").write_text(INNER.format(2))
    assert run(tmp_path, before) == 1, "numba sees the change by itself now: the key is not needed any more"
    after = kernel_cache_dir(base, package)
    assert after != before
    assert run(tmp_path, after) == 2


def test_the_key_is_of_all_sources_and_of_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "kernels"
    shutil.copytree(KERNELS, sources, ignore=shutil.ignore_patterns("__pycache__"))
    key = kernel_cache_key()
    assert kernel_cache_key(sources) == key
    (sources / "statistics.py").rename(sources / "statistics2.py")
    renamed = kernel_cache_key(sources)
    monkeypatch.setattr(kernel_cache, "version", lambda name: f"{name} 99")
    assert len({key, renamed, kernel_cache_key()}) == 3


def test_the_directory_of_a_directory_is_itself(tmp_path: Path) -> None:
    directory = kernel_cache_dir(tmp_path)
    assert directory.parent == tmp_path
    assert kernel_cache_dir(directory) == directory
    assert kernel_cache_dir(tmp_path / "sources-0123456789abcdef") == directory


def test_a_child_is_given_the_directory(tmp_path: Path) -> None:
    environment = runner._environment(Settings(data_dir=tmp_path, kernel_cache_dir=tmp_path / "cache"))
    assert environment["NUMBA_CACHE_DIR"] == str(kernel_cache_dir(tmp_path / "cache"))
    assert Path(environment["NUMBA_CACHE_DIR"]).is_dir()


def test_a_new_cache_begins_with_what_the_image_has(tmp_path: Path) -> None:
    image, cache = tmp_path / "image", tmp_path / "cache"
    settings = Settings(data_dir=tmp_path, kernel_cache_dir=cache, kernel_image_dir=image)
    kernels = kernel_cache_dir(image) / "kernels_0123"
    kernels.mkdir(parents=True)
    (kernels / "f.nbi").write_bytes(b"index")
    (kernels / "f.1.nbc").write_bytes(b"code")
    for path in (kernels / "f.nbi", kernels / "f.1.nbc", kernels, kernels.parent, image):
        path.chmod(0o555 if path.is_dir() else 0o444)
    copy = ready_kernel_cache(settings) / "kernels_0123"
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {"f.nbi": b"index", "f.1.nbc": b"code"}
    assert all(path.stat().st_mode & 0o200 for path in (copy, *copy.iterdir())), "what was compiled more goes there too"
    (copy / "f.1.nbc").write_bytes(b"newer")
    ready_kernel_cache(settings)
    assert (copy / "f.1.nbc").read_bytes() == b"newer", "a cache that is in use is left alone"
    assert [path.name for path in cache.iterdir()] == [kernel_cache_key()]


def test_an_image_of_other_sources_brings_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, kernel_cache_dir=tmp_path / "cache", kernel_image_dir=tmp_path / "image")
    (tmp_path / "image" / "sources-0123456789abcdef" / "kernels").mkdir(parents=True)
    assert list(ready_kernel_cache(settings).iterdir()) == []


COUNT = """
from numba import njit

@njit(cache=True)
def f(x):
    return x + 1.0

f(1.0)
print(sum(f.stats.cache_misses.values()))
"""


def compiled(directory: Path, cpu: str | None) -> int:
    """Kernels that a new process compiles."""
    (directory / "count.py").write_text(COUNT)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(directory / "cache")} | target_environment(cpu)
    command = [sys.executable, str(directory / "count.py")]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def test_kernels_for_a_common_processor_are_kept_beside_the_hosts(tmp_path: Path) -> None:
    assert [compiled(tmp_path, cpu) for cpu in ("generic", None, "generic", None)] == [1, 1, 0, 0]


def test_a_processor_that_lacks_something_gets_its_own_kernels(tmp_path: Path) -> None:
    cpu_info = tmp_path / "cpuinfo"
    v3 = "cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2 abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
    cpu_info.write_text(f"model name : new\nflags\t\t: fpu {v3}\n\nflags\t\t: fpu {v3} avx512f\n")
    assert target_environment("x86-64-v3", cpu_info) == {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}
    assert target_environment("x86-64-v4", cpu_info) == {}
    cpu_info.write_text(f"flags\t\t: fpu {v3}\n\nflags\t\t: fpu {v3.replace(' avx2', '')}\n")
    assert target_environment("x86-64-v3", cpu_info) == {}
    assert "NUMBA_CPU_NAME" in target_environment("x86-64-v2", cpu_info)
    assert target_environment("x86-64-v2", tmp_path / "absent") == {}
    assert "NUMBA_CPU_NAME" in target_environment("generic", tmp_path / "absent")
    assert target_environment(None, cpu_info) == {}


def test_old_directories_go(tmp_path: Path) -> None:
    old, young = tmp_path / "sources-0123456789abcdef", tmp_path / "sources-0123456789abcdee"
    others, current = tmp_path / "kernels", kernel_cache_dir(tmp_path)
    for directory in (old, young, others, current):
        directory.mkdir()
        (directory / "kernel.nbc").touch()
    long_ago = time.time() - 31 * 86400
    for directory in (old, others, current):
        os.utime(directory, (long_ago, long_ago))
    assert remove_old_caches(tmp_path) == [old]
    assert {path.name for path in tmp_path.iterdir()} == {young.name, others.name, current.name}
    assert remove_old_caches(tmp_path / "absent") == []
