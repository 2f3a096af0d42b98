"""service.calibration.kernels."""
