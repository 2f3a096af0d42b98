"""The products of a job: their ids, short names and formats."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRODUCTS", "ProductKind", "canonical_product"]


@dataclass(frozen=True, slots=True)
class ProductKind:
    """What a product is.

    Parameters
    ----------
    id : str
        Upstream dataset name, as users of the data release know it.
    upstream : str
        Name of the connection of the upstream task.
    short : str or None
        Short form that the API accepts as well.
    kind : str
        ``"catalog"``, ``"image"``, ``"footprints"`` or ``"document"``.
    doc : str
        What it holds.
    """

    id: str
    upstream: str
    short: str | None
    kind: str
    doc: str


_IMAGES = (
    ("preliminary_visit_image", "exposure", "image", "calibrated exposure: image, mask, variance"),
    ("preliminary_visit_image_background", "background", "background", "everything that was subtracted"),
    ("preliminary_visit_mask", "mask", "mask", "mask plane as the measurement left it"),
    (
        "background_to_photometric_ratio",
        "background_to_photometric_ratio",
        None,
        "background to photometric units",
    ),
)
_CATALOGS = (
    ("single_visit_star_unstandardized", "stars", "stars", "stars and sky sources"),
    ("single_visit_psf_star", "psf_stars", "psf_stars", "sources of the PSF stage"),
    ("initial_astrometry_match_detector", "astrometry_matches", "astrometry_matches", "pairs of the astrometric fit"),
    ("initial_photometry_match_detector", "photometry_matches", "photometry_matches", "pairs of the photometric fit"),
)
_FOOTPRINTS = (
    ("single_visit_star_footprints", "stars_footprints", "stars_footprints", "footprints of the stars"),
    ("single_visit_psf_star_footprints", "psf_stars_footprints", "psf_stars_footprints", "footprints of the PSF stage"),
)
_DOCUMENTS = (
    ("initial_photoCalib_detector", "applied_photo_calib", "photo_calib", "calibration that was put on the pixels"),
)

#: Every product by its id.
PRODUCTS = {
    identity: ProductKind(identity, upstream, short, kind, doc)
    for kind, group in (
        ("image", _IMAGES),
        ("catalog", _CATALOGS),
        ("footprints", _FOOTPRINTS),
        ("document", _DOCUMENTS),
    )
    for identity, upstream, short, doc in group
}

_SHORT = {product.short: product.id for product in PRODUCTS.values() if product.short is not None}


def canonical_product(name: str) -> str:
    """Product id of an id or a short form.

    Raises
    ------
    KeyError
        No product of that name.
    """
    return name if name in PRODUCTS else _SHORT[name]
