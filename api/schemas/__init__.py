"""api.schemas."""
