"""The identity of a client for each kind of credentials, over a real socket."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.conftest import Connect, StartServer
from tests.harness.client import WireError
from tests.harness.server import BusServer
from tests.security.conftest import PRODUCTION, Console
from tests.security.test_attacks import bearer, rest

# Credentials are looked at alike whatever the database.
pytestmark = pytest.mark.embedded

SECRET = "a-shared-secret-of-more-than-thirty-two-bytes"


async def refusal(wire: Connect, server: BusServer, **options: Any) -> tuple[str, str, int]:
    """Code and text of the error frame of a refused handshake, and the close code after it."""
    client = await wire(server, register=False, **options)
    error = (await client.expect(type="error"))["error"]
    return error["code"], error["message"], await client.wait_closed()


@pytest.mark.parametrize("way", ["header", "sub-protocol", "first frame"])
async def test_a_token_is_taken_from_header_sub_protocol_and_first_frame(
    wire: Connect, public_server: BusServer, console: Console, way: str
) -> None:
    token = console.token(f"way {way}", admin=True)
    ways: dict[str, dict[str, Any]] = {
        "header": {"headers": {"Authorization": f"Bearer {token}"}},
        "sub-protocol": {"subprotocols": ["arqonbus.v1", f"bearer.{token}"]},
        "first frame": {"token": token},
    }
    options = ways[way]
    client = await wire(public_server, **options)
    assert client.registered["role"] == "admin"
    if way == "sub-protocol":
        assert client.socket.subprotocol == "arqonbus.v1"


async def test_a_first_frame_of_nothing_but_a_token_is_a_registration(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    client = await wire(public_server, register=False)
    await client.send({"token": console.token("alone", admin=True)})
    assert (await client.expect(event="registered"))["payload"]["role"] == "admin"


async def test_every_bad_credential_is_refused_with_one_and_the_same_text(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    console.user("sleeper")
    bad = {
        "unknown": "arq_tok_" + "x" * 43,
        "revoked": console.token("revoked"),
        "expired": console.token("expired"),
        "of an inactive user": console.token("inactive", user="sleeper"),
        "garbage": "%00' OR 1=1 --",
        "a JWT where none is taken": jwt.encode({"sub": "x", "exp": time.time() + 60}, SECRET, "HS256"),
        "a forged ticket": "arq_tkt_eyJ4IjoxfQ.c2lnbmF0dXJl",
    }
    console.run("AccessToken.objects.filter(name='revoked').update(revoked_at=timezone.now())")
    console.run("AccessToken.objects.filter(name='expired').update(expires_at=timezone.now() - timedelta(seconds=1))")
    console.run("User.objects.filter(username='sleeper').update(is_active=False)")
    seen = set()
    for token in bad.values():
        seen.add(await refusal(wire, public_server, headers={"Authorization": f"Bearer {token}"}))
        with pytest.raises(WireError) as refused:
            await wire(public_server, token=token)
        assert refused.value.code == "UNAUTHENTICATED"
    assert seen == {("UNAUTHENTICATED", "The credentials are not valid.", 4401)}
    log = public_server.log()
    assert not [token for token in bad.values() if token in log]


async def test_a_token_in_the_url_is_refused_and_not_logged(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    token = console.token("in url")
    code, text, close = await refusal(wire, f"{public_server.url}?token={token}")  # type: ignore[arg-type]
    assert (code, close) == ("UNAUTHENTICATED", 4401)
    assert "URL" in text
    assert token not in public_server.log()


async def test_a_session_cookie_identifies_a_page_of_this_site(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    console.user("cookie")
    cookie = {"Cookie": f"sessionid={console.session('cookie')}"}
    client = await wire(public_server, headers=cookie, origin=public_server.http_url, client_id="cookie-1")
    assert client.registered["role"] == "user"
    assert console.run("result = Client.objects.get(client_id='cookie-1').principal").startswith("user:")


async def test_a_ticket_opens_one_socket_and_no_second_one(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    console.user("visitor")
    make = """
        from bus.auth import identity, tickets
        result = tickets.issue(identity.from_user(User.objects.get(username="visitor"))).text
        """
    ways: list[Callable[[str], dict[str, Any]]] = [
        lambda ticket: {"subprotocols": ["arqonbus.v1", f"ticket.{ticket}"]},
        lambda ticket: {"ticket": ticket},
        lambda ticket: {"url": f"{public_server.url}?ticket={ticket}"},
    ]
    for way in ways:
        ticket = console.run(make)
        options = way(ticket)
        url = options.pop("url", public_server.url)
        client = await wire(url, origin="https://elsewhere.example", **options)
        assert client.registered["role"] == "user"
        again = await refusal(wire, public_server, subprotocols=["arqonbus.v1", f"ticket.{ticket}"])
        assert again == ("UNAUTHENTICATED", "The credentials are not valid.", 4401)


async def test_a_ticket_of_an_ended_session_is_good_for_nothing(
    wire: Connect, public_server: BusServer, console: Console
) -> None:
    console.user("leaver")
    key = console.session("leaver")
    ticket = console.run(
        f"""
        from bus.auth import identity, tickets
        result = tickets.issue(identity.from_session({key!r})).text
        from django.contrib.sessions.models import Session
        Session.objects.get(session_key={key!r}).delete()
        """
    )
    assert (await refusal(wire, public_server, subprotocols=[f"ticket.{ticket}"]))[2] == 4401


async def test_unidentified_clients_are_refused_with_a_reason_where_the_setting_says_so(
    wire: Connect, start_server: StartServer
) -> None:
    server = start_server(env={**PRODUCTION, "ARQONBUS_ANONYMOUS": "0"})
    client = await wire(server, register=False)
    await client.expect(event="welcome")
    await client.send({"client_id": "stranger"})
    assert (await client.expect(type="error"))["error"]["code"] == "UNAUTHENTICATED"
    assert await client.wait_closed() == 4401
    token = server.create_token("somebody")
    assert (await wire(server, token=token)).registered["role"] == "user"


# --- JWT ------------------------------------------------------------------------------------------------------------


RSA_KEY = rsa.generate_private_key(65537, 2048)
RSA_PEM = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def claims(**more: Any) -> dict[str, Any]:
    """Those of a good JWT."""
    return {"sub": "ada", "exp": int(time.time()) + 300, "aud": "bus", "iss": "https://id.example", **more}


@pytest.fixture
def jwt_server(start_server: StartServer) -> BusServer:
    """A server that takes RS256 of one key."""
    return start_server(
        env={
            **PRODUCTION,
            "ARQONBUS_JWT_KEY": RSA_PEM.decode(),
            "ARQONBUS_JWT_AUDIENCE": "bus",
            "ARQONBUS_JWT_ISSUER": "https://id.example",
            "ARQONBUS_JWT_LEEWAY": "0",
            "ARQONBUS_JWT_ADMIN_CLAIM": "bus_admin",
        }
    )


async def test_a_jwt_names_its_subject_and_a_bad_one_nobody(wire: Connect, jwt_server: BusServer) -> None:
    good = await wire(jwt_server, token=jwt.encode(claims(), RSA_KEY, "RS256"), client_id="ada-1")
    assert good.registered["role"] == "user"
    admin = await wire(jwt_server, token=jwt.encode(claims(sub="eve", bus_admin=True), RSA_KEY, "RS256"))
    assert admin.registered["role"] == "admin"
    without_exp = claims()
    del without_exp["exp"]
    without_sub = claims()
    del without_sub["sub"]
    bad = {
        "expired": jwt.encode(claims(exp=int(time.time()) - 5), RSA_KEY, "RS256"),
        "no exp": jwt.encode(without_exp, RSA_KEY, "RS256"),
        "no sub": jwt.encode(without_sub, RSA_KEY, "RS256"),
        "other audience": jwt.encode(claims(aud="shop"), RSA_KEY, "RS256"),
        "other issuer": jwt.encode(claims(iss="https://evil.example"), RSA_KEY, "RS256"),
        "not yet": jwt.encode(claims(nbf=int(time.time()) + 500), RSA_KEY, "RS256"),
        "another key": jwt.encode(claims(), rsa.generate_private_key(65537, 2048), "RS256"),
        "another kind of key": jwt.encode(claims(), EC_KEY, "ES256"),
        "alg none": unsigned(claims()),
        "key confusion": confused(claims(), RSA_PEM),
        "cut": jwt.encode(claims(), RSA_KEY, "RS256")[:-4],
        "long": jwt.encode(claims(pad="x" * 9000), RSA_KEY, "RS256"),
    }
    for name, token in bad.items():
        answer = await refusal(wire, jwt_server, headers={"Authorization": f"Bearer {token}"})
        assert answer == ("UNAUTHENTICATED", "The credentials are not valid.", 4401), name
    log = jwt_server.log()
    assert not [token for token in bad.values() if token in log]


def unsigned(body: dict[str, Any]) -> str:
    """A JWT of `alg: none`."""
    return jwt.encode(body, "", "none")


def confused(body: dict[str, Any], public_key: bytes) -> str:
    """A JWT that is signed by HMAC with the text of the public key as the secret, made by hand: PyJWT refuses to."""
    import base64
    import hashlib
    import hmac
    import json

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(body).encode())
    return (head + b"." + part(hmac.new(public_key, head, hashlib.sha256).digest())).decode()


def made_by_hand(header: str, payload: str) -> str:
    """A JWT of any texts, rightly signed with :data:`RSA_KEY`: what a careless issuer, or before the check anybody, writes."""
    parts = [base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode() for text in (header, payload)]
    signature = RSA_KEY.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


async def test_a_jwt_made_to_break_its_reader_is_a_bad_one(wire: Connect, jwt_server: BusServer) -> None:
    """Its header is read before its signature is checked, so it is anybody's text."""
    head = '{"alg":"RS256","typ":"JWT"}'
    rows = json.dumps(claims())[1:-1]
    body = "{" + rows + "}"

    def with_claim(name: str, text: str) -> str:
        return made_by_hand(head, "{" + rows + f',"{name}":{text}' + "}")

    exp = int(time.time()) + 300
    times = [
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-5",
        "0",
        "null",
        "true",
        '"soon"',
        "[]",
        "{}",
        "9" * 400,
        "1e300",
        "1e17",
    ]
    bad = {
        "deep header": made_by_hand('{"alg":"RS256","a":' + "[" * 2500 + "]" * 2500 + "}", body),
        "deep payload": with_claim("a", "[" * 2000 + "]" * 2000),
        "header is a list": made_by_hand("[]", body),
        "header is a text": made_by_hand('"x"', body),
        "payload is a list": made_by_hand(head, "[]"),
        "payload is a number": made_by_hand(head, "5"),
        "payload is no JSON": made_by_hand(head, "\x00\xff"),
        "alg is a list": made_by_hand('{"alg":["RS256"]}', body),
        "kid is an object": made_by_hand('{"alg":"RS256","kid":{}}', body),
        "crit": made_by_hand('{"alg":"RS256","crit":["exp"],"exp":1}', body),
        "crit is no list": made_by_hand('{"alg":"RS256","crit":5}', body),
        "b64": made_by_hand('{"alg":"RS256","b64":false,"crit":["b64"]}', body),
        "duplicate alg": made_by_hand('{"alg":"RS256","alg":"none"}', body),
        "a second exp in the past": with_claim("exp", "5"),
        "no parts": "..",
        "empty parts": "e30.e30.",
        "not base64": "\u00e4.\u00e4.\u00e4",
        **{f"exp {text[:9]}": with_claim("exp", text) for text in times},
        **{f"nbf {text[:9]}": with_claim("nbf", text) for text in times if text[0] not in "-0nt"},
        **{f"sub {text[:9]}": with_claim("sub", text)
           for text in ("null", "5", "[]", '""', r'"a\u0000"', r'"\ud800"', r'"a\n"', r'"\u202e"')},
    }  # fmt: skip
    for name, token in bad.items():
        if not token.isascii():
            with pytest.raises(WireError) as refused:
                await wire(jwt_server, token=token)
            assert refused.value.code == "UNAUTHENTICATED"
        else:
            answer = await refusal(wire, jwt_server, headers=bearer(token))
            assert answer == ("UNAUTHENTICATED", "The credentials are not valid.", 4401), name
            with rest(jwt_server, **bearer(token)) as caller:
                assert caller.get("me").status_code == 401, name
    # A header that names a key of its own is read with ours, or not at all.
    foreign = rsa.generate_private_key(65537, 2048)
    own_key = {
        "jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(foreign.public_key())),
        "jku": "http://127.0.0.1:1/",
        "x5u": "x",
    }
    answer = await refusal(wire, jwt_server, headers=bearer(jwt.encode(claims(), foreign, "RS256", headers=own_key)))
    assert answer[0] == "UNAUTHENTICATED"
    good = await wire(jwt_server, token=jwt.encode(claims(exp=exp), RSA_KEY, "RS256", headers=own_key))
    assert good.registered["role"] == "user"
    log = jwt_server.log()
    assert "Traceback" not in log
    assert "internal_error" not in log


