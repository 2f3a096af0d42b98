"""From source positions and references to a fitted WCS."""
