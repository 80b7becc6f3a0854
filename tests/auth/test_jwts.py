"""The keys for JWT from a JWKS document: by kind, fetched rarely, and never used for another algorithm."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from bus.auth import jwts
from bus.conf import jwt_keys as keys
from tests.conftest import Connect, StartServer
from tests.security.conftest import PRODUCTION
from tests.security.test_identity import claims, confused

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
SECRET = b"0123456789abcdef0123456789abcdef"


def document(*more: dict[str, Any]) -> str:
    """An RSA and an EC key, and what is of no use."""
    rows: list[dict[str, Any]] = [
        {**json.loads(RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "r"},
        {**json.loads(ECAlgorithm.to_jwk(EC.public_key())), "kid": "e", "use": "sig"},
        {"kty": "oct", "kid": "short", "k": "c2hvcnQ"},
        {"kty": "OKP", "kid": "other", "crv": "X25519", "x": "AAAA"},
        {"nonsense": True},
    ]
    return json.dumps({"keys": [*rows, *more]})


@pytest.mark.pure
def test_a_document_gives_each_key_the_algorithm_of_its_kind() -> None:
    assert {kid: key.algorithm for kid, key in keys.keys_of(document()).items()} == {"r": "RS256", "e": "ES256"}
    for bad in ("", "[]", '{"keys": 5}', "{"):
        with pytest.raises(ValueError, match="JWKS"):
            keys.keys_of(bad)


@pytest.mark.pure
def test_a_file_of_keys_verifies_and_nothing_passes_by_another_algorithm(settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(document())
    settings.ARQONBUS = {"jwt_jwks": str(path)}
    body = {"sub": "ada", "exp": time.time() + 60}
    assert jwts.read(jwt.encode(body, RSA, "RS256", headers={"kid": "r"}))["sub"] == "ada"
    assert jwts.read(jwt.encode(body, EC, "ES256", headers={"kid": "e"}))["sub"] == "ada"
    assert jwts.read(jwt.encode(body, EC, "ES256"))["sub"] == "ada"
    bad = [
        jwt.encode(body, EC, "ES256", headers={"kid": "r"}),
        jwt.encode(body, OTHER, "ES256", headers={"kid": "e"}),
        jwt.encode(body, SECRET, "HS256", headers={"kid": "e"}),
        jwt.encode(body, "", "none", headers={"kid": "r"}),
        jwt.encode(body, RSA, "RS512", headers={"kid": "r"}),
        confused(body, document().encode()),
        "a.b.c",
    ]
    for text in bad:
        with pytest.raises(jwts.NotGood):
            jwts.read(text)
    settings.ARQONBUS = {"jwt_jwks": str(path), "jwt_algorithms": ["ES256"]}
    with pytest.raises(jwts.NotGood, match="algorithm"):
        jwts.read(jwt.encode(body, RSA, "RS256", headers={"kid": "r"}))


@pytest.fixture
def issuer() -> Iterator[Any]:
    """A server of keys that counts who asks; `issuer.document` is what it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked += 1
            if self.path.endswith("?moved"):
                self.send_response(302)
                self.send_header("Location", made.url)
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(made.document.encode())

        def log_message(self, *_: Any) -> None:
            pass

    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.document = 0, document()
    made.url = f"http://127.0.0.1:{made.server_address[1]}/jwks.json"
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.pure
def test_unknown_key_ids_do_not_make_a_flood_of_fetches(settings: Any, issuer: Any, monkeypatch: Any) -> None:
    settings.ARQONBUS = {"jwt_jwks": issuer.url}
    body = {"sub": "ada", "exp": time.time() + 60}
    for number in range(50):
        with pytest.raises(jwts.NotGood):
            jwts.read(jwt.encode(body, OTHER, "ES256", headers={"kid": f"unknown-{number}"}))
    assert issuer.asked == 1
    # A new key of the issuer is found once the pause is over.
    issuer.document = document({**json.loads(ECAlgorithm.to_jwk(OTHER.public_key())), "kid": "new"})
    monkeypatch.setattr(jwts, "FETCH_PAUSE", 0.0)
    assert jwts.read(jwt.encode(body, OTHER, "ES256", headers={"kid": "new"}))["sub"] == "ada"
    # An issuer that is away costs nobody who is known.
    issuer.document = "gone"
    assert jwts.read(jwt.encode(body, RSA, "RS256", headers={"kid": "r"}))["sub"] == "ada"
    with pytest.raises(jwts.NotGood):
        jwts.read(jwt.encode(body, OTHER, "ES256", headers={"kid": "newer"}))
    assert jwts.read(jwt.encode(body, OTHER, "ES256", headers={"kid": "new"}))["sub"] == "ada"


@pytest.mark.embedded
@pytest.mark.pure
def test_keys_come_from_the_address_in_the_settings_and_from_no_other(settings: Any, issuer: Any) -> None:
    settings.ARQONBUS = {"jwt_jwks": f"{issuer.url}?moved"}
    token = jwt.encode({"sub": "ada", "exp": time.time() + 60}, RSA, "RS256", headers={"kid": "r"})
    with pytest.raises(jwts.NotGood):
        jwts.read(token)
    settings.ARQONBUS = {"jwt_jwks": issuer.url}
    assert jwts.read(token)["sub"] == "ada"


async def test_a_jwt_by_jwks_opens_a_socket_with_groups_and_scopes(
    wire: Connect, start_server: StartServer, issuer: Any, fresh_room: str
) -> None:
    server = start_server(
        env={
            **PRODUCTION,
            "ARQONBUS_JWT_JWKS": issuer.url,
            "ARQONBUS_JWT_GROUPS_CLAIM": "roles",
            "ARQONBUS_JWT_SCOPE_CLAIM": "scope",
        }
    )
    text = jwt.encode(claims(scope="join history openid", roles=["lab"]), EC, "ES256", headers={"kid": "e"})
    client = await wire(server, token=text, room=f"{fresh_room}:hall")
    assert client.registered["role"] == "user"
    status, page = server.get("/api/v1/me", {"Authorization": f"Bearer {text}"})
    me = json.loads(page)
    assert (status, me["name"], me["groups"], me["scopes"]) == (200, "ada", ["lab"], ["history", "join"])
    await client.send({"message": "x", "ack": True, "id": "m1"})
    assert (await client.expect(type="error"))["error"]["code"] == "FORBIDDEN"
