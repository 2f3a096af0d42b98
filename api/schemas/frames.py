"""Where the pixels of an image are."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.common import Document

__all__ = ["FrameDocument", "MaskPlaneDocument", "SkyGridDocument"]


class MaskPlaneDocument(Document):
    """A plane of the mask."""

    name: str
    bit: int
    color: Annotated[str, Field(description="Its tint in pictures, `#rrggbb`.")]


class SkyGridDocument(Document):
    """Positions on the sky at nodes; between them positions in the tangent plane may be interpolated linearly."""

    ra: Annotated[float, Field(description="ICRS right ascension of the tangent point [deg].")]
    dec: Annotated[float, Field(description="Its declination [deg].")]
    x: Annotated[list[float], Field(description="Columns of the nodes, parent pixels.")]
    y: Annotated[list[float], Field(description="Rows of the nodes, parent pixels.")]
    xi: Annotated[
        list[list[float]], Field(description="Towards east in the tangent plane [deg], a list for each row of nodes.")
    ]
    eta: Annotated[list[list[float]], Field(description="The same towards north [deg].")]


class FrameDocument(Document):
    """Size, place, unit, mask planes and sky of an image: what a viewer needs besides the tiles."""

    x0: Annotated[int, Field(description="Column of the first pixel in the parent frame, in which catalogues are.")]
    y0: Annotated[int, Field(description="Its row.")]
    width: int
    height: int
    unit: Annotated[str, Field(description="Of the pixels, as FITS writes it.")]
    mask_planes: list[MaskPlaneDocument]
    sky: Annotated[SkyGridDocument | None, Field(description="null without an astrometric solution.")]
