"""service.simulation."""
