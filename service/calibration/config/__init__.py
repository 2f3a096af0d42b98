"""service.calibration.config."""
