"""Calibrate an exposure and look at the result as astropy has it.

python examples/with_client.py exposure.fits REFCAT
"""

from __future__ import annotations

import sys

from visitcal import CalibrationFailedError, Client


def main(exposure: str, refcat: str) -> None:
    """Submit, wait, and tell what came out."""
    with Client() as client:
        job = client.submit(exposure, references=refcat)
        try:
            result = job.wait()
        except CalibrationFailedError as failure:
            print(failure)
            # What was reached is there all the same.
            reached = job.result
            print(f"seeing {reached.summary['psfSigma']:.2f} px, {len(reached.psf_stars)} stars")
            return
        print(f"zero point {result.summary['zeroPoint']:.3f}, seeing {result.summary['psfSigma']:.2f} px")
        brightest = result.table(
            columns=["ra", "dec", "psfMag"], where="detect_isPrimary,!base_PsfFlux_flag", order="psfMag"
        )[:3]
        print(brightest)
        star = brightest[0]
        stamp = result.cutout(float(star["ra"]), float(star["dec"]), 10.0)  # 10 arcsec
        print(f"{stamp.shape[1]} x {stamp.shape[0]} pixels in {stamp.unit}, {int(stamp.mask.sum())} of them masked")
        print(f"the PSF has a FWHM of {result.psf().shape['fwhm_arcsec']:.2f} arcsec")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
