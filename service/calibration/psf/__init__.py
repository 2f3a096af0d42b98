"""From detected sources to a PSF model of the exposure."""
