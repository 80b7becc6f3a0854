"""docs/rest.md tells the truth: its lines are run, in their order, and answer as it says."""

from __future__ import annotations

import re
import subprocess

import pytest

from bus.protocol.errors import ERRORS
from tests.conftest import StartServer
from tests.harness.processes import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "rest.md"

MAKE_USER = """
from django.contrib.auth import get_user_model
from bus.models import AccessToken
user = get_user_model().objects.create_user("reader")
print(AccessToken.issue("for docs", user=user)[1])
"""


def commands() -> list[tuple[str, int]]:
    """Each curl line of the page and the status that stands behind it."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [
        (line.rpartition("#")[0].strip(), int(line.rpartition("#")[2])) for line in lines if line.startswith("curl ")
    ]


@pytest.mark.embedded
@pytest.mark.needs("curl", "bash")
def test_every_line_is_answered_as_the_page_says(start_server: StartServer) -> None:
    server = start_server()
    secrets = {"TOKEN": server.create_token("docs", admin=True)}
    secrets["USER_TOKEN"] = server.manage("shell", "--verbosity", "0", "--command", MAKE_USER).split()[-1]
    found = commands()
    assert len(found) >= 45
    script = [
        f"API={server.http_url}/api/v1",
        'ADMIN="Authorization: Bearer $TOKEN"',
        'USER="Authorization: Bearer $USER_TOKEN"',
        *(f"{line} -s -o /dev/null -w '%{{http_code}}\\n'" for line, _ in found),
    ]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], env={"PATH": "/usr/bin:/bin", **secrets}, capture_output=True, text=True
    )
    told = [int(status) for status in done.stdout.split()]
    assert [(line, status) for (line, _), status in zip(found, told, strict=True)] == found


@pytest.mark.pure
def test_the_table_of_errors_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert {code: int(number) for code, number in rows} == {code: ERRORS[code].number for code, _ in rows}


@pytest.mark.pure
def test_every_error_of_the_document_is_in_the_table() -> None:
    from drf_spectacular.generators import SchemaGenerator

    document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call] # it has no types
    codes = {
        example["value"]["error"]["code"]
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for example in response["content"]["application/json"]["examples"].values()
    }
    assert codes <= set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE))
