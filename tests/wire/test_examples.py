"""The examples of docs/protocol.md, sent over a real socket; the answers are those of the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from bus.contracts.commands import page
from bus.protocol.errors import CLOSE_CODES, ERRORS
from tests.conftest import Connect
from tests.harness.client import WireClient
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

Name = Callable[[str], str]

PROTOCOL = (PROJECT_ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
ANYTHING = "…"

_STEP = re.compile(
    r"^(?P<who>Ada|Bob|Carol|Eve|Admin) (?:"
    r"(?P<verb>sends|gets):\n\n```json\n(?P<frame>.*?)```"
    r"|connects to the (?P<socket>telemetry) socket\."
    r"|connects(?: to (?P<address>\S+))?\."
    r"|is closed with (?P<code>\d+)\."
    r"|(?P<leaves>leaves)\."
    r"|is (?P<cut>cut off)\."
    r")",
    re.MULTILINE | re.DOTALL,
)


class Step(NamedTuple):
    """One line or block of a conversation."""

    who: str
    what: str
    value: str


def conversations() -> Iterator[Any]:
    """The parts of the page between its marks, each with the heading it stands under."""
    for number, part in enumerate(PROTOCOL.split("<!-- conversation -->")[1:], start=1):
        steps = [
            Step(match["who"], match["verb"] or _what(match), match["frame"] or match["address"] or match["code"] or "")
            for match in _STEP.finditer(part)
        ]
        heading = PROTOCOL[: PROTOCOL.index(part)].rpartition("\n#")[2].partition("\n")[0].strip("# ")
        yield pytest.param(steps, id=f"{number} {heading}")


def _what(match: re.Match[str]) -> str:
    if match["code"]:
        return "is closed"
    if match["socket"]:
        return "connects to telemetry"
    return "leaves" if match["leaves"] else "is cut" if match["cut"] else "connects"


def difference(expected: Any, actual: Any, where: str = "") -> str | None:
    """Where the frame is not as the page says; None when it is."""
    if isinstance(expected, str) and expected.endswith(ANYTHING):
        stem = expected.removesuffix(ANYTHING)
        fits = not stem or (isinstance(actual, str) and actual.startswith(stem))
        return None if fits else f"{where}: {actual!r} does not begin with {stem!r}"
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return f"{where}: {actual!r} is no object"
        shown = {key: value for key, value in expected.items() if key != ANYTHING}
        if missing := shown.keys() - actual.keys():
            return f"{where}: {sorted(missing)} missing in {actual}"
        if ANYTHING not in expected and (more := actual.keys() - shown.keys()):
            return f"{where}: {sorted(more)} not shown on the page"
        found = (difference(value, actual[key], f"{where}.{key}") for key, value in shown.items())
        return next(filter(None, found), None)
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return f"{where}: {actual!r} is not a list of {len(expected)}"
        found = (
            difference(one, other, f"{where}[{n}]") for n, (one, other) in enumerate(zip(expected, actual, strict=True))
        )
        return next(filter(None, found), None)
    return None if type(expected) is type(actual) and expected == actual else f"{where}: {actual!r}, not {expected!r}"


@pytest.mark.parametrize("steps", list(conversations()))
async def test_the_example_is_true(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name, admin_token: str, steps: list[Step]
) -> None:
    people: dict[str, WireClient] = {}
    tokens: dict[str, str] = {}

    def own(text: str, who: str) -> str:
        """The text with this test's room and client ids in the place of the page's."""
        text = re.sub(r"\blab\b", fresh_room, text)
        text = re.sub(r'(?<=["+:])(ada|bob|carol|admin)(?=")', lambda match: name(match[0]), text)
        text = text.replace("RESUME_TOKEN", tokens.get(f"{who} token", ""))
        text = text.replace("YOUR_CLAIM", tokens.get(f"{who} claim", ""))
        text = text.replace("YOUR_DECISION", tokens.get("decision", ""))
        return text.replace("EPOCH", tokens.get(f"{who} epoch", ""))

    assert steps
    for who, what, value in steps:
        if what == "connects" and value:
            credentials = {"token": admin_token} if who == "Admin" else {}
            address = own(value, who)
            client = await wire(shared_server, client_id=name(who.lower()), room=address, **credentials)
            people[who] = client
            tokens[f"{who} token"] = client.registered["resume_token"]
            tokens[f"{who} epoch"] = client.registered["channels"][address]["epoch"]
        elif what == "connects to telemetry":
            people[who] = await wire(shared_server.telemetry_url, register=False)
        elif what == "connects":
            people[who] = await wire(shared_server, register=False)
        elif what == "sends":
            await people[who].send(own(value, who))
        elif what == "leaves":
            await people[who].close()
        elif what == "is cut":
            await people[who].cut()
        elif what == "is closed":
            assert await people[who].wait_closed() == int(value)
        else:
            got = await _gets(people[who], json.loads(own(value, who)))
            for claimed in (got.get("result") or {}).get("claims", []):
                tokens[f"{who} claim"] = claimed["claim"]
            if (named := (got.get("result") or {}).get("decision")) is not None:
                tokens["decision"] = named


async def _gets(client: WireClient, expected: dict[str, Any]) -> dict[str, Any]:
    problems: list[str] = []

    def fits(frame: dict[str, Any]) -> bool:
        problem = difference(expected, frame)
        if problem is not None:
            problems.append(problem)
        return problem is None

    try:
        return await client.expect(predicate=fits)
    except AssertionError as error:
        raise AssertionError(
            f"nothing like {json.dumps(expected)} came. {error}. " + "; ".join(problems[-5:])
        ) from None


@pytest.mark.pure
def test_every_block_of_json_is_part_of_an_example() -> None:
    shown = PROTOCOL.count("```json")
    assert shown == sum(1 for match in _STEP.finditer(PROTOCOL) if match["frame"])
    assert shown > 50


@pytest.mark.pure
def test_the_tables_of_errors_and_close_codes_are_those_of_the_code() -> None:
    for code, kind in ERRORS.items():
        assert f"| `{code}` | {kind.number} | {kind.text} |" in PROTOCOL
    for number, close in CLOSE_CODES.items():
        assert f"| {number} | {close.meaning} | {'yes' if close.reconnect else 'no'} |" in PROTOCOL


@pytest.mark.pure
def test_the_page_of_the_commands_is_made_from_the_registry() -> None:
    written = (PROJECT_ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == page(), "manage.py command_reference --output docs/commands.md"
