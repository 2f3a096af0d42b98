"""The tables. Everything that asks them something lives in `service.storage.repositories`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

from service.exposure.sky_region import INDEX_COLUMN
from service.exposure.star_schema import psf_star_schema, star_schema
from service.exposure.summary import summary_fields

if TYPE_CHECKING:
    from service.exposure.catalog import Schema

__all__ = [
    "CATALOG_TABLES",
    "UtcDateTime",
    "batches",
    "chores",
    "condemned_blobs",
    "exposures",
    "idempotency_keys",
    "job_documents",
    "job_events",
    "job_inputs",
    "job_stages",
    "jobs",
    "metadata",
    "observations",
    "products",
    "refcats",
    "stage_costs",
    "stars",
    "summaries",
    "tokens",
    "uploads",
    "webhook_messages",
    "webhook_secrets",
    "workers",
]


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC moments; SQLite, which knows no zones, gets them without."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To UTC; a naive moment is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Aware, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column declared INTEGER.
_RowNumber = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_Sha256 = sa.String(64)
_Id = sa.String(40)
_Name = sa.String(255)


def _job_key(*, primary_key: bool = False) -> sa.Column[Any]:
    return sa.Column(
        "job_pk",
        sa.BigInteger,
        sa.ForeignKey("jobs.pk", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
        autoincrement=False,
    )


exposures = sa.Table(
    "exposures",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", _Name, nullable=False),
    sa.Column("sha256", _Sha256, nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("filename", sa.Text),
    sa.Column("format", sa.String(40), nullable=False),
    sa.Column("metadata", _Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("used_at", UtcDateTime),  # uploaded again; null where it was uploaded once
    sa.UniqueConstraint("owner", "sha256"),
)

refcats = sa.Table(
    "refcats",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", _Name, nullable=False),
    sa.Column("name", _Name, nullable=False),
    sa.Column("sha256", _Sha256, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("info", _Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("owner", "name"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("pk", _RowNumber, primary_key=True, autoincrement=True),
    sa.Column("id", _Id, nullable=False, unique=True),
    sa.Column("owner", _Name, nullable=False),
    sa.Column("run_id", _Name, index=True),
    sa.Column("dedup_key", _Sha256, nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("stage", sa.String(80)),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    # Fencing: a write of attempt k by worker w happens only while both stand here.
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("sent_attempt", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),  # attempts whose process died
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(80)),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("spec", _Json, nullable=False),
    sa.Column("error", _Json),
    sa.Column("warnings", _Json, nullable=False),
    sa.Column("time_limit", sa.Float, nullable=False),
    sa.Column("memory_limit_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("destruction_at", UtcDateTime),
    sa.Column("batch_id", _Id),
    sa.Column("rerun_of", _Id),
    sa.Column("held_reason", sa.String(80)),  # why a HELD job waits, a stable code
    # Forecast when it was taken in, for the judgement of the forecast when it has ended.
    sa.Column("pixels", sa.BigInteger),
    sa.Column("predicted_seconds", sa.Float),
    sa.Column("predicted_end_at", UtcDateTime),
    sa.Index("ix_jobs_owner_id", "owner", "id"),
    sa.Index("ix_jobs_owner_phase_id", "owner", "phase", "id"),
    sa.Index("ix_jobs_phase_priority_id", "phase", "priority", "id"),
    sa.Index("ix_jobs_phase_lease_until", "phase", "lease_until"),
    sa.Index("ix_jobs_owner_dedup_key", "owner", "dedup_key"),
    sa.Index("ix_jobs_owner_batch_id", "owner", "batch_id"),
    sa.Index("ix_jobs_phase_destruction_at", "phase", "destruction_at"),
    # Whose turn it is, who was served last, and how the last jobs went.
    sa.Index("ix_jobs_phase_owner_priority_pk", "phase", "owner", "priority", "pk"),
    sa.Index("ix_jobs_owner_started_at", "owner", "started_at"),
    sa.Index("ix_jobs_phase_ended_at", "phase", "ended_at"),
)

# Long documents beside the row, so that lists and heartbeats do not carry them.
job_documents = sa.Table(
    "job_documents",
    metadata,
    _job_key(primary_key=True),
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("body", _Json, nullable=False),
)

# What a job reads: nothing named here may be removed while the job is active.
job_inputs = sa.Table(
    "job_inputs",
    metadata,
    _job_key(primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("ref_id", _Id, nullable=False),
    sa.Column("sha256", _Sha256, nullable=False),
    sa.Index("ix_job_inputs_ref_id", "ref_id"),
    sa.Index("ix_job_inputs_sha256", "sha256"),
)

# What a job is of and in which night it was taken, known before it runs: by its headers, then as it was read.
observations = sa.Table(
    "observations",
    metadata,
    _job_key(primary_key=True),
    sa.Column("owner", _Name, nullable=False),
    sa.Column("night", sa.Date, nullable=False),
    sa.Column("observed_at", UtcDateTime),  # middle of the exposure
    sa.Column("exposure_id", _Id),
    sa.Column("instrument", _Name),
    sa.Column("band", sa.String(40)),
    sa.Column("target", _Name),
    sa.Column("visit", sa.BigInteger),
    sa.Column("detector", sa.Integer),
    sa.Column("exposure_time", sa.Double),  # seconds
    sa.Column("is_rate", sa.Boolean, nullable=False),  # pixels that do not grow with the exposure time
    sa.Index("ix_observations_owner_night", "owner", "night"),
)

job_stages = sa.Table(
    "job_stages",
    metadata,
    _job_key(primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("numbers", _Json, nullable=False),
)

job_events = sa.Table(
    "job_events",
    metadata,
    sa.Column("seq", _RowNumber, primary_key=True, autoincrement=True),
    _job_key(),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("data", _Json, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Index("ix_job_events_job_pk_seq", "job_pk", "seq"),
    sqlite_autoincrement=True,  # a sequence number is never given twice, also after a job was deleted
)

products = sa.Table(
    "products",
    metadata,
    _job_key(primary_key=True),
    sa.Column("product", sa.String(60), primary_key=True),
    sa.Column("format", sa.String(16), primary_key=True),
    sa.Column("media_type", sa.String(100), nullable=False),
    sa.Column("filename", _Name, nullable=False),
    sa.Column("sha256", _Sha256, nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("owner", _Name, primary_key=True),
    sa.Column("key", _Name, primary_key=True),
    sa.Column("fingerprint", _Sha256, nullable=False),
    sa.Column("job_id", _Id, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, index=True),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", _Name, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_batches_owner_id", "owner", "id"),
)

# Blobs that nothing referred to at a moment. Who makes a reference strikes the blob off; what still stands here after a
# time of grace is removed.
condemned_blobs = sa.Table(
    "condemned_blobs",
    metadata,
    sa.Column("sha256", _Sha256, primary_key=True),
    sa.Column("condemned_at", UtcDateTime, nullable=False, index=True),
)

# Work that every worker could do and one does at a time.
chores = sa.Table(
    "chores",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("next_at", UtcDateTime, nullable=False),
)

# The secret itself is shown once and kept nowhere.
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", _Name, nullable=False, index=True),
    sa.Column("name", _Name, nullable=False),
    sa.Column("sha256", _Sha256, nullable=False, unique=True),
    sa.Column("scopes", _Json, nullable=False),
    sa.Column("parent_id", _Id),  # the token that asked for this one: they are revoked together
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
)

webhook_secrets = sa.Table(
    "webhook_secrets",
    metadata,
    sa.Column("owner", _Name, primary_key=True),
    sa.Column("secret", sa.String(120), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    # For a while after a rotation messages are signed with both, so that receivers can change without a gap.
    sa.Column("previous", sa.String(120)),
    sa.Column("previous_until", UtcDateTime),
)

# Outbox and replay log: a message is written with what it tells of, and sent by whoever takes it.
webhook_messages = sa.Table(
    "webhook_messages",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", _Name, nullable=False),
    sa.Column("job_id", _Id, nullable=False, index=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("payload", _Json, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # waiting, delivered, given_up
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", UtcDateTime),
    sa.Column("taken_until", UtcDateTime),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.String(200)),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("delivered_at", UtcDateTime),
    sa.Index("ix_webhook_messages_state_next_at", "state", "next_at"),
    sa.Index("ix_webhook_messages_owner_id", "owner", "id"),
)

# Files on their way in: in parts from their owners (PENDING), or fetched from a source (QUEUED, EXECUTING).
uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("owner", _Name, nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("host", _Name, nullable=False),  # which has the bytes so far
    sa.Column("filename", sa.Text),
    sa.Column("sha256", _Sha256),  # as announced
    sa.Column("size", sa.BigInteger),  # as announced
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("source", sa.Text),
    sa.Column("error", _Json),
    sa.Column("exposure_id", _Id),
    # Fencing: attempt k of a fetch writes only while k stands here.
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", UtcDateTime),
    sa.Column("taken_until", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    sa.Index("ix_uploads_owner_id", "owner", "id"),
    sa.Index("ix_uploads_phase_next_at", "phase", "next_at"),
)

# Signs of life of worker processes, for operators; leases alone decide about jobs.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(80), primary_key=True),
    sa.Column("host", sa.String(80), nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("busy", sa.Integer, nullable=False),
    sa.Column("resident_bytes", sa.BigInteger, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)

# What the stages of finished jobs cost, smoothed, by kind of job; forecasts are made of it.
stage_costs = sa.Table(
    "stage_costs",
    metadata,
    sa.Column("kind", sa.String(80), primary_key=True),
    sa.Column("stage", sa.String(80), primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("seconds_per_megapixel", sa.Double, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

_TYPES: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "f8": sa.Double,
    "f4": sa.REAL,
    "i8": sa.BigInteger,
    "i4": sa.Integer,
    "?": sa.Boolean,
    "U": sa.Text,
}


def _catalog_table(name: str, schema: Schema, *others: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        _job_key(primary_key=True),
        sa.Column("row_index", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(column.name, _TYPES[column.dtype](), nullable=True) for column in schema),
        *others,
    )


_has_position = sa.text(f'"{INDEX_COLUMN}" IS NOT NULL')
# Stars are found by owner and place on the sky; rows that are no star of their own have no place.
stars = _catalog_table(
    "stars",
    star_schema(),
    sa.Column("owner", _Name),
    sa.Column(INDEX_COLUMN, sa.BigInteger),
    sa.Index(
        "ix_stars_owner__healpix_29",
        "owner",
        INDEX_COLUMN,
        "job_pk",
        "row_index",
        sqlite_where=_has_position,
        postgresql_where=_has_position,
    ),
)

#: Table and schema of each product whose rows are in SQL, one SQL column for each column of the catalogue.
CATALOG_TABLES: dict[str, tuple[sa.Table, Schema]] = {
    "single_visit_star_unstandardized": (stars, star_schema()),
    "single_visit_psf_star": (_catalog_table("psf_stars", psf_star_schema()), psf_star_schema()),
}

summaries = sa.Table(
    "summaries",
    metadata,
    _job_key(primary_key=True),
    sa.Column("owner", _Name, nullable=False),
    sa.Column("instrument", _Name),
    sa.Column("band", sa.String(40)),
    sa.Column("physical_filter", _Name),
    sa.Column("visit", sa.BigInteger),
    sa.Column("detector", sa.Integer),
    sa.Column("observed_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
    *(
        sa.Column(field.name, _TYPES[field.dtype]() if field.length == 1 else _Json, nullable=True)
        for field in summary_fields()
    ),
    *(sa.Column(name, sa.Integer) for name in ("bbox_min_x", "bbox_min_y", "bbox_max_x", "bbox_max_y")),
    *(sa.Column(name, sa.Double) for name in ("dark_time", "sky_rotation")),
    sa.Index("ix_summaries_owner_created_at", "owner", "created_at"),
    sa.Index("ix_summaries_instrument_band", "instrument", "band"),
    sa.Index("ix_summaries_visit", "visit"),
)
