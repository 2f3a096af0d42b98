"""service.calibration."""
