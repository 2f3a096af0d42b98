"""What a client asks of all its jobs together: stars, light curves, statistics, visits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from visitcal.operations import Connected, listing, operation
from visitcal.pages import pages
from visitcal.steps import Work
from visitcal.tables import votable_to_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.table import Table

    from visitcal.steps import Flow, Listing

__all__ = ["AcrossOperations"]


class AcrossOperations(Connected):
    """Operations on the results of many jobs."""

    @listing
    def stars(
        self,
        ra: float,
        dec: float,
        radius: float,
        *,
        columns: Sequence[str] | None = None,
        band: str | None = None,
        instrument: str | None = None,
        since: str | None = None,
        until: str | None = None,
        results: str | None = None,
        limit: int | None = None,
    ) -> Listing[dict[str, Any]]:
        """Detections of stars inside a cone on all exposures, each with ``mjd``, ``band`` and ``job_id``; page by page.

        Parameters
        ----------
        ra, dec, radius : float
            Of the cone, ICRS [deg].
        columns : sequence of str, optional
            Upstream's names of the star catalogue, short ones (``psfMag``), and ``distance``, ``mjd``, ``band`` ...
        band, instrument : str, optional
            Only exposures of these.
        since, until : str, optional
            Only exposures whose middle is in this time (ISO 8601).
        results : str, optional
            ``all``: also those of exposures that were calibrated again; else the newest of each counts.
        limit : int, optional
            So many at most.
        """
        cone = {"ra": ra, "dec": dec, "radius": radius}
        chosen = _exposures(columns, band, instrument, since, until, results)
        return pages(self._transport, "/v1/stars", {**cone, **chosen}, limit=limit, size=1000)

    @operation
    def light_curves(
        self,
        ra: float,
        dec: float,
        radius: float | None = None,
        *,
        match_radius_arcsec: float | None = None,
        columns: Sequence[str] | None = None,
        band: str | None = None,
        instrument: str | None = None,
        since: str | None = None,
        until: str | None = None,
        results: str | None = None,
    ) -> Flow[Table]:
        """Detections grouped into stars, as an astropy table: a row for each, with the number of its ``object``.

        Parameters
        ----------
        ra, dec : float
            Position, ICRS [deg]; object 0 is the nearest to it.
        radius : float, optional
            Of the cone [deg]; an arcsecond by default.
        match_radius_arcsec : float, optional
            Largest distance of a detection from the mean of its object.
        columns, band, instrument, since, until, results
            As for `stars`.
        """
        params = {"ra": ra, "dec": dec, "radius": radius, "match_radius_arcsec": match_radius_arcsec}
        chosen = _exposures(columns, band, instrument, since, until, results)
        return self._table("/v1/lightcurves", **params, **chosen)

    @listing
    def summaries(
        self,
        *,
        instrument: str | None = None,
        band: str | None = None,
        since: str | None = None,
        fields: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> Listing[dict[str, Any]]:
        """Summary statistics of all jobs, newest first, page by page.

        Parameters
        ----------
        instrument, band : str, optional
            Only exposures of these.
        since : str, optional
            Only jobs published at or after this moment (ISO 8601).
        fields : sequence of str, optional
            Only these statistics.
        limit : int, optional
            So many at most.
        """
        names = None if fields is None else ",".join(fields)
        chosen = {"instrument": instrument, "band": band, "since": since, "fields": names}
        return pages(self._transport, "/v1/summaries", chosen, limit=limit, size=500)

    @operation
    def visit_summary(
        self, visit: int, *, instrument: str | None = None, run_id: str | None = None, correlations: bool = True
    ) -> Flow[dict[str, Any]]:
        """The detectors of a visit, and the range of each statistic over them.

        Parameters
        ----------
        visit : int
            Visit number.
        instrument : str, optional
            Needed where several have a visit of this number.
        run_id : str, optional
            Only jobs of this run.
        correlations : bool
            Whether with TE1 to TE4.

        Raises
        ------
        NotFoundError
            There is no result of that visit.
        """
        chosen = {"instrument": instrument, "run_id": run_id, "correlations": None if correlations else False}
        return self._transport.get(f"/v1/visits/{visit}/summary", **chosen)

    @operation
    def visit_table(self, visit: int, *, instrument: str | None = None, run_id: str | None = None) -> Flow[Table]:
        """The detectors of a visit as an astropy table; parameters as for `visit_summary`."""
        chosen = {"instrument": instrument, "run_id": run_id, "correlations": False}
        return self._table(f"/v1/visits/{visit}/summary", **chosen)

    @listing
    def nights(self, *, limit: int | None = None) -> Listing[dict[str, Any]]:
        """Nights with jobs and how many there are, newest first, page by page; `limit` are so many at most."""
        return pages(self._transport, "/v1/nights", {}, limit=limit, size=100)

    @operation
    def night(self, /, night: str = "latest", **choice: Any) -> Flow[dict[str, Any]]:
        """The exposures of a night against the nights before.

        Parameters
        ----------
        night : str
            Date of its evening (``2026-11-22``), or ``latest``.
        **choice
            ``instrument``, ``band``, ``target``, ``state``, ``outside``, ``limit``, ``after`` (the ``next`` of a page).
        """
        return self._transport.get(f"/v1/nights/{night}", **choice)

    @operation
    def night_trends(self, /, night: str = "latest", **choice: Any) -> Flow[dict[str, Any]]:
        """All values of a night with their limits, for charts; `choice` is ``instrument``, ``band``, ``target``."""
        return self._transport.get(f"/v1/nights/{night}/trends", **choice)

    def _table(self, path: str, **params: Any) -> Flow[Table]:
        response = yield from self._transport.request("GET", path, params={**params, "format": "votable"})
        return cast("Table", (yield Work(partial(votable_to_table, response.content))))


def _exposures(
    columns: Sequence[str] | None,
    band: str | None,
    instrument: str | None,
    since: str | None,
    until: str | None,
    results: str | None,
) -> dict[str, str | None]:
    names = None if columns is None else ",".join(columns)
    times = {"since": since, "until": until}
    return {"columns": names, "band": band, "instrument": instrument, **times, "results": results}
