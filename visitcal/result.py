"""What a job has made, seen from the client."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from visitcal.errors import NotFoundError
from visitcal.operations import Awaiting, Blocking, Connected, listing, loaded, operation
from visitcal.pages import pages
from visitcal.psf_models import stdpsf_to_model
from visitcal.steps import Work
from visitcal.tables import votable_to_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx
    from astropy.nddata import CCDData
    from astropy.table import Table
    from photutils.psf import GriddedPSFModel

    from visitcal.documents import ProductDocument
    from visitcal.drivers import Driver
    from visitcal.images import PsfStamp
    from visitcal.steps import Flow, Listing

__all__ = ["AsyncResult", "Result", "ResultOperations"]

PAGE = 1000


class ResultOperations(Connected):
    """The products of a job, each fetched when it is asked for first, and kept.

    They are attributes of a `Result` (``result.stars``) and coroutine methods of an `AsyncResult`
    (``await result.stars()``). What a job has not made is a `NotFoundError` that says why; of a failed one the products
    that it reached are there.

    Parameters
    ----------
    driver : Driver
        Connection to the service.
    job_id : str
        The job.
    """

    def __init__(self, driver: Driver, job_id: str) -> None:
        super().__init__(driver)
        self.job_id = job_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.job_id}>"

    @loaded
    def stars(self) -> Flow[Table]:
        """The star catalogue as an astropy table, with units and descriptions."""
        return self._table("stars")

    @loaded
    def psf_stars(self) -> Flow[Table]:
        """The catalogue that the PSF was made from as an astropy table."""
        return self._table("psf_stars")

    @loaded
    def image(self) -> Flow[CCDData]:
        """The calibrated exposure.

        Returns
        -------
        astropy.nddata.CCDData
            Pixels with unit (nJy; counts where the job failed before), ``wcs``, ``uncertainty`` (variance), ``flags``
            (all mask planes; ``meta["mask_planes"]`` has their bits), ``mask`` (what has no measured light: BAD, SAT,
            CR and NO_DATA), and the header as ``meta``.
        """
        return self._image("/images/image", {})

    @loaded
    def background(self) -> Flow[CCDData]:
        """Everything that was subtracted as background, drawn at every pixel, in the unit of the image."""
        return self._image("/images/background/cutout", {"x": 0, "y": 0, "size": 1e6})

    @loaded
    def summary(self) -> Flow[dict[str, Any]]:
        """Summary statistics by upstream name; None where not computed. `Client.summary_schema` has their units."""
        return self._document("/summary")

    @loaded
    def metadata(self) -> Flow[dict[str, Any]]:
        """Task metadata: counts and numbers of each stage."""
        return self._document("/metadata")

    @loaded
    def config(self) -> Flow[dict[str, Any]]:
        """Complete configuration as run."""
        return self._document("/config")

    @loaded
    def provenance(self) -> Flow[dict[str, Any]]:
        """Inputs, references and versions of the code that made the result."""
        return self._document("/provenance")

    @loaded
    def diagnostics(self) -> Flow[dict[str, dict[str, Any]]]:
        """What each diagnostic comes to, by name; `diagnostic` has the values behind one."""
        items = (yield from self._document("/diagnostics"))["items"]
        return {item["name"]: item for item in items}

    @operation
    def products(self) -> Flow[list[ProductDocument]]:
        """What the job has made so far."""
        return self._products()

    @operation
    def log(self) -> Flow[str]:
        """Log of the run as text."""
        return (yield from self._request("/log", format="text")).text

    @operation
    def table(
        self,
        product: str = "stars",
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        order: str | None = None,
        cone: tuple[float, float, float] | None = None,
        polygon: Sequence[float] | None = None,
    ) -> Flow[Table]:
        """A catalogue, or some rows and columns of it, as an astropy table with units and descriptions.

        Parameters
        ----------
        product : str
            ``stars``, ``psf_stars``, ``astrometry_matches``, ``photometry_matches`` or a full product id.
        columns : sequence of str, optional
            Upstream's names, or short ones in usual units (``ra``, ``psfMag``); all by default.
        where : str, optional
            Conditions joined by commas: ``!base_PsfFlux_flag,psfMag<18``.
        order : str, optional
            Column to sort by, with a leading ``-`` for falling order.
        cone : tuple of float, optional
            Right ascension, declination, radius [deg].
        polygon : sequence of float, optional
            Right ascension and declination of each corner of a convex polygon [deg].
        """
        return self._table(product, **_rows(columns, where, order, cone, polygon))

    @listing
    def rows(
        self,
        product: str = "stars",
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        order: str | None = None,
        cone: tuple[float, float, float] | None = None,
        polygon: Sequence[float] | None = None,
        limit: int | None = None,
    ) -> Listing[dict[str, Any]]:
        """Rows of a catalogue, fetched page by page: needs neither numpy nor astropy.

        Parameters
        ----------
        product, columns, where, order, cone, polygon
            As for `table`.
        limit : int, optional
            Rows at most.
        """
        chosen = _rows(columns, where, order, cone, polygon)
        return pages(self._transport, self._path(f"/catalogs/{quote(product)}"), chosen, limit=limit, size=PAGE)

    @operation
    def cutout(
        self,
        ra: float | None = None,
        dec: float | None = None,
        size: float | None = None,
        *,
        x: float | None = None,
        y: float | None = None,
        width: float | None = None,
        height: float | None = None,
        product: str = "image",
    ) -> Flow[CCDData]:
        """A part of an image; only its rows are read and sent.

        Parameters
        ----------
        ra, dec : float, optional
            Centre, ICRS [deg].
        size : float, optional
            Side: arcsec with `ra` and `dec`, pixels with `x` and `y`.
        x, y : float, optional
            Centre in parent pixels, those of the catalogues.
        width, height : float, optional
            Sides, where they differ.
        product : str
            ``image``, ``background``, ``mask`` ...
        """
        place = {"ra": ra, "dec": dec, "size": size, "x": x, "y": y, "width": width, "height": height}
        return self._image(f"/images/{quote(product)}/cutout", place)

    @operation
    def picture(self, /, product: str = "image", *, file_format: str = "png", **look: Any) -> Flow[bytes]:
        """An image as PNG or JPEG.

        Parameters
        ----------
        product : str
            ``image``, ``background``, ``mask`` ...
        file_format : str
            ``png`` or ``jpg``.
        **look
            ``size`` (pixels of the longer side), ``stretch``, ``limits``, ``cmap``, ``invert``, ``overlay`` ...
        """
        return (yield from self._request(f"/images/{quote(product)}.{file_format}", **look)).content

    @operation
    def psf(
        self,
        x: float | None = None,
        y: float | None = None,
        *,
        ra: float | None = None,
        dec: float | None = None,
        centered: bool = True,
        aperture_radius: float | None = None,
        size: int | None = None,
    ) -> Flow[PsfStamp]:
        """The PSF at a position, by default the centre of the exposure.

        Parameters
        ----------
        x, y : float, optional
            Parent pixels.
        ra, dec : float, optional
            In their place, ICRS [deg].
        centered : bool
            Whether the PSF stands in the middle of a pixel; else as a star at the position lies on the pixels.
        aperture_radius : float, optional
            Of ``shape["aperture_flux"]`` [px].
        size : int, optional
            Side of the stamp; the PSF's own by default.
        """
        place = {"x": x, "y": y, "ra": ra, "dec": dec, "aperture_radius": aperture_radius, "size": size}
        document = (yield from self._request("/psf", **place, centered=None if centered else False)).json()
        return cast("PsfStamp", (yield Work(partial(_psf_stamp, document))))

    @operation
    def psf_grid(self, *, n: int = 10, oversampling: int = 4) -> Flow[GriddedPSFModel]:
        """The PSF as a photutils model over the stored image, whose first pixel is (0, 0) (needs photutils).

        Parameters
        ----------
        n : int
            Nodes along each side of the detector.
        oversampling : int
            Samples a pixel.
        """
        content = (yield from self._request("/psf/grid", n=n, oversampling=oversampling)).content
        return cast("GriddedPSFModel", (yield Work(partial(stdpsf_to_model, content))))

    @operation
    def photometry(
        self,
        positions: Sequence[Mapping[str, Any]],
        *,
        radii: Sequence[float] = (12.0,),
        annulus: tuple[float, float] | None = None,
    ) -> Flow[Table]:
        """PSF and aperture fluxes at positions, as an astropy table.

        Parameters
        ----------
        positions : sequence of mapping
            Each with ``x`` and ``y`` (parent frame, px) or ``ra`` and ``dec`` (deg), and perhaps ``id``.
        radii : sequence of float
            Of the apertures, px.
        annulus : tuple of float, optional
            Inner and outer radius (px) of an annulus whose median is subtracted first.
        """
        response = yield from self._transport.request(
            "POST",
            self._path("/photometry"),
            params={"radii": _joined(radii), "annulus": _joined(annulus), "format": "votable"},
            json={"positions": [dict(position) for position in positions]},
            again=True,
        )
        return cast("Table", (yield Work(partial(votable_to_table, response.content))))

    @operation
    def diagnostic(self, name: str) -> Flow[dict[str, Any]]:
        """A diagnostic with its numbers and tables; `figure` draws it."""
        return self._document(f"/diagnostics/{quote(name, safe='')}")

    @operation
    def figure(self, name: str, *, file_format: str = "svg") -> Flow[bytes]:
        """The figure of a diagnostic, as ``svg`` or ``png``."""
        return (yield from self._request(f"/diagnostics/{quote(name, safe='')}.{file_format}")).content

    @operation
    def regions(self, product: str = "stars", *, system: str = "image") -> Flow[str]:
        """A catalogue as DS9 regions, in pixels of the image's file or on the sky (``icrs``, ``fk5``)."""
        return (yield from self._request(f"/catalogs/{quote(product)}.reg", system=system)).text

    @operation
    def download(self, product: str, target: str | Path, *, file_format: str | None = None) -> Flow[Path]:
        """Fetch a product as a file.

        Parameters
        ----------
        product : str
            Product id or short name.
        target : path
            File to write, or a directory to write into; the file appears under its name only when complete.
        file_format : str, optional
            For catalogues ``fits``, ``csv``, ``votable`` ..., for images ``png``; the stored file by default.

        Raises
        ------
        NotFoundError
            The job has no such product, or not in this format.
        """
        document = yield from self._product(product)
        links, target = document["links"], Path(target)
        if file_format is not None and file_format not in links:
            formats = ", ".join(links)
            problem = {"code": "product.unknown", "detail": f"{document['id']} comes as {formats}, not {file_format}"}
            raise NotFoundError(404, problem)
        if target.is_dir():
            stored = "fits" if document["kind"] == "image" else "parquet"
            target /= f"{document['id']}.{file_format or (stored if stored in links else next(iter(links)))}"
        partial_file = target.with_name(f".{target.name}.part")
        try:
            with partial_file.open("wb") as stream:
                yield from self._transport.download(links[file_format or "file"], stream)
            partial_file.replace(target)
        finally:
            partial_file.unlink(missing_ok=True)
        return target

    def _path(self, tail: str) -> str:
        return f"/v1/jobs/{quote(self.job_id, safe='')}{tail}"

    def _request(self, tail: str, **params: Any) -> Flow[httpx.Response]:
        return self._transport.request("GET", self._path(tail), params=params)

    def _document(self, tail: str) -> Flow[Any]:
        return self._transport.get(self._path(tail))

    def _products(self) -> Flow[list[ProductDocument]]:
        return cast("list[ProductDocument]", (yield from self._document("/products"))["items"])

    def _product(self, product: str) -> Flow[ProductDocument]:
        for document in (yield from self._products()):
            if product == document["id"] or product in document["aliases"]:
                return document
        problem = {"code": "product.not_made", "detail": f"Job {self.job_id} has no product {product}."}
        raise NotFoundError(404, problem)

    def _table(self, product: str, **chosen: str | None) -> Flow[Table]:
        response = yield from self._request(f"/catalogs/{quote(product)}", format="votable", **chosen)
        return cast("Table", (yield Work(partial(votable_to_table, response.content))))

    def _image(self, tail: str, params: Mapping[str, Any]) -> Flow[CCDData]:
        with tempfile.TemporaryDirectory(prefix="visitcal-") as directory:
            path = Path(directory) / "image.fits"
            with path.open("wb") as file:
                yield from self._transport.download(self._path(tail), file, params=params)
            return cast("CCDData", (yield Work(partial(_ccd_image, path))))


class Result(ResultOperations, Blocking):
    """What a job of a `visitcal.Client` has made."""


class AsyncResult(ResultOperations, Awaiting):
    """What a job of a `visitcal.AsyncClient` has made."""


def _rows(
    columns: Sequence[str] | None,
    where: str | None,
    order: str | None,
    cone: tuple[float, float, float] | None,
    polygon: Sequence[float] | None,
) -> dict[str, str | None]:
    names = None if columns is None else ",".join(columns)
    return {"columns": names, "where": where, "order": order, "cone": _joined(cone), "polygon": _joined(polygon)}


def _joined(numbers: Sequence[float] | None) -> str | None:
    return None if numbers is None else ",".join(repr(float(number)).removesuffix(".0") for number in numbers)


# What needs numpy and astropy is imported when it is asked for.


def _ccd_image(path: Path) -> CCDData:
    from visitcal.images import ccd_image

    return ccd_image(path)


def _psf_stamp(document: dict[str, Any]) -> PsfStamp:
    from visitcal.images import PsfStamp

    return PsfStamp.from_document(document)