async def test_a_jwt_cannot_pass_for_another_principal(wire: Connect, jwt_server: BusServer) -> None:
    """Whatever its subject is called: a user, the server, the digest of a longer one."""
    long = "a" * 101
    digest = hashlib.sha256(long.encode()).hexdigest()
    owner = await wire(jwt_server, token=jwt.encode(claims(sub=long), RSA_KEY, "RS256"), client_id="long-one")
    for sub in (
        digest,
        f"{long[:40]}~{digest}"[:100],
        "a" * 100,
        "system",
        "user:1",
        "token:1",
        "user/x",
        "arqonbus_server",
    ):
        with pytest.raises(WireError) as refused:
            await wire(jwt_server, token=jwt.encode(claims(sub=sub), RSA_KEY, "RS256"), client_id=owner.client_id)
        assert refused.value.code == "CLIENT_ID_IN_USE", sub
        with rest(jwt_server, **bearer(jwt.encode(claims(sub=sub), RSA_KEY, "RS256"))) as caller:
            me = caller.get("me").json()
        assert (me["role"], me["user"]) == ("user", f"jwt:{sub}"), sub
    very_long = jwt.encode(claims(sub="x" * 4000), RSA_KEY, "RS256")
    assert (await wire(jwt_server, token=very_long, client_id="x-1")).registered["role"] == "user"
    # It is told apart by what stands behind its beginning, too.
    with pytest.raises(WireError):
        await wire(jwt_server, token=jwt.encode(claims(sub="x" * 4001), RSA_KEY, "RS256"), client_id="x-1")
    # Over REST one speaks by the name: the server's is not to be had.
    with rest(jwt_server, **bearer(jwt.encode(claims(sub="arqonbus_server"), RSA_KEY, "RS256"))) as caller:
        spoken = caller.post("channels/science:general/messages", json={"message": "it was the server"})
    assert spoken.status_code == 201
    reader = await wire(jwt_server)
    history = await reader.request("history", room="science", channel="general")
    assert history["messages"][-1]["from"] not in ("arqonbus_server", "")


async def test_a_connection_ends_when_its_jwt_does(wire: Connect, jwt_server: BusServer) -> None:
    client = await wire(jwt_server, token=jwt.encode(claims(exp=int(time.time()) + 2), RSA_KEY, "RS256"))
    error = (await client.expect(type="error"))["error"]
    assert error["code"] == "UNAUTHENTICATED"
    assert "expired" in error["message"]
    assert await client.wait_closed() == 4401
