"""What the other rooms hand around: pixels, catalogues, PSF, WCS, calibration. Imports nothing of ours."""
