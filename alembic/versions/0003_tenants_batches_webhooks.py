"""Tokens, batches, webhooks, uploads in parts, costs of stages, nights, and what a job knows of them.

Revision: 0003
Revises: 0002
"""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.exposure.sky_region import catalog_index
from service.jobs.nights import observation
from service.storage.tables import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_MOMENT = sa.DateTime(timezone=True)
_JOB_COLUMNS = {
    "batch_id": sa.String(40),
    "rerun_of": sa.String(40),
    "held_reason": sa.String(80),
    "pixels": sa.BigInteger(),
    "predicted_seconds": sa.Float(),
    "predicted_end_at": _MOMENT,
}
# A heartbeat without news changes no version.
_TOLD = {"jobs": "INSERT OR DELETE OR UPDATE OF version", "job_events": "INSERT"}
_TABLES = (
    "batches",
    "condemned_blobs",
    "chores",
    "tokens",
    "webhook_secrets",
    "webhook_messages",
    "uploads",
    "workers",
    "stage_costs",
    "observations",
)


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        for name, kind in _JOB_COLUMNS.items():
            batch_op.add_column(sa.Column(name, kind, nullable=True))
        batch_op.create_index("ix_jobs_owner_batch_id", ["owner", "batch_id"])
        batch_op.create_index("ix_jobs_phase_destruction_at", ["phase", "destruction_at"])
        # Whose turn it is, who was served last, and how the last jobs went.
        batch_op.create_index("ix_jobs_phase_owner_priority_pk", ["phase", "owner", "priority", "pk"])
        batch_op.create_index("ix_jobs_owner_started_at", ["owner", "started_at"])
        batch_op.create_index("ix_jobs_phase_ended_at", ["phase", "ended_at"])
    op.create_table(
        "batches",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_batches_owner_id", "batches", ["owner", "id"])
    with op.batch_alter_table("exposures", schema=None) as batch_op:
        batch_op.add_column(sa.Column("used_at", _MOMENT))
    op.create_table(
        "condemned_blobs",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("condemned_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_condemned_blobs_condemned_at", "condemned_blobs", ["condemned_at"])
    op.create_table(
        "chores",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("next_at", _MOMENT, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", _JSON, nullable=False),
        sa.Column("parent_id", sa.String(40)),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT),
        sa.Column("last_used_at", _MOMENT),
        sa.Column("revoked_at", _MOMENT),
        sa.UniqueConstraint("sha256", name="uq_tokens_sha256"),
    )
    op.create_index("ix_tokens_owner", "tokens", ["owner"])
    op.create_table(
        "webhook_secrets",
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("secret", sa.String(120), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("previous", sa.String(120)),
        sa.Column("previous_until", _MOMENT),
    )
    op.create_table(
        "webhook_messages",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("job_id", sa.String(40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("payload", _JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", _MOMENT),
        sa.Column("taken_until", _MOMENT),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.String(200)),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("delivered_at", _MOMENT),
    )
    op.create_index("ix_webhook_messages_state_next_at", "webhook_messages", ["state", "next_at"])
    op.create_index("ix_webhook_messages_owner_id", "webhook_messages", ["owner", "id"])
    op.create_index("ix_webhook_messages_job_id", "webhook_messages", ["job_id"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("filename", sa.Text()),
        sa.Column("sha256", sa.String(64)),
        sa.Column("size", sa.BigInteger()),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("error", _JSON),
        sa.Column("exposure_id", sa.String(40)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", _MOMENT),
        sa.Column("taken_until", _MOMENT),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_uploads_owner_id", "uploads", ["owner", "id"])
    op.create_index("ix_uploads_phase_next_at", "uploads", ["phase", "next_at"])
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("host", sa.String(80), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("busy", sa.Integer(), nullable=False),
        sa.Column("resident_bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("seen_at", _MOMENT, nullable=False),
    )
    op.create_table(
        "stage_costs",
        sa.Column("kind", sa.String(80), primary_key=True),
        sa.Column("stage", sa.String(80), primary_key=True),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("seconds_per_megapixel", sa.Double(), nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
    )
    observations = op.create_table(
        "observations",
        sa.Column(
            "job_pk",
            sa.BigInteger(),
            sa.ForeignKey("jobs.pk", ondelete="CASCADE", name="fk_observations_job_pk_jobs"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("observed_at", UtcDateTime()),
        sa.Column("exposure_id", sa.String(40)),
        sa.Column("instrument", sa.String(255)),
        sa.Column("band", sa.String(40)),
        sa.Column("target", sa.String(255)),
        sa.Column("visit", sa.BigInteger()),
        sa.Column("detector", sa.Integer()),
        sa.Column("exposure_time", sa.Double()),
        sa.Column("is_rate", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_observations_owner_night", "observations", ["owner", "night"])
    _observe(observations)
    _place_stars()
    _tell_of_changes()


def _observe(observations: sa.Table) -> None:
    """Jobs have a night, also those of earlier times."""
    connection = op.get_bind()
    parts = (("jobs", "pk", "owner", "spec", "created_at"), ("exposures", "id", "metadata"))
    jobs, exposures = (sa.table(name, *(sa.column(column) for column in columns)) for name, *columns in parts)
    kinds = {"spec": _JSON, "metadata": _JSON, "created_at": UtcDateTime()}
    known = dict(connection.execute(sa.select(exposures.c.id, sa.type_coerce(exposures.c.metadata, _JSON))).all())
    rows = connection.execute(
        sa.select(*(sa.type_coerce(c, kinds[c.name]) if c.name in kinds else c for c in jobs.c)).order_by(jobs.c.pk)
    ).mappings()
    found = []
    for job in rows.all():
        exposure_id = job["spec"]["exposures"][0]["id"] if job["spec"].get("exposures") else None
        read = (known.get(exposure_id) or {}).get("values", {})
        seen = observation(read, job["created_at"], job["spec"].get("metadata")) | {"exposure_id": exposure_id}
        found.append({"job_pk": job["pk"], "owner": job["owner"], **seen})
    if found:
        connection.execute(sa.insert(observations), found)


def _place_stars() -> None:
    """Stars across jobs are found by owner and HEALPix pixel, also those of earlier jobs."""
    op.add_column("stars", sa.Column("owner", sa.String(255)))
    op.add_column("stars", sa.Column("_healpix_29", sa.BigInteger()))
    connection = op.get_bind()
    jobs = sa.table("jobs", sa.column("pk"), sa.column("owner"))
    names = ("job_pk", "row_index", "coord_ra", "coord_dec", "detect_isPrimary", "owner", "_healpix_29")
    stars = sa.table("stars", *(sa.column(name) for name in names))
    place = (
        sa.update(stars)
        .where(stars.c.job_pk == sa.bindparam("job"), stars.c.row_index == sa.bindparam("row"))
        .values({"owner": sa.bindparam("whose"), "_healpix_29": sa.bindparam("pixel")})
    )
    for pk, owner in connection.execute(sa.select(jobs.c.pk, jobs.c.owner)).all():
        positions = sa.select(stars.c.row_index, stars.c.coord_ra, stars.c.coord_dec).where(
            stars.c.job_pk == pk, stars.c.detect_isPrimary, stars.c.coord_ra.is_not(None), stars.c.coord_dec.is_not(None)
        )
        if rows := connection.execute(positions).all():
            numbers, ra, dec = (np.array(column) for column in zip(*rows, strict=True))
            pixels = catalog_index(ra, dec).tolist()
            found = zip(numbers.tolist(), pixels, strict=True)
            connection.execute(place, [{"job": pk, "row": n, "whose": owner, "pixel": pixel} for n, pixel in found])
    has_position = sa.text('"_healpix_29" IS NOT NULL')
    op.create_index(
        "ix_stars_owner__healpix_29",
        "stars",
        ["owner", "_healpix_29", "job_pk", "row_index"],
        sqlite_where=has_position,
        postgresql_where=has_position,
    )


def _tell_of_changes() -> None:
    """On PostgreSQL whoever listens is told that jobs changed, without a further question to the database."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(
        "CREATE FUNCTION visitcal_jobs_changed() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_notify('visitcal_jobs', ''); RETURN NULL; END $$"
    )
    for table, when in _TOLD.items():
        op.execute(
            f"CREATE TRIGGER visitcal_changed AFTER {when} ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION visitcal_jobs_changed()"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in _TOLD:
            op.execute(f"DROP TRIGGER visitcal_changed ON {table}")
        op.execute("DROP FUNCTION visitcal_jobs_changed()")
    for name in _TABLES:
        op.drop_table(name)
    op.drop_index("ix_stars_owner__healpix_29", "stars")
    for name in ("owner", "_healpix_29"):
        op.drop_column("stars", name)
    with op.batch_alter_table("exposures", schema=None) as batch_op:
        batch_op.drop_column("used_at")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_phase_ended_at")
        batch_op.drop_index("ix_jobs_owner_started_at")
        batch_op.drop_index("ix_jobs_phase_owner_priority_pk")
        batch_op.drop_index("ix_jobs_phase_destruction_at")
        batch_op.drop_index("ix_jobs_owner_batch_id")
        for name in _JOB_COLUMNS:
            batch_op.drop_column(name)
