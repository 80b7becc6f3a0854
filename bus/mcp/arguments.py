"""The arguments of each tool. Their JSON Schemas are what a model reads, and the same structs check a call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..api.waiting import LONGEST
from ..services.decision_requests import LONGEST as LONGEST_TIME
from ..services.decision_requests import LONGEST_ACTION, LONGEST_KEY, LONGEST_TITLE, SHORTEST
from ..services.decisions import LONGEST_COMMENT
from ..services.work_operations import LONGEST_ERROR, MOST_JOBS, MOST_KNOWN
from ..shapes.decisions import Answer as Choice
from ..shapes.decisions import OnExpiry, State

Address = Annotated[str, Meta(description="Channel as room:channel, such as science:explore.", max_length=200)]
Heard = Annotated[
    str, Meta(description='Channel as room:channel, or "inbox" for private messages to you.', max_length=200)
]
Payload = Annotated[dict[str, Any], Meta(description="Structured content: any JSON object.")]
Text = Annotated[str, Meta(description="Text of the message.")]
Id = Annotated[
    str,
    Meta(description="An id of your choice. A repeated call with the same id changes nothing.", max_length=128),
]
Wait = Annotated[float, Meta(ge=0, le=LONGEST, description="Seconds to wait.")]
Token = Annotated[str, Meta(description="The `claim` of a job that you have.", max_length=128)]
Failure = Annotated[str, Meta(description="Why it failed, for whoever looks into it.", max_length=LONGEST_ERROR)]
ClientId = Annotated[str, Meta(min_length=1, max_length=64)]
Seq = Annotated[int, Meta(ge=0, le=2**53)]


class Arguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every tool's arguments. An argument that is null counts as left out."""


class Publish(Arguments):
    """Arguments of ``publish``."""

    address: (
        Annotated[str, Meta(description="Channel as room:channel, or a room for all of its members.", max_length=200)]
        | None
    ) = None
    text: Text | None = None
    payload: Payload | None = None
    to: (
        Annotated[
            list[ClientId],
            Meta(description="Client ids for a private message, instead of an address.", min_length=1, max_length=100),
        ]
        | None
    ) = None
    id: Id | None = None
    deliver_at: (
        Annotated[str, Meta(description="ISO time before which no worker gets it (work channels).", max_length=64)]
        | None
    ) = None


class History(Arguments):
    """Arguments of ``history``."""

    address: Heard
    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of messages.")] = 20
    before_seq: Annotated[Seq, Meta(description="Only messages before this seq.")] | None = None
    after_seq: Annotated[Seq, Meta(description="Only messages after this seq.")] | None = None
    sender: Annotated[str, Meta(description="Only messages from this client_id.", max_length=64)] | None = None


class WaitForMessage(Arguments):
    """Arguments of ``wait_for_message``."""

    address: Heard
    timeout_seconds: Wait = 20.0
    mark: (
        Annotated[Seq, Meta(description="The seq of the last message that you have dealt with. It becomes your mark.")]
        | None
    ) = None
    sender: Annotated[str, Meta(description="Only a message from this client_id.", max_length=64)] | None = None
    contains: Annotated[str, Meta(description="Only a message whose text contains this.", max_length=1000)] | None = (
        None
    )


class Mark(Arguments):
    """Arguments of ``mark``."""

    address: Heard
    seq: Annotated[Seq, Meta(description="You have dealt with all messages up to this seq.")]
    back: Annotated[bool, Meta(description="Allow a smaller seq than the mark has now.")] = False


class Claim(Arguments):
    """Arguments of ``claim``."""

    address: Address
    max: Annotated[int, Meta(ge=1, le=MOST_JOBS, description="Maximum number of jobs.")] = 1
    timeout_seconds: Wait = 20.0
    have: (
        Annotated[
            list[Token],
            Meta(
                description="The claims that you have here. Your others come again, as after a lost answer.",
                max_length=MOST_KNOWN,
            ),
        ]
        | None
    ) = None


class Renew(Arguments):
    """Arguments of ``renew``."""

    claim: Token


class Done(Arguments):
    """Arguments of ``done``."""

    claim: Token
    result: Annotated[Any, Meta(description="The result: any JSON. It is the reply to whoever asked.")] = None


class Release(Arguments):
    """Arguments of ``release``."""

    claim: Token
    delay: Annotated[float, Meta(ge=0, le=31622400, description="Seconds before another worker gets the job.")] = 0.0
    error: Failure | None = None


class Reject(Arguments):
    """Arguments of ``reject``."""

    claim: Token
    error: Failure | None = None


class Ask(Arguments):
    """Arguments of ``ask``."""

    to: Annotated[ClientId, Meta(description="The client_id of who shall answer.")] | None = None
    address: (
        Annotated[str, Meta(description="A work channel, whose worker answers with its result.", max_length=200)] | None
    ) = None
    text: Text | None = None
    payload: Payload | None = None
    timeout_seconds: Wait = 20.0
    deadline: Annotated[
        float, Meta(ge=0.1, le=31622400, description="Seconds after which nobody may answer any more.")
    ] = 60.0
    durable: Annotated[bool, Meta(description="Ask also somebody who is not connected now.")] = False
    id: Id | None = None
    question: (
        Annotated[str, Meta(description="Wait again for an earlier question, by its `question`.", max_length=160)]
        | None
    ) = None


