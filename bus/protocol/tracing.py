"""The trace context of a message: the keys ``traceparent`` and ``tracestate`` in the form of the W3C.

The bus keeps them and hands them on. It never decides by them, so a value in another form is a key of the sender's own.
"""

from __future__ import annotations

import re

import msgspec

from .inbound import Inbound

#: Any version but ff, an id of the trace and one of the span (not all zeros), and the flags.
_PARENT = re.compile(rb'"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"')
_MEMBER = (
    rb"[a-z0-9][a-z0-9_\-*/]{0,240}(?:@[a-z][a-z0-9_\-*/]{0,13})?"
    rb"=[\x20\x21\x23-\x2b\x2d-\x3c\x3e-\x5b\x5d-\x7e]{0,255}[\x21\x23-\x2b\x2d-\x3c\x3e-\x5b\x5d-\x7e]"
)
_STATE = re.compile(rb'"%b(?:[ \t]*,[ \t]*%b){0,31}"' % (_MEMBER, _MEMBER))
#: Bytes of a ``tracestate`` with its quotes.
_LONGEST_STATE = 514


def read_trace(raw: dict[str, msgspec.Raw], inbound: Inbound) -> set[str]:
    """Read the trace context of a message. Returns the keys that were read: values in another form are the sender's own keys.

    A ``tracestate`` counts only beside a valid ``traceparent``.
    """
    parent = raw.get("traceparent")
    if parent is None or _PARENT.fullmatch(data := bytes(parent)) is None:
        return set()
    inbound.trace = b',"traceparent":%b' % data
    state = raw.get("tracestate")
    if state is None or len(data := bytes(state)) > _LONGEST_STATE or _STATE.fullmatch(data) is None:
        return {"traceparent"}
    inbound.trace += b',"tracestate":%b' % data
    return {"traceparent", "tracestate"}
