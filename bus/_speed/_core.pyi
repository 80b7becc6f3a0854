"""The types of the extension."""

SOURCES: str

class TokenBucket:
    rate: float
    burst: float
    level: float
    updated: float
    def __init__(self, rate: float, burst: float, now: float) -> None: ...
    def take(self, amount: float, now: float, /) -> float: ...
    def owe(self, amount: float, /) -> None: ...
