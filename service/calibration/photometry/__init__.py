"""service.calibration.photometry."""
