"""The parts of a calibrated exposure beyond its planes, as FITS tables and back."""

from __future__ import annotations

import json
import warnings
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from service.exposure.ap_corr import ApCorrMap
from service.exposure.background import BackgroundList, BackgroundModel
from service.exposure.exposure import Amplifier, Detector, Exposure, FilterLabel, VisitInfo
from service.exposure.geometry import Box
from service.exposure.photo_calib import PhotoCalib
from service.exposure.summary import ExposureSummaryStats, summary_fields
from service.formats.errors import FormatError
from service.formats.fits_stream import Cell
from service.formats.headers import card_value, header_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.formats.container import FitsSource
    from service.formats.fits_stream import FitsStream
    from service.formats.headers import HduHeader

__all__ = [
    "BACKGROUND_PLANES",
    "exposure_state",
    "read_backgrounds",
    "read_json",
    "read_state",
    "read_summary",
    "read_table",
    "restore_exposure_state",
    "write_backgrounds",
    "write_json",
    "write_state",
    "write_summary",
]

#: Planes of one background component in the order of the file; "variance" holds the standard error, as upstream.
BACKGROUND_PLANES = ("image", "mask", "variance")
_JSON_COLUMN = "JSON"
_MAX_COMPONENT_BYTES = 1 << 28
_FORMATS = {"f4": "E", "f8": "D", "i8": "K", "i4": "J", "b1": "L"}


