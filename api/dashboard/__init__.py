"""The page: what the service shows to people in a browser, from the same readers as the JSON."""

from __future__ import annotations

from api.dashboard.install import install

__all__ = ["install"]
