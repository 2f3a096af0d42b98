"""What a client does with exposures: send them, let them be fetched, look at them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from visitcal.documents import ACTIVE_PHASES
from visitcal.errors import FetchFailedError
from visitcal.fits_headers import file_start
from visitcal.operations import Connected, listing, operation
from visitcal.pages import pages
from visitcal.resumable import LARGE_BYTES, ResumableUpload, file_label
from visitcal.steps import FileBody, Pause, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from visitcal.documents import ExposureDocument, InspectionDocument
    from visitcal.steps import Flow, Listing, ProgressCallback

__all__ = ["ADDRESSES", "ExposureOperations", "Source", "references_of"]

Source = str | Path
#: What a source begins with that the service fetches by itself.
ADDRESSES = ("https://", "http://", "s3://")
FITS_TYPE = "application/fits"
POLL_S = 0.5


class ExposureOperations(Connected):
    """Operations on exposures."""

    @operation
    def upload(
        self, path: Source, *, resumable: bool | None = None, on_progress: ProgressCallback | None = None
    ) -> Flow[ExposureDocument]:
        """Send an exposure; the same bytes give the same id.

        Parameters
        ----------
        path : path
            FITS file, also ``.gz`` or ``.fz``; it is streamed.
        resumable : bool, optional
            Go on where a break of the connection, or an earlier call, has ended, and send nothing of a file that is
            there. By default from 64 MiB on.
        on_progress : callable, optional
            Called with the bytes sent and the bytes in all.

        Raises
        ------
        RequestRefusedError
            Not FITS, or too large.
        """
        return self._upload(Path(path), on_progress, resumable)

    @operation
    def fetch(
        self,
        url: str,
        *,
        sha256: str | None = None,
        filename: str | None = None,
        on_progress: ProgressCallback | None = None,
        poll: float = POLL_S,
    ) -> Flow[ExposureDocument]:
        """Let the service fetch an exposure, and wait until it has.

        Parameters
        ----------
        url : str
            ``https://...``, or ``s3://BUCKET/KEY`` in a bucket that the operator has declared.
        sha256 : str, optional
            What the bytes must be, in hex.
        filename : str, optional
            A label; else the last part of the address.
        on_progress : callable, optional
            Called with the bytes fetched and the bytes in all, where the host says how many.
        poll : float
            Seconds between two looks.

        Raises
        ------
        RequestRefusedError
            The service does not fetch from there.
        FetchFailedError
            The file cannot be had, or is no exposure.
        """
        return self._fetch({"url": url, "sha256": sha256, "filename": filename}, on_progress, poll)

    @operation
    def exposure(self, exposure_id: str) -> Flow[ExposureDocument]:
        """An uploaded exposure and what was read from its headers."""
        return self._exposure(exposure_id)

    @listing
    def exposures(
        self, *, sha256: str | None = None, owner: str | None = None, limit: int | None = None
    ) -> Listing[ExposureDocument]:
        """Uploaded exposures, newest first, fetched page by page.

        Parameters
        ----------
        sha256 : str, optional
            Only that of these bytes, in hex.
        owner : str, optional
            Whose, ``*`` for everybody's: for administrators.
        limit : int, optional
            So many at most.
        """
        return pages(self._transport, "/v1/exposures", {"sha256": sha256, "owner": owner}, limit=limit, size=100)

    @operation
    def delete_exposure(self, exposure_id: str) -> Flow[None]:
        """Remove an exposure that no job needs."""
        yield from self._transport.request("DELETE", f"/v1/exposures/{quote(exposure_id, safe='')}")

    @operation
    def cancel_upload(self, upload_id: str) -> Flow[None]:
        """Give up an unfinished upload."""
        yield from self._transport.request("DELETE", f"/v1/uploads/{quote(upload_id, safe='')}")

    @operation
    def inspect(
        self,
        path: Source,
        *,
        references: str | Mapping[str, str] | None = None,
        astrometry: str | None = None,
        photometry: str | None = None,
        instrument: str | None = None,
        preset: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Flow[InspectionDocument]:
        """What the service would read from a file, and what a job could make of it; only the headers are sent.

        Parameters
        ----------
        path : path
            FITS file, plain or compressed.
        references, astrometry, photometry, instrument, preset, metadata
            As for `submit`.

        Returns
        -------
        InspectionDocument
            Its ``problem`` is not None where no job could use the file.
        """
        chosen = references_of(references, astrometry, photometry)
        start = yield Work(partial(file_start, Path(path)))
        response = yield from self._transport.request(
            "POST",
            "/v1/inspect",
            params={
                "headers_only": "true" if start.headers_only else None,
                "size": start.size,
                "instrument": instrument,
                "preset": preset,
                "metadata": None if metadata is None else json.dumps(dict(metadata)),
                **({"references": chosen} if isinstance(chosen, str) else chosen or {}),
            },
            headers={"Content-Type": FITS_TYPE},
            body=start.data,
            again=True,
        )
        return cast("InspectionDocument", response.json())

    def _exposure_ids(self, sources: Iterable[Source], on_progress: ProgressCallback | None) -> Flow[list[str]]:
        ids = []
        for source in sources:
            ids.append((yield from self._exposure_id(source, on_progress)))  # noqa: PERF401 - which cannot yield
        return ids

    def _exposure_id(self, source: Source, on_progress: ProgressCallback | None) -> Flow[str]:
        """Id of an exposure that is given as one, or is sent or fetched now."""
        if isinstance(source, str) and source.startswith("exp_") and not (yield Work(Path(source).exists)):
            return source
        if isinstance(source, str) and source.startswith(ADDRESSES):
            return (yield from self._fetch({"url": source}, on_progress))["id"]
        return (yield from self._upload(Path(source), on_progress))["id"]

    def _upload(
        self, path: Path, on_progress: ProgressCallback | None, resumable: bool | None = None
    ) -> Flow[ExposureDocument]:
        size: int = yield Work(lambda: path.stat().st_size)
        if size >= LARGE_BYTES if resumable is None else resumable:
            return (yield from ResumableUpload(self._transport, path, on_progress).run())
        response = yield from self._transport.request(
            "PUT",
            "/v1/exposures",
            params={"filename": file_label(path)},
            headers={"Content-Type": FITS_TYPE},
            body=FileBody(path, size, on_progress),
        )
        return cast("ExposureDocument", response.json())

    def _fetch(
        self, body: Mapping[str, Any], on_progress: ProgressCallback | None, poll: float = POLL_S
    ) -> Flow[ExposureDocument]:
        upload = (yield from self._transport.request("POST", "/v1/exposures", json=body)).json()
        while upload["phase"] in ACTIVE_PHASES:
            yield Pause(poll)
            upload = yield from self._transport.get(f"/v1/uploads/{quote(upload['id'], safe='')}")
            if on_progress is not None and upload["size"]:
                on_progress(upload["offset"], upload["size"])
        if upload["exposure_id"] is None:
            raise FetchFailedError(upload)
        return (yield from self._exposure(upload["exposure_id"]))

    def _exposure(self, exposure_id: str) -> Flow[ExposureDocument]:
        path = f"/v1/exposures/{quote(exposure_id, safe='')}"
        return cast("ExposureDocument", (yield from self._transport.get(path)))


def references_of(
    references: str | Mapping[str, str] | None, astrometry: str | None, photometry: str | None
) -> str | dict[str, str] | None:
    """One value for a request from the three ways to say it.

    Raises
    ------
    ValueError
        It is said twice.
    """
    if references is not None:
        if astrometry is not None or photometry is not None:
            raise ValueError("give either references or astrometry and photometry")
        return references if isinstance(references, str) else dict(references)
    if astrometry is None and photometry is None:
        return None
    return {
        "astrometry": astrometry if astrometry is not None else "none",
        "photometry": photometry if photometry is not None else "none",
    }
