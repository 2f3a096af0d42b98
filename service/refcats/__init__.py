"""service.refcats."""
