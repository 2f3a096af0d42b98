"""A PSF from what it wrote about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.exposure.psf.gaussian import GaussianPsf
from service.exposure.psf.piff import PiffPsf
from service.exposure.psf.psfex import PsfexPsf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.exposure.psf.base import Psf

__all__ = ["psf_from_state"]


def psf_from_state(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Psf:
    """Rebuild a PSF from `Psf.state`.

    Parameters
    ----------
    header : mapping of str to scalar
        Keywords of at most eight characters; ``PSFTYPE`` names the kind.
    arrays : mapping of str to ndarray
        Its arrays.

    Raises
    ------
    ValueError
        ``PSFTYPE`` is unknown.
    KeyError
        A keyword or an array is missing.
    """
    kind = str(header["PSFTYPE"]).strip()
    if kind == GaussianPsf.kind:
        return GaussianPsf.from_state(header)
    if kind == PsfexPsf.kind:
        return PsfexPsf.from_state(header, arrays)
    if kind == PiffPsf.kind:
        return PiffPsf.from_state(header, arrays)
    raise ValueError(f"unknown PSF type {kind!r}")
