"""Questions, for their askers."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from .base import Shape
from .messages import Message


class Question(Shape, frozen=True, kw_only=True):
    """A question as its asker sees it."""

    ask: Annotated[str, Meta(description="Id of the question's message. It names the question.")]
    state: Annotated[str, Meta(pattern="^(open|answered|timeout)$")]
    to: Annotated[str, Meta(description="The client that was asked, or the address of the work channel.")]
    correlation: Annotated[str, Meta(description="The asker's own mark of the question. The reply has it too.")]
    message: (
        Annotated[
            Message | None,
            Meta(
                description="The reply of an answered question. Null where the asker's inbox does not keep it any more."
            ),
        ]
        | UnsetType
    ) = UNSET
