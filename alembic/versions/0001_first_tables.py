"""Exposures, jobs and what they leave: the first tables.

Revision: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "exposures",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=True),
        sa.Column("format", sa.String(length=40), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exposures")),
        sa.UniqueConstraint("owner", "sha256", name=op.f("uq_exposures_owner_sha256")),
    )
    with op.batch_alter_table("exposures", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_exposures_sha256"), ["sha256"], unique=False)

    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_keys")),
    )
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_keys_created_at"), ["created_at"], unique=False)

    op.create_table(
        "jobs",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("run_id", sa.String(length=255), nullable=True),
        sa.Column("dedup_key", sa.String(length=64), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.String(length=80), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sent_attempt", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=80), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("spec", _JSON, nullable=False),
        sa.Column("error", _JSON, nullable=True),
        sa.Column("warnings", _JSON, nullable=False),
        sa.Column("time_limit", sa.Float(), nullable=False),
        sa.Column("memory_limit_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("destruction_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index("ix_jobs_owner_dedup_key", ["owner", "dedup_key"], unique=False)
        batch_op.create_index("ix_jobs_owner_id", ["owner", "id"], unique=False)
        batch_op.create_index("ix_jobs_owner_phase_id", ["owner", "phase", "id"], unique=False)
        batch_op.create_index("ix_jobs_phase_lease_until", ["phase", "lease_until"], unique=False)
        batch_op.create_index("ix_jobs_phase_priority_id", ["phase", "priority", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_run_id"), ["run_id"], unique=False)

    op.create_table(
        "refcats",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("info", _JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refcats")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_refcats_owner_name")),
    )
    op.create_table(
        "job_documents",
        sa.Column("job_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("body", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["job_pk"], ["jobs.pk"], name=op.f("fk_job_documents_job_pk_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_pk", "kind", name=op.f("pk_job_documents")),
    )
    op.create_table(
        "job_events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("data", _JSON, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_pk"], ["jobs.pk"], name=op.f("fk_job_events_job_pk_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_job_events")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("job_events", schema=None) as batch_op:
        batch_op.create_index("ix_job_events_job_pk_seq", ["job_pk", "seq"], unique=False)

    op.create_table(
        "job_inputs",
        sa.Column("job_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("ref_id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_pk"], ["jobs.pk"], name=op.f("fk_job_inputs_job_pk_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_pk", "kind", "ordinal", name=op.f("pk_job_inputs")),
    )
    with op.batch_alter_table("job_inputs", schema=None) as batch_op:
        batch_op.create_index("ix_job_inputs_ref_id", ["ref_id"], unique=False)
        batch_op.create_index("ix_job_inputs_sha256", ["sha256"], unique=False)

    op.create_table(
        "job_stages",
        sa.Column("job_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("numbers", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["job_pk"], ["jobs.pk"], name=op.f("fk_job_stages_job_pk_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_pk", "ordinal", name=op.f("pk_job_stages")),
    )
    op.create_table(
        "products",
        sa.Column("job_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("product", sa.String(length=60), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_pk"], ["jobs.pk"], name=op.f("fk_products_job_pk_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_pk", "product", "format", name=op.f("pk_products")),
    )
    with op.batch_alter_table("products", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_products_sha256"), ["sha256"], unique=False)

    op.create_table(
        "psf_stars",
        sa.Column("job_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("row_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=True),
        sa.Column("coord_ra", sa.Double(), nullable=True),
        sa.Column("coord_dec", sa.Double(), nullable=True),
        sa.Column("parent", sa.BigInteger(), nullable=True),
        sa.Column("psf_max_value", sa.REAL(), nullable=True),
        sa.Column("coord_raErr", sa.REAL(), nullable=True),
        sa.Column("coord_decErr", sa.REAL(), nullable=True),
        sa.Column("coord_ra_dec_Cov", sa.REAL(), nullable=True),
        sa.Column("RoughPsfShapelets_flux", sa.Double(), nullable=True),
        sa.Column("RoughPsfShapelets_fluxErr", sa.Double(), nullable=True),
        sa.Column("RoughPsfShapelets_x", sa.Double(), nullable=True),
        sa.Column("RoughPsfShapelets_y", sa.Double(), nullable=True),
        sa.Column("RoughPsfShapelets_xx", sa.Double(), nullable=True),
        sa.Column("RoughPsfShapelets_yy", sa.Double(), nullable=True),
        sa.Column("RoughPsfShapelets_xy", sa.Double(), nullable=True),
        sa.Column("RoughPsfShapelets_flag", sa.Boolean(), nullable=True),
        sa.Column("RoughPsfShapelets_candidate", sa.Boolean(), nullable=True),
        sa.Column("RoughPsfShapelets_used", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_x", sa.Double(), nullable=True),
        sa.Column("base_SdssCentroid_y", sa.Double(), nullable=True),
        sa.Column("base_SdssCentroid_xErr", sa.REAL(), nullable=True),
        sa.Column("base_SdssCentroid_yErr", sa.REAL(), nullable=True),
        sa.Column("base_SdssCentroid_flag", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_noSecondDerivative", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_almostNoSecondDerivative", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_notAtMaximum", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_near_edge", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_resetToPeak", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_badError", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_no_pixels", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_not_contained", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_parent_source", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_galsim", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_invalid_param", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_no_psf", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_x", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_y", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_xx", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_yy", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_xy", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_instFlux", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_flag", sa.Boolean(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_flag_apertureTruncated", sa.Boolean(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_instFlux", sa.Double(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_mask_bits", sa.Integer(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_flag", sa.Boolean(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_flag_bounds", sa.Boolean(), nullable=True),
        sa.Column("base_GaussianFlux_instFlux", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_flag", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_offimage", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_nodata", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_interpolated", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_saturated", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_cr", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_bad", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_suspect", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_edgeCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_nodataCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_interpolatedCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_saturatedCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_crCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_badCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_suspectCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_edgeCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_nodataCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_interpolatedCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_saturatedCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_crCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_badCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_suspectCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PsfFlux_instFlux", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_area", sa.REAL(), nullable=True),
        sa.Column("base_PsfFlux_chi2", sa.REAL(), nullable=True),
        sa.Column("base_PsfFlux_npixels", sa.Integer(), nullable=True),
        sa.Column("base_PsfFlux_flag", sa.Boolean(), nullable=True),
        sa.Column("base_PsfFlux_flag_noGoodPixels", sa.Boolean(), nullable=True),
        sa.Column("base_PsfFlux_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("base_InvalidPsf_flag", sa.Boolean(), nullable=True),
        sa.Column("calib_psf_candidate", sa.Boolean(), nullable=True),
        sa.Column("calib_psf_used", sa.Boolean(), nullable=True),
        sa.Column("calib_psf_reserved", sa.Boolean(), nullable=True),
        sa.Column("apcorr_base_CircularApertureFlux_12_0_used", sa.Boolean(), nullable=True),
        sa.Column("apcorr_base_CompensatedTophatFlux_12_used", sa.Boolean(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_instFlux", sa.Double(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_flag", sa.Boolean(), nullable=True),
        sa.Column("apcorr_slot_CalibFlux_used", sa.Boolean(), nullable=True),
        sa.Column("apcorr_base_GaussianFlux_used", sa.Boolean(), nullable=True),
        sa.Column("apcorr_base_PsfFlux_used", sa.Boolean(), nullable=True),
        sa.Column("calib_astrometry_used", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["job_pk"], ["jobs.pk"], name=op.f("fk_psf_stars_job_pk_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_pk", "row_index", name=op.f("pk_psf_stars")),
    )
    op.create_table(
        "stars",
        sa.Column("job_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("row_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=True),
        sa.Column("coord_ra", sa.Double(), nullable=True),
        sa.Column("coord_dec", sa.Double(), nullable=True),
        sa.Column("parent", sa.BigInteger(), nullable=True),
        sa.Column("calib_psf_candidate", sa.Boolean(), nullable=True),
        sa.Column("calib_psf_used", sa.Boolean(), nullable=True),
        sa.Column("calib_psf_reserved", sa.Boolean(), nullable=True),
        sa.Column("calib_astrometry_used", sa.Boolean(), nullable=True),
        sa.Column("apcorr_slot_CalibFlux_used", sa.Boolean(), nullable=True),
        sa.Column("apcorr_base_GaussianFlux_used", sa.Boolean(), nullable=True),
        sa.Column("apcorr_base_PsfFlux_used", sa.Boolean(), nullable=True),
        sa.Column("psf_id", sa.BigInteger(), nullable=True),
        sa.Column("psf_max_value", sa.REAL(), nullable=True),
        sa.Column("coord_raErr", sa.REAL(), nullable=True),
        sa.Column("coord_decErr", sa.REAL(), nullable=True),
        sa.Column("coord_ra_dec_Cov", sa.REAL(), nullable=True),
        sa.Column("sky_source", sa.Boolean(), nullable=True),
        sa.Column("deblend_nChild", sa.Integer(), nullable=True),
        sa.Column("deblend_deblendedAsPsf", sa.Boolean(), nullable=True),
        sa.Column("deblend_psfCenter_x", sa.Double(), nullable=True),
        sa.Column("deblend_psfCenter_y", sa.Double(), nullable=True),
        sa.Column("deblend_psf_instFlux", sa.Double(), nullable=True),
        sa.Column("deblend_tooManyPeaks", sa.Boolean(), nullable=True),
        sa.Column("deblend_parentTooBig", sa.Boolean(), nullable=True),
        sa.Column("deblend_masked", sa.Boolean(), nullable=True),
        sa.Column("deblend_failed", sa.Boolean(), nullable=True),
        sa.Column("deblend_skipped", sa.Boolean(), nullable=True),
        sa.Column("deblend_rampedTemplate", sa.Boolean(), nullable=True),
        sa.Column("deblend_patchedTemplate", sa.Boolean(), nullable=True),
        sa.Column("deblend_hasStrayFlux", sa.Boolean(), nullable=True),
        sa.Column("deblend_peak_center_x", sa.Integer(), nullable=True),
        sa.Column("deblend_peak_center_y", sa.Integer(), nullable=True),
        sa.Column("deblend_peakId", sa.Integer(), nullable=True),
        sa.Column("deblend_nPeaks", sa.Integer(), nullable=True),
        sa.Column("deblend_parentNPeaks", sa.Integer(), nullable=True),
        sa.Column("base_SdssCentroid_x", sa.Double(), nullable=True),
        sa.Column("base_SdssCentroid_y", sa.Double(), nullable=True),
        sa.Column("base_SdssCentroid_xErr", sa.REAL(), nullable=True),
        sa.Column("base_SdssCentroid_yErr", sa.REAL(), nullable=True),
        sa.Column("base_SdssCentroid_flag", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_noSecondDerivative", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_almostNoSecondDerivative", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_notAtMaximum", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_near_edge", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_resetToPeak", sa.Boolean(), nullable=True),
        sa.Column("base_SdssCentroid_flag_badError", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_flag", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_flag_no_pixels", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_flag_not_contained", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_flag_parent_source", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_flag_galsim", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_flag_invalid_param", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_flag_no_psf", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_x", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_y", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_xx", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_yy", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmPsfMoments_xy", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_no_pixels", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_not_contained", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_parent_source", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_galsim", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_invalid_param", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_flag_no_psf", sa.Boolean(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_x", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_y", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_xx", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_yy", sa.Double(), nullable=True),
        sa.Column("ext_shapeHSM_HsmSourceMoments_xy", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_instFlux", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_flag", sa.Boolean(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_flag_apertureTruncated", sa.Boolean(), nullable=True),
        sa.Column("base_ClassificationSizeExtendedness_value", sa.Double(), nullable=True),
        sa.Column("base_ClassificationSizeExtendedness_flag", sa.Boolean(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_instFlux", sa.Double(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_mask_bits", sa.Integer(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_flag", sa.Boolean(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_flag_bounds", sa.Boolean(), nullable=True),
        sa.Column("base_GaussianFlux_instFlux", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_flag", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_offimage", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_nodata", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_interpolated", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_saturated", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_cr", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_bad", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_suspect", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_edgeCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_nodataCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_interpolatedCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_saturatedCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_crCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_badCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_suspectCenter", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_edgeCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_nodataCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_interpolatedCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_saturatedCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_crCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_badCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PixelFlags_flag_suspectCenterAll", sa.Boolean(), nullable=True),
        sa.Column("base_PsfFlux_instFlux", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_area", sa.REAL(), nullable=True),
        sa.Column("base_PsfFlux_chi2", sa.REAL(), nullable=True),
        sa.Column("base_PsfFlux_npixels", sa.Integer(), nullable=True),
        sa.Column("base_PsfFlux_flag", sa.Boolean(), nullable=True),
        sa.Column("base_PsfFlux_flag_noGoodPixels", sa.Boolean(), nullable=True),
        sa.Column("base_PsfFlux_flag_edge", sa.Boolean(), nullable=True),
        sa.Column("base_InvalidPsf_flag", sa.Boolean(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_instFlux", sa.Double(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_instFluxErr", sa.Double(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_flag", sa.Boolean(), nullable=True),
        sa.Column("base_GaussianFlux_apCorr", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_apCorrErr", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_flag_apCorr", sa.Boolean(), nullable=True),
        sa.Column("base_PsfFlux_apCorr", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_apCorrErr", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_flag_apCorr", sa.Boolean(), nullable=True),
        sa.Column("base_ClassificationExtendedness_value", sa.Double(), nullable=True),
        sa.Column("base_ClassificationExtendedness_flag", sa.Boolean(), nullable=True),
        sa.Column("base_FootprintArea_value", sa.Integer(), nullable=True),
        sa.Column("detect_isPrimary", sa.Boolean(), nullable=True),
        sa.Column("detect_isDeblendedSource", sa.Boolean(), nullable=True),
        sa.Column("detect_fromBlend", sa.Boolean(), nullable=True),
        sa.Column("detect_isIsolated", sa.Boolean(), nullable=True),
        sa.Column("calib_photometry_used", sa.Boolean(), nullable=True),
        sa.Column("calib_photometry_reserved", sa.Boolean(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_flux", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_mag", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_fluxErr", sa.Double(), nullable=True),
        sa.Column("base_CircularApertureFlux_12_0_magErr", sa.Double(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_flux", sa.Double(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_mag", sa.Double(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_fluxErr", sa.Double(), nullable=True),
        sa.Column("base_CompensatedTophatFlux_12_magErr", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_flux", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_mag", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_fluxErr", sa.Double(), nullable=True),
        sa.Column("base_GaussianFlux_magErr", sa.Double(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_flux", sa.Double(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_mag", sa.Double(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_fluxErr", sa.Double(), nullable=True),
        sa.Column("base_NormalizedCompensatedTophatFlux_magErr", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_flux", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_mag", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_fluxErr", sa.Double(), nullable=True),
        sa.Column("base_PsfFlux_magErr", sa.Double(), nullable=True),
        sa.Column("deblend_psf_flux", sa.Double(), nullable=True),
        sa.Column("deblend_psf_mag", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_pk"], ["jobs.pk"], name=op.f("fk_stars_job_pk_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_pk", "row_index", name=op.f("pk_stars")),
    )
    op.create_table(
        "summaries",
        sa.Column("job_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("instrument", sa.String(length=255), nullable=True),
        sa.Column("band", sa.String(length=40), nullable=True),
        sa.Column("physical_filter", sa.String(length=255), nullable=True),
        sa.Column("visit", sa.BigInteger(), nullable=True),
        sa.Column("detector", sa.Integer(), nullable=True),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("psfSigma", sa.REAL(), nullable=True),
        sa.Column("psfArea", sa.REAL(), nullable=True),
        sa.Column("psfIxx", sa.REAL(), nullable=True),
        sa.Column("psfIyy", sa.REAL(), nullable=True),
        sa.Column("psfIxy", sa.REAL(), nullable=True),
        sa.Column("ra", sa.Double(), nullable=True),
        sa.Column("dec", sa.Double(), nullable=True),
        sa.Column("pixelScale", sa.REAL(), nullable=True),
        sa.Column("zenithDistance", sa.REAL(), nullable=True),
        sa.Column("expTime", sa.REAL(), nullable=True),
        sa.Column("zeroPoint", sa.REAL(), nullable=True),
        sa.Column("skyBg", sa.REAL(), nullable=True),
        sa.Column("skyNoise", sa.REAL(), nullable=True),
        sa.Column("meanVar", sa.REAL(), nullable=True),
        sa.Column("raCorners", _JSON, nullable=True),
        sa.Column("decCorners", _JSON, nullable=True),
        sa.Column("astromOffsetMean", sa.REAL(), nullable=True),
        sa.Column("astromOffsetStd", sa.REAL(), nullable=True),
        sa.Column("refCatSourceDensity", sa.REAL(), nullable=True),
        sa.Column("psfAdaptiveThresholdValue", sa.REAL(), nullable=True),
        sa.Column("psfAdaptiveIncludeThresholdMultiplier", sa.REAL(), nullable=True),
        sa.Column("nPsfStar", sa.Integer(), nullable=True),
        sa.Column("psfStarDeltaE1Median", sa.REAL(), nullable=True),
        sa.Column("psfStarDeltaE2Median", sa.REAL(), nullable=True),
        sa.Column("psfStarDeltaE1Scatter", sa.REAL(), nullable=True),
        sa.Column("psfStarDeltaE2Scatter", sa.REAL(), nullable=True),
        sa.Column("psfStarDeltaSizeMedian", sa.REAL(), nullable=True),
        sa.Column("psfStarDeltaSizeScatter", sa.REAL(), nullable=True),
        sa.Column("psfStarScaledDeltaSizeScatter", sa.REAL(), nullable=True),
        sa.Column("psfTraceRadiusDelta", sa.REAL(), nullable=True),
        sa.Column("psfApFluxDelta", sa.REAL(), nullable=True),
        sa.Column("psfApCorrSigmaScaledDelta", sa.REAL(), nullable=True),
        sa.Column("maxDistToNearestPsf", sa.REAL(), nullable=True),
        sa.Column("starEMedian", sa.REAL(), nullable=True),
        sa.Column("starUnNormalizedEMedian", sa.REAL(), nullable=True),
        sa.Column("starComa1Median", sa.REAL(), nullable=True),
        sa.Column("starComa2Median", sa.REAL(), nullable=True),
        sa.Column("starTrefoil1Median", sa.REAL(), nullable=True),
        sa.Column("starTrefoil2Median", sa.REAL(), nullable=True),
        sa.Column("starKurtosisMedian", sa.REAL(), nullable=True),
        sa.Column("starE41Median", sa.REAL(), nullable=True),
        sa.Column("starE42Median", sa.REAL(), nullable=True),
        sa.Column("effTime", sa.REAL(), nullable=True),
        sa.Column("effTimePsfSigmaScale", sa.REAL(), nullable=True),
        sa.Column("effTimeSkyBgScale", sa.REAL(), nullable=True),
        sa.Column("effTimeZeroPointScale", sa.REAL(), nullable=True),
        sa.Column("magLim", sa.REAL(), nullable=True),
        sa.Column("nShapeletsStar", sa.Integer(), nullable=True),
        sa.Column("shapeletsOnlyIqScore", sa.REAL(), nullable=True),
        sa.Column("shapeletsIqScore", sa.REAL(), nullable=True),
        sa.Column("shapeletsCoeffs", _JSON, nullable=True),
        sa.Column("centroidDiffShapeletsVsSlotMedian", sa.REAL(), nullable=True),
        sa.Column("shapeletsStarEMedian", sa.REAL(), nullable=True),
        sa.Column("shapeletsStarUnNormalizedEMedian", sa.REAL(), nullable=True),
        sa.ForeignKeyConstraint(["job_pk"], ["jobs.pk"], name=op.f("fk_summaries_job_pk_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_pk", name=op.f("pk_summaries")),
    )
    with op.batch_alter_table("summaries", schema=None) as batch_op:
        batch_op.create_index("ix_summaries_instrument_band", ["instrument", "band"], unique=False)
        batch_op.create_index("ix_summaries_owner_created_at", ["owner", "created_at"], unique=False)
        batch_op.create_index("ix_summaries_visit", ["visit"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("summaries", schema=None) as batch_op:
        batch_op.drop_index("ix_summaries_visit")
        batch_op.drop_index("ix_summaries_owner_created_at")
        batch_op.drop_index("ix_summaries_instrument_band")

    op.drop_table("summaries")
    op.drop_table("stars")
    op.drop_table("psf_stars")
    with op.batch_alter_table("products", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_products_sha256"))

    op.drop_table("products")
    op.drop_table("job_stages")
    with op.batch_alter_table("job_inputs", schema=None) as batch_op:
        batch_op.drop_index("ix_job_inputs_sha256")
        batch_op.drop_index("ix_job_inputs_ref_id")

    op.drop_table("job_inputs")
    with op.batch_alter_table("job_events", schema=None) as batch_op:
        batch_op.drop_index("ix_job_events_job_pk_seq")

    op.drop_table("job_events")
    op.drop_table("job_documents")
    op.drop_table("refcats")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_run_id"))
        batch_op.drop_index("ix_jobs_phase_priority_id")
        batch_op.drop_index("ix_jobs_phase_lease_until")
        batch_op.drop_index("ix_jobs_owner_phase_id")
        batch_op.drop_index("ix_jobs_owner_id")
        batch_op.drop_index("ix_jobs_owner_dedup_key")

    op.drop_table("jobs")
    with op.batch_alter_table("idempotency_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_idempotency_keys_created_at"))

    op.drop_table("idempotency_keys")
    with op.batch_alter_table("exposures", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_exposures_sha256"))

    op.drop_table("exposures")
