"""service.exposure."""
