"""What a client does with reference catalogues."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from visitcal.operations import Connected, operation
from visitcal.steps import FileBody, Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visitcal.documents import RefcatDocument
    from visitcal.exposures import Source
    from visitcal.steps import Flow, ProgressCallback

__all__ = ["RefcatOperations"]

#: Seconds that the service may be silent while it takes a catalogue in.
INGEST_S = 600.0


class RefcatOperations(Connected):
    """Operations on reference catalogues."""

    @operation
    def put_refcat(
        self,
        name: str,
        path: Source,
        *,
        columns: Mapping[str, str] | None = None,
        epoch: float | None = None,
        file_format: str | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Flow[RefcatDocument]:
        """Give the service a reference catalogue.

        Parameters
        ----------
        name : str
            Letters, digits, ``-``, ``_`` and ``.``.
        path : path
            Parquet, FITS, CSV or VOTable.
        columns : mapping, optional
            Our name to the file's: ``{"ra": "RAJ2000"}``.
        epoch : float, optional
            Julian year of the positions where no column says it.
        file_format : str, optional
            ``parquet``, ``fits``, ``csv`` or ``votable``; told from the content by default.
        on_progress : callable, optional
            Called with the bytes sent and the bytes in all.
        """
        mapping = None if columns is None else ",".join(f"{ours}={theirs}" for ours, theirs in columns.items())
        path = Path(path)
        size: int = yield Work(lambda: path.stat().st_size)
        response = yield from self._transport.request(
            "PUT",
            self._refcat_path(name),
            params={"columns": mapping, "epoch": epoch, "format": file_format},
            headers={"Content-Type": "application/octet-stream"},
            body=FileBody(path, size, on_progress),
            silence=INGEST_S,
        )
        return cast("RefcatDocument", response.json())

    @operation
    def refcats(self) -> Flow[list[RefcatDocument]]:
        """Reference catalogues that jobs can name."""
        return cast("list[RefcatDocument]", (yield from self._transport.get("/v1/refcats"))["items"])

    @operation
    def refcat(self, name: str) -> Flow[RefcatDocument]:
        """One reference catalogue."""
        return self._transport.get(self._refcat_path(name))

    @operation
    def delete_refcat(self, name: str) -> Flow[None]:
        """Remove a reference catalogue that no job waits for."""
        yield from self._transport.request("DELETE", self._refcat_path(name))

    @staticmethod
    def _refcat_path(name: str) -> str:
        return f"/v1/refcats/{quote(name, safe='')}"
