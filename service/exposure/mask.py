"""Named mask planes with dynamic bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["DEFAULT_PLANES", "PLANE_MEANINGS", "MaskPlanes"]

_DEFAULT_MEANINGS = {
    "BAD": "defect of the detector",
    "SAT": "saturated",
    "INTRP": "filled from its neighbours: defects by what made the input, cosmic rays here",
    "CR": "cosmic ray",
    "EDGE": "border on which nothing is detected, because the smoothing kernel reaches beyond the image",
    "DETECTED": "in a detected footprint",
    "DETECTED_NEGATIVE": "in a footprint below the background",
    "SUSPECT": "near saturation, where the response is not linear",
    "NO_DATA": "without data",
    "VIGNETTED": "vignetted",
    "STREAK": "trail of a satellite or an aircraft",
}

#: Planes that always exist, with the bits they have unless a file says otherwise.
DEFAULT_PLANES = tuple(_DEFAULT_MEANINGS)

#: What planes mean: those that always exist, and those that come with files or steps.
PLANE_MEANINGS = {
    **_DEFAULT_MEANINGS,
    "NOT_DEBLENDED": "in a blend that the deblender skipped",
    "CROSSTALK": "crosstalk of another amplifier was removed",
    "UNMASKEDNAN": "was not finite, for no reason that is known",
    "SPIKE": "diffraction spike",
}

_MAX_PLANES = 31  # the mask pixel is a signed 32-bit integer


class MaskPlanes:
    """Dictionary of mask plane names and bit numbers of one mask.

    Parameters
    ----------
    planes : mapping of str to int, optional
        Name to bit. Default planes that are missing are added at their default bit, or at the lowest unused one
        where that is taken.

    Raises
    ------
    ValueError
        Two names share a bit, a bit is outside 0..30, or there is no bit left.
    """

    def __init__(self, planes: Mapping[str, int] | None = None) -> None:
        self._bits: dict[str, int] = {}
        for name, bit in (planes or {}).items():
            if not 0 <= bit < _MAX_PLANES:
                raise ValueError(f"mask plane {name} has bit {bit}, outside 0..{_MAX_PLANES - 1}")
            if bit in self._bits.values():
                raise ValueError(f"mask plane {name} shares bit {bit} with another plane")
            self._bits[name] = bit
        for bit, name in enumerate(DEFAULT_PLANES):
            if name not in self._bits:
                self._bits[name] = bit if bit not in self._bits.values() else self._free_bit(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __contains__(self, name: object) -> bool:
        return name in self._bits

    def __getitem__(self, name: str) -> int:
        return self._bits[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskPlanes) and self._bits == other._bits

    def __hash__(self) -> int:
        return hash(frozenset(self._bits.items()))

    def items(self) -> Iterable[tuple[str, int]]:
        """Names and bits."""
        return self._bits.items()

    def copy(self) -> MaskPlanes:
        """An independent dictionary with the same planes."""
        return MaskPlanes(self._bits)

    def add(self, name: str) -> int:
        """Bit of a plane, which is created at the lowest unused bit where it does not exist."""
        if name not in self._bits:
            self._bits[name] = self._free_bit(name)
        return self._bits[name]

    def bitmask(self, names: Iterable[str], *, missing_ok: bool = True) -> int:
        """OR of the bits of some planes; unknown names are left out, or raise KeyError."""
        value = 0
        for name in names:
            if name in self._bits or not missing_ok:
                value |= 1 << self._bits[name]
        return value

    def remap(self, mask: NDArray[np.int32], onto: MaskPlanes) -> NDArray[np.int32]:
        """Mask values rewritten by name to the bits of ``onto``, which gains the planes that it lacks."""
        moves = [(bit, onto.add(name)) for name, bit in self.items()]
        if all(source == target for source, target in moves):
            return mask.copy()
        result = np.zeros_like(mask)
        for source, target in moves:
            result |= ((mask >> source) & 1) << target
        return result

    def _free_bit(self, name: str) -> int:
        used = set(self._bits.values())
        for bit in range(_MAX_PLANES):
            if bit not in used:
                return bit
        raise ValueError(f"no bit left for mask plane {name}")
