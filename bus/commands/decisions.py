"""The commands for decisions: ask people, decide, wait for the answer, use it, and withdraw the question."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .. import shapes
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from ..protocol.routing import resolve
from ..services import decision_lists, decision_requests
from ..services import decisions as service
from ..services.decision_requests import LONGEST, LONGEST_ACTION, LONGEST_KEY, LONGEST_TITLE, SHORTEST
from ..services.decisions import LONGEST_COMMENT
from ..shapes.decisions import Answer as Choice
from ..shapes.decisions import OnExpiry, State
from .base import LISTING, LOOK, Answer, Context, Parameters, command
from .channels import ChannelParameters, target

#: The longest that a request waits for a decision, in seconds.
LONGEST_WAIT = 25.0
#: The longest name of a decision, in characters.
LONGEST_NAME = 40
#: The name of the socket in the audit log.
DOOR = "socket"

Object = dict[str, Any]


class RequestParameters(ChannelParameters):
    """Parameters of ``request_decision``."""

    key: Annotated[str, Meta(max_length=LONGEST_KEY, description="Your own name of the question. It is required.")] = ""
    title: Annotated[
        str, Meta(max_length=LONGEST_TITLE, description="The question in one line, for people. It is required.")
    ] = ""
    action: Annotated[
        str,
        Meta(max_length=LONGEST_ACTION, description="The action that you want to do, such as a tool. It is required."),
    ] = ""
    args: Annotated[Object, Meta(description="The arguments of the action.")] = msgspec.field(default_factory=dict)
    allow: Annotated[
        Annotated[list[Choice], Meta(min_length=1, max_length=4)],
        Meta(description="The answers that people may give. The default is approve and reject."),
    ] = msgspec.field(default_factory=lambda: ["approve", "reject"])
    schema: Annotated[Object | None, Meta(description="JSON Schema of the arguments that a person edits.")] = None
    expires: Annotated[
        float, Meta(ge=SHORTEST, le=LONGEST, description="Seconds until nobody may decide any more.")
    ] = 3600.0
    on_expiry: Annotated[
        OnExpiry, Meta(description="The meaning of that end: a no, a yes, or the state `expired`.")
    ] = "reject"


@command(
    "request_decision",
    RequestParameters,
    shapes.Decision,
    errors=(
        ErrorCode.INVALID_NAME,
        ErrorCode.CHANNEL_NOT_FOUND,
        ErrorCode.FORBIDDEN,
        ErrorCode.LIMIT_REACHED,
        ErrorCode.REJECTED_BEFORE,
    ),
    cost=LOOK,
)
async def request_decision(context: Context, parameters: RequestParameters) -> Answer:
    """Ask the people of a channel whether you may do something. The same key and arguments give the same decision."""
    address = target(context, parameters)
    asked: shapes.Decision = await context.process.decide(
        lambda: decision_requests.request_decision(
            address,
            key=parameters.key,
            title=parameters.title,
            action=parameters.action,
            args=parameters.args,
            allow=parameters.allow,
            schema=parameters.schema,
            expires=parameters.expires,
            on_expiry=parameters.on_expiry,
            actor=context.actor,
            door=DOOR,
        )
    )
    return Answer(f"{asked.decision} is {asked.state}", asked)


class DecisionParameters(Parameters):
    """A decision."""

    decision: Annotated[str, Meta(max_length=LONGEST_NAME, description="The name of the decision. It is required.")] = (
        ""
    )

    def named(self) -> str:
        """The decision. Raises ``BusError`` VALIDATION_ERROR without one."""
        if not self.decision:
            message = "`decision` is missing."
            raise BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "decision", "message": message}])
        return self.decision


class DecideParameters(DecisionParameters):
    """Parameters of ``decide``."""

    answer: Annotated[Choice | None, Meta(description="Your answer. It is required.")] = None
    args: Annotated[Object | None, Meta(description="With `edit`: the arguments as you want them.")] = None
    comment: Annotated[
        str, Meta(max_length=LONGEST_COMMENT, description="Your words. With `respond` they are the answer.")
    ] = ""


@command(
    "decide",
    DecideParameters,
    shapes.Decision,
    errors=(ErrorCode.DECISION_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.DECISION_ENDED, ErrorCode.REVOKED),
    cost=LOOK,
)
async def decide(context: Context, parameters: DecideParameters) -> Answer:
    """Decide a question of somebody else. This needs the right `decide` there. The first answer counts."""
    named, answer = parameters.named(), parameters.answer
    if answer is None:
        message = "`answer` is missing."
        raise BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "answer", "message": message}])
    decided: shapes.Decision = await context.process.decide(
        lambda: service.decide(
            named, answer, args=parameters.args, comment=parameters.comment, actor=context.actor, door=DOOR
        )
    )
    return Answer(f"{decided.decision} is {decided.state}", decided)


class AwaitParameters(DecisionParameters):
    """Parameters of ``await_decision``."""

    wait: Annotated[float, Meta(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the end.")] = 0.0


@command(
    "await_decision",
    AwaitParameters,
    shapes.Decision,
    errors=(ErrorCode.DECISION_NOT_FOUND, ErrorCode.RESTARTING),
    beside=True,
    looks=True,
)
async def await_decision(context: Context, parameters: AwaitParameters) -> Answer:
    """Return a decision once it has ended, or as it is when the time to wait is over."""
    found: shapes.Decision = await context.process.await_decision(parameters.named(), parameters.wait)
    return Answer(f"{found.decision} is {found.state}", found)


class ConsumeParameters(DecisionParameters):
    """Parameters of ``consume_decision``."""


@command(
    "consume_decision",
    ConsumeParameters,
    shapes.Decision,
    errors=(ErrorCode.DECISION_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.ALREADY_USED),
)
async def consume_decision(context: Context, parameters: ConsumeParameters) -> Answer:
    """Use the answer of your decision, once. Do so before the action."""
    named = parameters.named()
    used: shapes.Decision = await context.process.decide(
        lambda: service.consume_decision(named, actor=context.actor, door=DOOR)
    )
    return Answer(f"{used.decision} is used", used)


class CancelParameters(DecisionParameters):
    """Parameters of ``cancel_decision``."""


@command(
    "cancel_decision",
    CancelParameters,
    shapes.Decision,
    errors=(ErrorCode.DECISION_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.DECISION_ENDED),
)
async def cancel_decision(context: Context, parameters: CancelParameters) -> Answer:
    """Withdraw a question: your own, or any one with the right to manage its channel."""
    named = parameters.named()
    ended: shapes.Decision = await context.process.decide(
        lambda: service.cancel_decision(named, actor=context.actor, door=DOOR)
    )
    return Answer(f"{ended.decision} is cancelled", ended)


class DecisionListParameters(Parameters):
    """Parameters of ``list_decisions``."""

    room: Annotated[str | None, Meta(description="Only those of a room, or of room:channel.")] = None
    channel: Annotated[str | None, Meta(description="Only those of a channel.")] = None
    state: Annotated[State | None, Meta(description="Only those in this state.")] = None
    mine: Annotated[bool, Meta(description="Only those that you asked for.")] = False
    to_decide: Annotated[bool, Meta(description="Only the pending ones that you may decide.")] = False
    limit: Annotated[int, Meta(ge=1, le=100, description="Maximum number of decisions on the page.")] = 50
    after: Annotated[str, Meta(max_length=400, description="The `next` of the previous page.")] = ""


@command(
    "list_decisions",
    DecisionListParameters,
    shapes.Decisions,
    errors=(ErrorCode.INVALID_NAME,),
    cost=LISTING,
    looks=True,
)
async def list_decisions(context: Context, parameters: DecisionListParameters) -> Answer:
    """List the decisions that you may see, newest first."""
    wanted = decision_lists.Wanted(
        place=_place(context, parameters), state=parameters.state, mine=parameters.mine, to_decide=parameters.to_decide
    )
    rows, after = await context.process.ask(
        lambda: decision_lists.list_decisions(context.actor, wanted, limit=parameters.limit, after=parameters.after)
    )
    return Answer(f"{len(rows)} decisions", shapes.Decisions(decisions=rows, next=after))


def _place(context: Context, parameters: DecisionListParameters) -> Address | None:
    """The channel, or the whole room, that a list is about; None for all. Raises ``BusError`` INVALID_NAME."""
    room, channel = context.named(parameters.room, parameters.channel)
    return resolve(room, channel, context.initial) if room or channel else None
