"""Where on the detector and how on the sky a summary's exposure lies: what a visit's table needs.

Revision: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BOX = ("bbox_min_x", "bbox_min_y", "bbox_max_x", "bbox_max_y")
_TIMES = ("dark_time", "sky_rotation")


def upgrade() -> None:
    with op.batch_alter_table("summaries", schema=None) as batch_op:
        for name in _BOX:
            batch_op.add_column(sa.Column(name, sa.Integer(), nullable=True))
        for name in _TIMES:
            batch_op.add_column(sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("summaries", schema=None) as batch_op:
        for name in (*_BOX, *_TIMES):
            batch_op.drop_column(name)
