"""Catalogues: columns declared once, filled by many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from service.exposure.footprint import FootprintSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Column", "Schema", "SourceCatalog"]


@dataclass(frozen=True, slots=True)
class Column:
    """A catalogue column.

    Parameters
    ----------
    name : str
        Upstream name.
    dtype : str
        ``"f8"``, ``"f4"``, ``"i8"``, ``"i4"``, ``"?"`` or ``"U"``.
    unit : str
        As astropy writes it; empty for none.
    doc : str
        What the number is.
    """

    name: str
    dtype: str
    unit: str = ""
    doc: str = ""

    def allocate(self, n: int) -> NDArray[Any]:
        """Initial values: NaN for floats, 0 for integers, False for flags, empty for text."""
        if self.dtype in ("f8", "f4"):
            return np.full(n, np.nan, self.dtype)
        return np.full(n, "", object) if self.dtype == "U" else np.zeros(n, self.dtype)


class Schema:
    """Ordered columns and the aliases (*slots*) that stand for a column-name prefix.

    Parameters
    ----------
    columns : iterable of Column
        In the order of the table.
    aliases : mapping of str to str, optional
        Prefix to prefix: ``slot_Centroid`` to ``base_SdssCentroid``.
    """

    def __init__(self, columns: Iterable[Column], aliases: Mapping[str, str] | None = None) -> None:
        self._columns = {column.name: column for column in columns}
        self.aliases = dict(aliases or {})

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return list(self._columns)

    def resolve(self, name: str) -> str:
        """True column name of a name that may start with an alias.

        Raises
        ------
        KeyError
            Neither a column nor an alias of one.
        """
        if name in self._columns:
            return name
        for alias, target in self.aliases.items():
            if name == alias or name.startswith(alias + "_"):
                resolved = target + name[len(alias) :]
                if resolved in self._columns:
                    return resolved
        raise KeyError(name)

    def extended(self, columns: Iterable[Column]) -> Schema:
        """A schema with further columns at the end; those that exist already stay as they are."""
        added = [column for column in columns if column.name not in self._columns]
        return Schema([*self, *added], self.aliases)


@dataclass(slots=True)
class SourceCatalog:
    """A table with one array a column and, where rows are sources, one footprint a row.

    Parameters
    ----------
    schema : Schema
        Its columns.
    columns : dict of str to ndarray
        One array of shape (n,) for each column of the schema.
    footprints : FootprintSet or None
        Row ``i`` owns footprint ``i``.
    metadata : dict
        Table-level values.
    """

    schema: Schema
    columns: dict[str, NDArray[Any]]
    footprints: FootprintSet | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def allocate(cls, schema: Schema, n: int, footprints: FootprintSet | None = None) -> SourceCatalog:
        """``n`` rows with initial values (NaN, 0, False)."""
        if footprints is not None and len(footprints) != n:
            raise ValueError(f"{len(footprints)} footprints for {n} rows")
        return cls(schema, {column.name: column.allocate(n) for column in schema}, footprints)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __contains__(self, name: str) -> bool:
        try:
            self.schema.resolve(name)
        except KeyError:
            return False
        return True

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[self.schema.resolve(name)]

    def __setitem__(self, name: str, values: NDArray[Any] | float | bool) -> None:
        self.columns[self.schema.resolve(name)][:] = values

    def select(self, rows: NDArray[Any]) -> SourceCatalog:
        """Copy of the rows at some indices, or where a boolean array is True."""
        footprints = None if self.footprints is None else self.footprints.select(rows)
        columns = {name: values[rows] for name, values in self.columns.items()}
        return SourceCatalog(self.schema, columns, footprints, dict(self.metadata))

    def copy(self) -> SourceCatalog:
        """Copy of all columns; the footprints are shared."""
        columns = {name: values.copy() for name, values in self.columns.items()}
        return SourceCatalog(self.schema, columns, self.footprints, dict(self.metadata))

    @classmethod
    def concatenate(cls, catalogs: Sequence[SourceCatalog]) -> SourceCatalog:
        """Rows of several catalogues of one schema, in order.

        Raises
        ------
        ValueError
            The schemas differ, or only some have footprints.
        """
        first = catalogs[0]
        if any(catalog.schema.names != first.schema.names for catalog in catalogs):
            raise ValueError("catalogues with different columns cannot be joined")
        with_footprints = [catalog.footprints for catalog in catalogs if catalog.footprints is not None]
        if with_footprints and len(with_footprints) != len(catalogs):
            raise ValueError("catalogues with and without footprints cannot be joined")
        columns = {name: np.concatenate([catalog.columns[name] for catalog in catalogs]) for name in first.columns}
        footprints = FootprintSet.concatenate(with_footprints) if with_footprints else None
        return cls(first.schema, columns, footprints, dict(first.metadata))
