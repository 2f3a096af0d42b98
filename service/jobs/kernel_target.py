"""Which processor the kernels are compiled for.

By default numba compiles for the very processor that it runs on, and takes no kernel that was compiled for another one:
those that an image was built with would be of use on hosts like the builder's alone. A level that many processors have
in common, as x86-64-v3, makes kernels that all of them take.
"""

from __future__ import annotations

import logging
from pathlib import Path

__all__ = ["target_environment"]

logger = logging.getLogger(__name__)

_CPU_INFO = Path("/proc/cpuinfo")

# What the levels of the x86-64 psABI add, as Linux calls it.
_V2 = frozenset({"cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"})
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_LEVELS = {"x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}


def target_environment(cpu: str | None, cpu_info: Path = _CPU_INFO) -> dict[str, str]:
    """Variables that have numba compile for a processor.

    Parameters
    ----------
    cpu : str or None
        Name as LLVM has it; None is the host's own.
    cpu_info : Path
        What the kernel says of the host's.

    Returns
    -------
    dict
        Empty where it is the host's own, also because the host lacks what ``cpu`` has: its instructions would end the
        process.
    """
    if cpu is None:
        return {}
    missing = sorted(_LEVELS.get(cpu, frozenset()) - _flags(cpu_info))
    if missing:
        logger.warning("this processor is no %s (%s): kernels are compiled for it", cpu, ", ".join(missing))
        return {}
    return {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}  # no features beside those that the name implies


def _flags(cpu_info: Path) -> set[str]:
    """What all processors of the host have; nothing where it is not said."""
    try:
        lines = cpu_info.read_text().splitlines()
    except OSError:
        return set()
    each = [set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")]
    return set.intersection(*each) if each else set()
