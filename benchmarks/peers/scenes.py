"""The exposures that all programs are given."""

from __future__ import annotations

from service.simulation import SimulationConfig

SCENES: dict[str, SimulationConfig] = {
    "typical 2k": SimulationConfig(size=2048, seed=4, n_stars=3200, n_galaxies=960, mag_faint=25.0),
    "typical 4k": SimulationConfig(size=4096, seed=4, n_stars=12800, n_galaxies=3840, mag_faint=25.0),
    "crowded 2k": SimulationConfig(size=2048, seed=4, n_stars=12500, n_galaxies=0, mag_bright=15.0, mag_faint=24.3),
    "sharp 2k": SimulationConfig(size=2048, seed=4, n_stars=3200, n_galaxies=960, mag_faint=25.0, fwhm=2.5),
}
