"""Settings of the photometric match and zero point."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from service.calibration.config.base import ConfigModel
from service.calibration.config.selectors import (
    LoadReferenceObjectsConfig,
    ReferenceSelectorConfig,
    SourceSelectorConfig,
)

__all__ = ["ColortermConfig", "ColortermLibraryConfig", "PhotometryConfig", "ReserveConfig"]

_ARCSEC: JsonDict = {"unit": "arcsec"}
_MAG: JsonDict = {"unit": "mag"}


class ColortermConfig(ConfigModel):
    """One colour term: ``primary + c0 + c1 (primary - secondary) + c2 (primary - secondary)^2`` in AB magnitudes."""

    primary: str = Field(description="reference band that is corrected")
    secondary: str = Field(description="reference band that gives the colour")
    c0: float = Field(0.0, description="constant", json_schema_extra=_MAG)
    c1: float = Field(0.0, description="factor of the colour")
    c2: float = Field(0.0, description="factor of the squared colour", json_schema_extra={"unit": "1/mag"})


class ColortermLibraryConfig(ConfigModel):
    """Colour terms by reference catalogue and physical filter."""

    data: dict[str, dict[str, ColortermConfig]] = Field(
        {},
        description="name of a reference catalogue, or a shell pattern of names, to physical filter to colour term; an"
        " exact name wins over patterns, of which exactly one must fit",
    )


class ReserveConfig(ConfigModel):
    """Stars held back from the zero point."""

    fraction: float = Field(0.0, ge=0, lt=1, description="fraction of the matched stars held back")
    seed: int = Field(1, ge=0, description="seed of the choice")


class PhotometryConfig(ConfigModel):
    """Match stars with photometric references and fit the zero point (Rubin PhotoCalTask)."""

    ref_loader: LoadReferenceObjectsConfig = Field(
        LoadReferenceObjectsConfig(), description="references to load and their band"
    )
    source_selector: SourceSelectorConfig = Field(
        SourceSelectorConfig(bad_flags=("sky_source",), signal_to_noise_min=10.0), description="stars to be matched"
    )
    reference_selector: ReferenceSelectorConfig = Field(
        ReferenceSelectorConfig(), description="references to be matched"
    )
    match_radius_arcsec: float = Field(
        0.25, gt=0, le=60, description="largest distance of a star from its reference", json_schema_extra=_ARCSEC
    )
    reserve: ReserveConfig = Field(ReserveConfig(), description="stars held back from the zero point")
    flux_field: str = Field("slot_CalibFlux_instFlux", description="flux that the zero point refers to")
    apply_color_terms: bool = Field(False, description="bring references to the physical filter by a colour term")
    colorterms: ColortermLibraryConfig = Field(ColortermLibraryConfig(), description="the colour terms")
    mag_err_floor: float = Field(
        0.0, ge=0, description="added in quadrature to magnitude errors", json_schema_extra=_MAG
    )
    use_reference_errors: bool = Field(
        True,
        description="add the magnitude errors of the references in quadrature to those of the stars; without them a few"
        " bright stars decide the zero point (parity: false)",
    )
    sigma_max: float = Field(0.25, gt=0, description="largest sigma used in clipping", json_schema_extra=_MAG)
    n_sigma: float = Field(3.0, gt=0, description="clipping limit")
    use_median: bool = Field(True, description="clip about the median, else about the weighted mean")
    n_iter: int = Field(20, ge=1, description="most rounds of clipping")
    guard_first_clip: bool = Field(
        True,
        description="the first clip is at least half as wide as the modal run of the histogram that gives its centre,"
        " without which a tight core beside outliers can be rejected whole (parity: false)",
    )
    inverse_variance_weights: bool = Field(
        True,
        description="weighted means inside the clipping weigh by 1/error^2; False weighs by the error (parity: false)",
    )
    fail_without_good_stars: bool = Field(
        True,
        description="end in a failure when a clip rejects every star; False takes the mean of all (parity: false)",
    )

    @model_validator(mode="after")
    def _color_terms_exist(self) -> Self:
        if self.apply_color_terms and not self.colorterms.data:
            raise ValueError("apply_color_terms needs colorterms")
        return self
