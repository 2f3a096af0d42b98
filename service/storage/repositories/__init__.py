"""service.storage.repositories."""
