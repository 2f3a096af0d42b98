"""Sending a large file so that no break of the connection, of the service or of this program costs what was sent."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, cast

from visitcal.errors import ApiError, ServiceUnreachableError
from visitcal.steps import FileBody, Pause, Work
from visitcal.transport import LATER

if TYPE_CHECKING:
    from pathlib import Path

    from visitcal.documents import ExposureDocument
    from visitcal.steps import Flow, ProgressCallback
    from visitcal.transport import Patience, Transport

__all__ = ["LARGE_BYTES", "ResumableUpload", "file_label"]

#: Files from this size on are sent so unless the caller says otherwise.
LARGE_BYTES = 64 << 20

_UPLOADS = "/v1/uploads"
_BUSY_PAUSE_S = 2.0
_BUSY_TIMES = 60  # as long as the service may take to see that the connection before has died
_BEGINNINGS = 3
#: With these the service has no use for the upload any more: it is begun anew.
_LOST = {"upload.not_found", "upload.elsewhere"}
#: With these the next bytes to send are asked for.
_ELSEWHERE_IN_THE_FILE = {"upload.offset_mismatch", "upload.incomplete"}


def file_label(path: Path) -> str:
    """Name of a file as text, also where its bytes are none: an address has no room for those."""
    return os.fsencode(path.name).decode("utf-8", "replace")


class ResumableUpload:
    """One file on its way.

    The service knows unfinished uploads by the digest that they announced, so this program keeps no note of its own.

    Parameters
    ----------
    transport : Transport
        To the service.
    path : Path
        The file.
    on_progress : callable, optional
        Called with the bytes that are there and the bytes in all.
    """

    def __init__(self, transport: Transport, path: Path, on_progress: ProgressCallback | None = None) -> None:
        self._transport = transport
        self._path = path
        self._on_progress = on_progress
        self._size = 0
        self._sha256 = ""

    def run(self) -> Flow[ExposureDocument]:
        """Send what is missing.

        Raises
        ------
        ApiError
            The service refuses the file.
        ServiceUnreachableError
            It does not answer, also after the retries; the next call goes on where this one ended.
        """
        self._size, self._sha256 = yield Work(self._measured)
        for beginning in range(_BEGINNINGS):
            known = yield from self._mine("/v1/exposures")
            if known:
                if self._on_progress is not None:
                    self._on_progress(self._size, self._size)
                return cast("ExposureDocument", known[0])
            try:
                path = (yield from self._unfinished()) if beginning == 0 else (yield from self._begin())
                return (yield from self._send(path))
            except ApiError as error:
                if error.code not in _LOST or beginning == _BEGINNINGS - 1:
                    raise
        raise AssertionError("unreachable")  # pragma: no cover

    def _measured(self) -> tuple[int, str]:
        with self._path.open("rb") as stream:
            return self._path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()

    def _mine(self, path: str) -> Flow[list[dict[str, object]]]:
        page = yield from self._transport.get(path, sha256=self._sha256)
        return cast("list[dict[str, object]]", page["items"])

    def _unfinished(self) -> Flow[str]:
        """Path of an upload of these bytes that was begun before, or of a new one."""
        for upload in (yield from self._mine(_UPLOADS)):
            if upload["phase"] == "PENDING" and upload["size"] == self._size:
                return f"{_UPLOADS}/{upload['id']}"
        return (yield from self._begin())

    def _begin(self) -> Flow[str]:
        digest = base64.b64encode(bytes.fromhex(self._sha256)).decode()
        headers = {
            "Upload-Complete": "?0",
            "Upload-Length": str(self._size),
            "Repr-Digest": f"sha-256=:{digest}:",
        }
        answer = yield from self._transport.request(
            "POST", _UPLOADS, params={"filename": file_label(self._path)}, headers=headers, again=True
        )
        return f"{_UPLOADS}/{answer.json()['id']}"

    def _send(self, path: str) -> Flow[ExposureDocument]:
        """Send until the last byte is there; only failures without a byte in between count."""
        patience, busy, before = self._transport.patience(), 0, -1
        while True:
            head = yield from self._transport.request("GET", path)
            if head.json()["exposure_id"] is not None:
                return (yield from self._exposure(head.json()["exposure_id"]))
            offset = int(head.headers["Upload-Offset"])
            if offset > before:
                patience, busy, before = self._transport.patience(), 0, offset
            try:
                return (yield from self._append(path, offset))
            except (ServiceUnreachableError, ApiError) as error:
                if isinstance(error, ApiError) and error.code == "upload.ended" and error.problem.get("exposure_id"):
                    return (yield from self._exposure(str(error.problem["exposure_id"])))
                if isinstance(error, ApiError) and error.code == "upload.busy" and busy < _BUSY_TIMES:
                    busy, pause = busy + 1, _BUSY_PAUSE_S
                else:
                    pause = _pause(patience, error)
            yield Pause(pause)

    def _append(self, path: str, offset: int) -> Flow[ExposureDocument]:
        answer = yield from self._transport.request(
            "PATCH",
            path,
            headers={
                "Content-Type": "application/partial-upload",
                "Upload-Offset": str(offset),
                "Upload-Complete": "?1",
            },
            body=FileBody(self._path, self._size, self._on_progress, start=offset),
            again=False,
        )
        return cast("ExposureDocument", answer.json())

    def _exposure(self, exposure_id: str) -> Flow[ExposureDocument]:
        return cast("ExposureDocument", (yield from self._transport.get(f"/v1/exposures/{exposure_id}")))


def _pause(patience: Patience, error: ServiceUnreachableError | ApiError) -> float:
    """Seconds before the offset is asked for again; the error itself where that does not help."""
    pause = None
    if isinstance(error, ServiceUnreachableError):
        pause = patience.pause()
    elif error.status in LATER or error.code in _ELSEWHERE_IN_THE_FILE:
        pause = patience.pause(error.retry_after)
    if pause is None:
        raise error
    return pause
