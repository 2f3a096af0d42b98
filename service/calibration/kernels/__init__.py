"""Compiled loops over pixels; nothing else imports numba."""
