"""service.calibration.astrometry."""
