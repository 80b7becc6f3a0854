"""The body of a mark."""

from __future__ import annotations

from .base import FlagField, StrictSerializer, TextField, WholeField


class NewMark(StrictSerializer):
    """How far you have dealt with a log."""

    seq = WholeField(min_value=0, max_value=2**63 - 1, help_text="The last message that you have dealt with; 0: none.")
    back = FlagField(required=False, help_text="Let the mark go back, too.")
    epoch = TextField(
        max_length=16, required=False, help_text="The epoch that `seq` belongs to. Another one is refused."
    )
