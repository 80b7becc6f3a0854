"""The demo: agents in the science room. They are ordinary clients over the socket, in a second process."""

from __future__ import annotations

from typing import Any

#: The demo's work channel and its rule. A sample that no attempt can measure ends in the channel ``dead``.
SAMPLES = "science:samples"
RULE: dict[str, Any] = {"lease": 30, "attempts": 3, "dead": "science:spoiled"}
