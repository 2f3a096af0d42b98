"""What diagnostics look at: tables, exposure and numbers of a run, each read when it is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from service.analysis.diagnostics.diagnostic import MissingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.exposure.catalog import SourceCatalog
    from service.formats.calibrated_file import CalibratedFile

__all__ = ["JobResults"]


class TableReader(Protocol):
    """Reads a catalogue of the run."""

    def __call__(self, product: str, columns: Sequence[str] | None, /) -> SourceCatalog | None:
        """The true columns asked for, or all; None where the run has no such catalogue."""


@dataclass(slots=True)
class JobResults:
    """Results of a run, complete or not.

    Parameters
    ----------
    read_table : TableReader
        Catalogues by short name: ``stars``, ``astrometry_matches``, ``photometry_matches``.
    file : CalibratedFile or None
        The stored exposure.
    summary, metadata, config : mapping
        Documents of the run; None stands for a number that is not known.
    """

    read_table: TableReader
    file: CalibratedFile | None
    summary: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def table(self, product: str, columns: Sequence[str] | None = None) -> SourceCatalog:
        """A catalogue.

        Raises
        ------
        MissingError
            The run has none, or it lacks one of the columns.
        """
        table = self.read_table(product, columns)
        if table is None:
            raise MissingError(f"The run ended without {_CALLED[product]}.")
        lacking = [name for name in columns or () if name not in table]
        if lacking:
            raise MissingError(f"The catalogue has no column {lacking[0]}.")
        return table

    @property
    def exposure(self) -> CalibratedFile:
        """The stored exposure.

        Raises
        ------
        MissingError
            There is none.
        """
        if self.file is None:
            raise MissingError("The run ended without an exposure.")
        return self.file

    def number(self, source: str, name: str) -> float:
        """A number of ``summary`` or ``metadata``, NaN where it is not known."""
        value = getattr(self, source).get(name)
        return float(value) if isinstance(value, int | float) else float("nan")

    def count(self, source: str, name: str) -> int | float:
        """The same of how many there are: an integer, or NaN."""
        number = self.number(source, name)
        return int(number) if math.isfinite(number) else number


_CALLED = {
    "stars": "a star catalogue",
    "astrometry_matches": "astrometric matches",
    "photometry_matches": "photometric matches",
}
