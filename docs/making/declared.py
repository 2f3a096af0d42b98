"""Pages of what `service.exposure` declares once: statistics, columns, mask planes."""

from __future__ import annotations

from making.markdown import cell, code, table
from service.exposure.catalog import Schema
from service.exposure.mask import DEFAULT_PLANES, PLANE_MEANINGS
from service.exposure.standard_names import STANDARD_NAMES
from service.exposure.star_schema import PIXEL_FLAG_PLANES, psf_star_schema, star_schema
from service.exposure.summary import summary_fields
from service.exposure.ucds import ucd_of

__all__ = ["columns_page", "masks_page", "statistics_page"]

_TYPES = {
    "f4": "float32",
    "f8": "float64",
    "i4": "int32",
    "i8": "int64",
    "?": "boolean",
}

_STATISTICS = """\
# Summary statistics

`GET /v1/jobs/{id}/summary`, `result.summary` and `summary.json`. Counts are those of the exposure as it came, also
where its pixels are in nJy afterwards. What was not computed is `null` (in files NaN). "Box centre" is the centre of
the image. Names and definitions are those of Rubin's `ExposureSummaryStats`.

"""

_COLUMNS = """\
# Columns of the star catalogues

`stars` (`single_visit_star_unstandardized`) are the stars that the cuts of `star_selector` leave, with the sky
sources; `psf_stars` (`single_visit_psf_star`) is everything that was detected at the PSF stage. Ids are unique within
a table only: `psf_id` of a star is the `id` of the same star in `psf_stars`.

A float that was not measured is NaN, an integer 0. Each flux has a flag that says whether it can be trusted. The
short name, where there is one, is what [`columns=`, `where=` and `order=`](../api.md#choose-rows-of-a-catalogue) take
as well, in the unit in brackets. Columns that the configuration adds (apertures, top-hats, planes) are named like
those here. `GET /v1/schema/catalogs/{product}` is the same for programs.

"""

_SLOTS = """
## Slots

A slot stands for the beginning of names: `slot_PsfFlux_instFlux` is `base_PsfFlux_instFlux`.

"""

_MASKS = """\
# Mask planes

A mask pixel is an integer whose bits are planes. Bits are numbered by the file: read them from its `MP_<PLANE>` cards
(or `exposure.masked_image.planes`), never by heart. Planes without a default bit come with some files or steps and
take the lowest free one. What masks of other observatories are turned into is in [formats](../formats.md).

"""


def statistics_page() -> str:
    """Every summary statistic."""
    rows = (
        (
            code(one.name),
            _TYPES[one.dtype] + (f", list of {one.length}" if one.length > 1 else ""),
            code(one.unit),
            cell(one.doc),
        )
        for one in summary_fields()
    )
    return _STATISTICS + table(["statistic", "type", "unit", "meaning"], rows)


def columns_page() -> str:
    """Every column of the two star catalogues."""
    slots = ((code(slot), code(target)) for slot, target in sorted(star_schema().aliases.items()))
    return (
        _COLUMNS
        + _catalog("stars", star_schema())
        + _catalog("psf_stars", psf_star_schema())
        + _SLOTS
        + table(["slot", "stands for"], slots)
    )


def _catalog(title: str, schema: Schema) -> str:
    shorts: dict[str, str] = {}
    for short, stands_for in STANDARD_NAMES.items():
        try:
            column = schema.resolve(stands_for.source)
            schema[column]
        except KeyError:
            continue
        shorts[column] = code(short) + (f" [{stands_for.unit}]" if stands_for.unit else "")
    rows = (
        (
            code(name),
            cell(schema[name].doc),
            code(schema[name].unit),
            shorts.get(name, ""),
            _TYPES[schema[name].dtype],
            code(ucd_of(name, schema[name].dtype)),
        )
        for name in schema.names
    )
    return f"\n## {title}\n\n" + table(["column", "meaning", "unit", "short name", "type", "UCD"], rows)


def masks_page() -> str:
    """Every mask plane that has a meaning here."""
    flags = {plane: f"base_PixelFlags_flag_{suffix}" for suffix, plane in PIXEL_FLAG_PLANES.items()}
    rows = (
        (
            code(name),
            str(DEFAULT_PLANES.index(name)) if name in DEFAULT_PLANES else "",
            cell(meaning),
            code(flags.get(name, "")),
        )
        for name, meaning in PLANE_MEANINGS.items()
    )
    return _MASKS + table(["plane", "default bit", "meaning", "flag of a source"], rows)
