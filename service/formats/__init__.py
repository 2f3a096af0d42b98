"""service.formats."""