def write_state(stream: FitsStream, name: str, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """A one-row table with an array in each column and the scalars in its header."""
    stream.row(name, [_cell(key, np.atleast_1d(np.asarray(values))) for key, values in arrays.items()], header)


def _cell(name: str, array: NDArray[Any]) -> Cell:
    if array.dtype.kind == "U":
        width = max(1, array.dtype.itemsize // 4)
        data = array.astype(f"S{width}").tobytes()
        return Cell(name, f"{array.size * width}A", data, f"({width},{array.size})" if array.size else "")
    if array.dtype.kind == "b":
        data = np.where(array, b"T", b"F").tobytes()
    else:
        data = array.astype(array.dtype.newbyteorder(">")).tobytes()
    dimensions = f"({','.join(str(n) for n in array.shape[::-1])})"
    return Cell(name, f"{array.size}{_FORMATS[array.dtype.str[1:]]}", data, dimensions if array.size else "")


def read_state(source: FitsSource, hdu: HduHeader) -> tuple[fits.Header, dict[str, NDArray[Any]]]:
    """Header and arrays of `write_state`."""
    if header_value(hdu.header, "TFIELDS") == 0:
        return hdu.header, {}
    table = read_table(source, hdu)
    arrays: dict[str, NDArray[Any]] = {}
    for name in table.names:
        value = np.asarray(table[name][0])
        arrays[name] = value if value.dtype.kind in "SU" else value.astype(value.dtype.newbyteorder("="))
    return hdu.header, arrays


def read_table(source: FitsSource, hdu: HduHeader) -> Any:
    """Rows of a table that has some.

    Raises
    ------
    FormatError
        ``format.too_large`` or ``format.corrupt``.
    """
    if hdu.size > _MAX_COMPONENT_BYTES:
        raise FormatError("format.too_large", f"the table {hdu.name} has {hdu.size} bytes")
    source.stream.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            hdus = fits.open(source.stream, memmap=False, lazy_load_hdus=True)
            data = hdus[hdu.index].data
            hdus.close(closed=False)
        except Exception as error:  # astropy raises many kinds for damaged tables
            raise FormatError("format.corrupt", f"the table {hdu.name} cannot be read: {error}") from error
    if data is None or len(data) == 0:
        raise FormatError("format.corrupt", f"the table {hdu.name} has no row")
    return data


def write_json(stream: FitsStream, name: str, document: Mapping[str, Any]) -> None:
    """A table whose only cell is a JSON text."""
    text = json.dumps(_encoded(document), ensure_ascii=True, allow_nan=False)
    stream.row(name, [Cell(_JSON_COLUMN, f"{len(text)}A", text.encode("ascii"))])


def read_json(source: FitsSource, hdu: HduHeader) -> dict[str, Any]:
    """The document of `write_json`."""
    document = json.loads(str(read_table(source, hdu)[_JSON_COLUMN][0]))
    return dict(_decoded(document))


def _encoded(value: Any) -> Any:
    """Plain values with non-finite numbers spelled out."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return {"float": str(value)}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"float"}:
            return float(value["float"])
        return {key: _decoded(item) for key, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value


def exposure_state(exposure: Exposure) -> dict[str, Any]:
    """What the headers cannot hold exactly: WCS, visit, filter, detector, metadata."""
    detector = exposure.detector
    amplifiers = [
        {"name": a.name, "bbox": _box(a.bbox), "gain": a.gain, "read_noise": a.read_noise}
        for a in (detector.amplifiers if detector else ())
    ]
    info = exposure.visit_info
    return {
        "format_version": 1,
        "wcs": exposure.wcs.state() if exposure.wcs is not None else None,
        "photo_calib": exposure.photo_calib.state() if exposure.photo_calib is not None else None,
        "filter": {"band": exposure.filter.band, "physical": exposure.filter.physical},
        "visit_info": {f.name: getattr(info, f.name) for f in fields(info)},
        "detector": detector and {"id": detector.id, "name": detector.name, "amplifiers": amplifiers},
        "exposure_id": exposure.exposure_id,
        "unit": exposure.unit,
        "metadata": exposure.metadata,
        "planes": dict(exposure.masked_image.planes.items()),
    }


def _box(box: Box) -> list[int]:
    return [box.x0, box.y0, box.width, box.height]


def restore_exposure_state(exposure: Exposure, state: Mapping[str, Any], overridden: Sequence[str]) -> None:
    """Put the exact values of `exposure_state` back, but for what the job overrides."""
    from service.exposure.wcs import Wcs

    if state["wcs"] and not {"ra", "dec", "pixel_scale", "rotation", "parity"} & set(overridden):
        exposure.wcs = Wcs.from_state(state["wcs"])
    if state["photo_calib"] is not None:
        exposure.photo_calib = PhotoCalib(**state["photo_calib"])
    if not {"band", "physical_filter"} & set(overridden):
        exposure.filter = FilterLabel(**state["filter"])
    if not _VISIT_KEYS & set(overridden):
        exposure.visit_info = VisitInfo(**state["visit_info"])
    if not {"detector", "gain", "read_noise"} & set(overridden):
        exposure.detector = _detector(state["detector"])
    if not {"exposure_id", "visit"} & set(overridden):
        exposure.exposure_id = int(state["exposure_id"])
    if "unit" not in overridden:
        exposure.unit = str(state["unit"])
    exposure.metadata = dict(state["metadata"])


_VISIT_KEYS = {
    "visit",
    "mjd",
    "exposure_time",
    "ra",
    "dec",
    "rotation",
    "airmass",
    "longitude",
    "latitude",
    "elevation",
}
_VISIT_KEYS |= {"instrument"}


def _detector(state: Mapping[str, Any] | None) -> Detector | None:
    if state is None:
        return None
    amplifiers = tuple(
        Amplifier(a["name"], Box(*a["bbox"]), float(a["gain"]), float(a["read_noise"])) for a in state["amplifiers"]
    )
    return Detector(int(state["id"]), str(state["name"]), amplifiers)


def write_backgrounds(stream: FitsStream, backgrounds: BackgroundList, *, named: bool) -> None:
    """Three images a component; without names (and the first as primary) as upstream's own background files."""
    for number, model in enumerate(backgrounds):
        header, arrays = model.state()
        for plane in BACKGROUND_PLANES:
            cards: dict[str, Any] = {"EXTVER": number + 1, "EXTTYPE": plane.upper()} if named else {}
            name = f"BACKGROUND_{plane.upper()}" if named else ""
            first = not named and number == 0 and plane == "image"
            stream.image(name, arrays[plane], cards | header, as_primary=first)


def read_backgrounds(source: FitsSource, hdus: Sequence[HduHeader]) -> BackgroundList:
    """The components in some image HDUs, three each."""
    models = []
    for start in range(0, len(hdus) - 2, 3):
        planes = dict(zip(BACKGROUND_PLANES, hdus[start : start + 3], strict=True))
        arrays: dict[str, NDArray[Any]] = {
            name: source.read_integers(hdu) if name == "mask" else source.read_float(hdu)
            for name, hdu in planes.items()
        }
        header = {card.keyword: card_value(card) for card in hdus[start].header.cards}
        models.append(BackgroundModel.from_state(header, arrays))
    return BackgroundList(models)


def write_summary(stream: FitsStream, summary: ExposureSummaryStats) -> None:
    """One row with every statistic, in double precision."""
    cells = []
    for declared in summary_fields():
        kind, dtype = ("K", ">i8") if declared.dtype == "i4" else (f"{declared.length}D", ">f8")
        data = np.asarray(getattr(summary, declared.name), dtype).tobytes()
        cells.append(Cell(declared.name, kind, data, unit=declared.unit))
    stream.row("SUMMARY", cells)


def read_summary(source: FitsSource, hdu: HduHeader) -> ExposureSummaryStats:
    """The statistics of `write_summary`; what the file does not have stays uncomputed."""
    table = read_table(source, hdu)
    summary = ExposureSummaryStats()
    for declared in summary_fields():
        if declared.name in table.names:
            value = np.asarray(table[declared.name][0])
            setattr(summary, declared.name, value.tolist() if declared.length > 1 else value.item())
    return summary


def read_ap_corr_map(source: FitsSource, hdu: HduHeader) -> ApCorrMap:
    """The map of an ``AP_CORR_MAP`` table."""
    header, arrays = read_state(source, hdu)
    return ApCorrMap.from_state(dict(header), arrays)