class Reply(Arguments):
    """Arguments of ``reply``."""

    to_message: Annotated[str, Meta(description="The id of the message that asks.", max_length=160)]
    text: Text | None = None
    payload: Payload | None = None
    error: Annotated[str, Meta(description="Why there is no answer.", max_length=2000)] | None = None


Decision = Annotated[str, Meta(description="The `decision` of a result.", max_length=40)]


class RequestDecision(Arguments):
    """Arguments of ``request_decision``."""

    address: Address
    key: Annotated[str, Meta(description="Your own name of the question, such as refund-7.", max_length=LONGEST_KEY)]
    title: Annotated[str, Meta(description="The question in one line, for people.", max_length=LONGEST_TITLE)]
    action: Annotated[str, Meta(description="The action, such as the name of a tool.", max_length=LONGEST_ACTION)]
    args: Annotated[dict[str, Any], Meta(description="The arguments of the action.")] = msgspec.field(
        default_factory=dict
    )
    allow: Annotated[
        list[Choice], Meta(description="The answers that people may give.", min_length=1, max_length=4)
    ] = msgspec.field(default_factory=lambda: ["approve", "reject"])
    schema: Annotated[dict[str, Any], Meta(description="JSON Schema of arguments that a person edits.")] | None = None
    expires: Annotated[
        float, Meta(ge=SHORTEST, le=LONGEST_TIME, description="Seconds until nobody may decide any more.")
    ] = 3600.0
    on_expiry: Annotated[
        OnExpiry, Meta(description="The meaning of that end: a no, a yes, or the state `expired`.")
    ] = "reject"
    timeout_seconds: Wait = 20.0


class AwaitDecision(Arguments):
    """Arguments of ``await_decision``."""

    decision: Decision
    timeout_seconds: Wait = 20.0


class OneDecision(Arguments):
    """Arguments of ``consume_decision`` and ``cancel_decision``."""

    decision: Decision


class ListDecisions(Arguments):
    """Arguments of ``list_decisions``."""

    address: Annotated[Address, Meta(description="Only those of this channel.")] | None = None
    state: Annotated[State, Meta(description="Only those in this state.")] | None = None
    mine: Annotated[bool, Meta(description="Only those that you asked for.")] = False
    to_decide: Annotated[bool, Meta(description="Only the pending ones that you may decide.")] = False
    limit: Annotated[int, Meta(ge=1, le=100, description="Maximum number of decisions.")] = 20
    after: Annotated[str, Meta(description="The `next` of the previous page.", max_length=40)] | None = None


class Decide(Arguments):
    """Arguments of ``decide``."""

    decision: Decision
    answer: Annotated[Choice, Meta(description="Your answer.")]
    args: Annotated[dict[str, Any], Meta(description="With `edit`: the arguments as you want them.")] | None = None
    comment: Annotated[
        str, Meta(description="Your words. With `respond` they are the answer.", max_length=LONGEST_COMMENT)
    ] = ""


class WhoIsThere(Arguments):
    """Arguments of ``who_is_there``."""

    address: Address


class SetStatus(Arguments):
    """Arguments of ``set_status``."""

    status: Annotated[str, Meta(description="One word, such as working or waiting.", max_length=32)] | None = None
    task: Annotated[str, Meta(description="What you work on.", max_length=200)] | None = None
    text: Annotated[str, Meta(description="A sentence for people.", max_length=500)] | None = None
    tokens: Annotated[int, Meta(ge=0, le=2**53, description="Tokens that you have used.")] | None = None
    ttl: Annotated[float, Meta(ge=1, le=3600, description="Seconds after which the status ends by itself.")] = 300.0
    address: Annotated[Address, Meta(description="The channel in which people see you.")] | None = None


class Append(Arguments):
    """Arguments of ``append``."""

    text: Annotated[str, Meta(description="The next piece of the text.")] | None = None
    address: Annotated[Address, Meta(description="Opens a new answer in this channel.")] | None = None
    of: (
        Annotated[str, Meta(description="The answer to go on with: `of` of an earlier call.", max_length=160)] | None
    ) = None
    n: (
        Annotated[
            int,
            Meta(ge=1, le=2**53, description="The number of the piece: `parts` + 1. A repeat changes nothing then."),
        ]
        | None
    ) = None
    end: Annotated[Literal["complete", "aborted"], Meta(description="Ends the answer after this piece.")] | None = None
    payload: Annotated[dict[str, Any], Meta(description="JSON object of the opening, or of the end.")] | None = None
    id: Id | None = None
    took: Annotated[
        list[str], Meta(description="Ids of `steers` that you have taken into account.", max_length=100)
    ] = msgspec.field(default_factory=list)
    adopt: Annotated[bool, Meta(description="Take over the answer `of` of an earlier process.")] = False
    token: Annotated[str, Meta(description="The `token` of the call that adopted.", max_length=64)] | None = None


class Join(Arguments):
    """Arguments of ``join``, which only the server on standard streams has."""

    address: Heard
    since_seq: (
        Annotated[Seq, Meta(description="Start with the messages after this seq. 0 starts at the oldest one.")] | None
    ) = None
