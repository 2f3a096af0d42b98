"""Point-spread functions that vary over the detector, evaluated for many positions at once."""

from __future__ import annotations

from service.exposure.psf.base import Psf
from service.exposure.psf.gaussian import GaussianPsf
from service.exposure.psf.moments import determinant_radii, trace_radii
from service.exposure.psf.piff import PiffPsf
from service.exposure.psf.psfex import PsfexPsf
from service.exposure.psf.state import psf_from_state

__all__ = ["GaussianPsf", "PiffPsf", "Psf", "PsfexPsf", "determinant_radii", "psf_from_state", "trace_radii"]
