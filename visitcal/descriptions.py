"""What a service tells about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from visitcal.errors import ServiceUnreachableError
from visitcal.operations import Connected, operation

if TYPE_CHECKING:
    from visitcal.steps import Flow

__all__ = ["DescriptionOperations"]

READY_S = 5.0


class DescriptionOperations(Connected):
    """Operations that ask a service what it is and knows."""

    @operation
    def config_schema(self) -> Flow[dict[str, Any]]:
        """JSON Schema of the configuration with defaults, units and descriptions."""
        return self._transport.get("/v1/config/schema")

    @operation
    def presets(self) -> Flow[list[dict[str, Any]]]:
        """Named sets of configuration overrides."""
        return self._items("/v1/presets")

    @operation
    def instruments(self) -> Flow[list[dict[str, Any]]]:
        """Presets of instruments."""
        return self._items("/v1/instruments")

    @operation
    def instrument(self, name: str) -> Flow[dict[str, Any]]:
        """One preset of an instrument, with all that it says."""
        return self._transport.get(f"/v1/instruments/{quote(name, safe='')}")

    @operation
    def summary_schema(self) -> Flow[list[dict[str, Any]]]:
        """Names, units and meanings of the summary statistics."""
        return self._items("/v1/schema/summary")

    @operation
    def catalog_schema(self, product: str) -> Flow[dict[str, Any]]:
        """Columns of a catalogue: names, units and meanings."""
        return self._transport.get(f"/v1/schema/catalogs/{quote(product, safe='')}")

    @operation
    def error_schema(self) -> Flow[dict[str, Any]]:
        """All codes of errors, of requests and of jobs, and what they mean."""
        return self._transport.get("/v1/schema/errors")

    @operation
    def readiness(self) -> Flow[dict[str, Any]]:
        """The parts of the service and whether each can work.

        Raises
        ------
        ServerError
            One of them cannot; ``problem`` says which.
        """
        return self._transport.get("/readyz")

    @operation
    def is_ready(self) -> Flow[bool]:
        """Whether the service answers, now, and says that it can work."""
        try:
            response = yield from self._transport.once("GET", "/readyz", silence=READY_S)
        except ServiceUnreachableError:
            return False
        return response.is_success

    def _items(self, path: str) -> Flow[list[dict[str, Any]]]:
        return cast("list[dict[str, Any]]", (yield from self._transport.get(path))["items"])
