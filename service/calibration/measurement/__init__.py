"""service.calibration.measurement."""
