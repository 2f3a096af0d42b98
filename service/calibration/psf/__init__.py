"""service.calibration.psf."""
