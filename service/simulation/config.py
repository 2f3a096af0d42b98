"""What is simulated."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SimulationConfig"]


class SimulationConfig(BaseModel):
    """Parameters of a simulated exposure; the same parameters give the same pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(2048, ge=64, le=16384, description="Width and height, pixels.")
    seed: int = Field(1, ge=0, description="Seed of every random choice.")
    n_stars: int = Field(1500, ge=0, description="Stars on the detector.")
    n_galaxies: int = Field(450, ge=0, description="Galaxies on the detector.")
    mag_bright: float = Field(14.0, description="Brightest star, AB mag.")
    mag_faint: float = Field(24.5, description="Faintest star, AB mag.")
    count_slope: float = Field(0.25, gt=0, description="Slope of log10 counts per magnitude.")
    fwhm: float = Field(4.5, ge=1.5, le=30, description="FWHM of the effective PSF at the centre, pixels.")
    moffat_beta: float = Field(3.5, gt=1.1, description="Exponent of the Moffat profile.")
    fwhm_variation: float = Field(0.05, ge=0, lt=0.5, description="Relative change of the FWHM from centre to corner.")
    ellipticity: float = Field(0.03, ge=0, lt=0.5, description="Largest PSF distortion |e| over the detector.")
    sky: float = Field(800.0, ge=0, description="Sky level at the centre, electrons.")
    sky_gradient: float = Field(0.06, ge=0, lt=1, description="Relative sky change across the detector.")
    read_noise: float = Field(9.0, ge=0, description="Electrons.")
    full_well: float = Field(120_000.0, gt=0, description="Saturation level, electrons.")
    exposure_time: float = Field(30.0, gt=0, description="Seconds, of all snaps together.")
    zero_point: float = Field(31.85, description="AB magnitude of one electron of total flux, whole exposure.")
    n_cosmic_rays: int | None = Field(None, ge=0, description="Tracks per snap; None: 60 per 1024 x 1024.")
    n_bad_columns: int = Field(3, ge=0, description="Masked columns.")
    n_hot_pixels: int = Field(400, ge=0, description="Masked single pixels.")
    halo_star_mag: float | None = Field(
        None, description="AB mag of an extra star at the detector's upper right, with a halo; it is no reference."
    )
    halo_fraction: float = Field(0.05, ge=0, lt=1, description="Share of that star's light that is in its halo.")
    halo_radius: float = Field(120.0, gt=0, description="Scale length of the halo, pixels.")
    n_snaps: int = Field(1, ge=1, le=2, description="Snaps of the visit.")
    band: str = Field("r", pattern="^[gri]$", description="Band of the exposure.")
    ra: float = Field(150.0, ge=0, lt=360, description="True pointing, deg.")
    dec: float = Field(2.2, gt=-89, lt=89, description="True pointing, deg.")
    rotation: float = Field(33.0, description="True position angle of the detector, deg.")
    pixel_scale: float = Field(0.2, gt=0, description="arcsec per pixel.")
    pointing_error: float = Field(12.0, ge=0, description="Offset of the header WCS, arcsec.")
    rotation_error: float = Field(0.05, description="Rotation error of the header WCS, deg.")
    scale_error: float = Field(2e-4, description="Relative scale error of the header WCS.")
    distortion: float = Field(2.0, ge=0, description="Radial distortion at the corner, absent from the header, mas.")
    mjd: float = Field(61366.4, description="Mid-exposure, MJD TAI.")
    reference_epoch: float = Field(2016.0, description="Julian year of the reference positions.")
    reference_error: float = Field(0.5, gt=0, description="Error of a reference position per axis, mas.")
    reference_missing: float = Field(0.05, ge=0, lt=1, description="Fraction of stars without a reference.")
    reference_spurious: float = Field(0.05, ge=0, lt=1, description="Spurious references per real one.")
    reference_mag_limit: float = Field(22.5, description="Faintest reference, AB mag.")
    visit: int = Field(1, ge=0, description="Visit number.")
    detector: int = Field(0, ge=0, description="Detector number.")
