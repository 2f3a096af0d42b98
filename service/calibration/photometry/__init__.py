"""From star fluxes and references to a zero point and calibrated columns."""
