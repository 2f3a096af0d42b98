"""A job as one HTML file."""
