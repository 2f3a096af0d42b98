"""Measurements of single sources, one module a plugin."""
