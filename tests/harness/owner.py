"""Owners of streams: who opens a message that grows, and says it part by part.

`Owner` lives in the test and comes back after every fault; `RestOwner` does the same by HTTP. As a program
(`python -m tests.harness.owner CONFIG`) an owner is a process that can be frozen and killed: see `main`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed

from tests.harness.backends import clean_environment
from tests.harness.client import WireClient, WireError
from tests.harness.growing import Watch
from tests.harness.member import AGAIN, Member
from tests.harness.processes import ManagedProcess
from tests.harness.server import BusServer

#: What a careful owner answers by asking how much is kept.
_ASK = AGAIN | {"STREAM_GAP"}

#: Bits of text that are easy to break: escapes, several bytes, two UTF-16 units, line ends, none at all.
_WORDS = (
    "tok ",
    "Grüße ",
    "\U0001f600 ",
    'a "quote" ',
    "back\\slash ",
    "two\nlines ",
    "tab\t",
    "</script>",
    "",
    "\u2028",
)


def piece_of(mode: str, number: int, rng: random.Random) -> Any:
    """One part: a text of a few characters, or an object as frameworks send them."""
    text = f"{number}:{rng.choice(_WORDS)}"
    return text if mode == "text" else {"type": "TEXT_MESSAGE_CONTENT", "delta": text, "number": number}


def pieces_of(mode: str, count: int, seed: int) -> list[Any]:
    """What an owner says, the same for the same seed."""
    rng = random.Random(seed)
    return [piece_of(mode, number, rng) for number in range(1, count + 1)]


def content_of(mode: str, pieces: Sequence[Any]) -> Any:
    """What readers have in the end."""
    return list(pieces) if mode == "parts" else "".join(pieces)


def key_of(mode: str) -> str:
    """The field of an append that carries the part."""
    return "part" if mode == "parts" else "delta"


class Speech:
    """What one owner says, and where. `of` is the id of the opening message."""

    def __init__(self, of: str, address: str, mode: str, pieces: Sequence[Any], *, rate: float) -> None:
        self.of = of
        self.room, _, self.channel = address.partition(":")
        self.mode = mode
        self.pieces = list(pieces)
        self.rate = rate
        """Parts in a second, by the clock: after a fault the owner says at once what is late."""
        self.asked: list[int] = []
        """What the server had, each time the owner asked."""
        self.problems: list[str] = []

    @property
    def content(self) -> Any:
        """What readers have in the end."""
        return content_of(self.mode, self.pieces)

    async def pause(self, began: float, number: int) -> None:
        """Until part `number` is due."""
        await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))

    def compare(self, have: int, readers: Sequence[Watch]) -> None:
        """Seen is kept: note where a reader had more than the server has."""
        self.asked.append(have)
        for watch in readers:
            growth = watch.growths.get(self.of)
            if growth is not None and growth.have > have:
                self.problems.append(f"{self.of}: {watch.name} has read {growth.have} parts, the server has {have}")


class Owner:
    """An owner on a socket, which comes back and goes on whatever happens."""

    def __init__(self, member: Member, speech: Speech, *, readers: Sequence[Watch] = (), ack_every: int = 10) -> None:
        self.member = member
        self.speech = speech
        self.readers = readers
        self.ack_every = ack_every

    async def have(self, client: WireClient) -> int:
        """Open the stream, or learn how much of it is kept: the opening is repeatable as any message."""
        speech = self.speech
        ack = await client.publish(
            ack=True,
            message_id=speech.of,
            room=speech.room,
            channel=speech.channel,
            stream={"mode": speech.mode},
            payload={"role": "assistant"},
        )
        assert ack["stream"]["of"] == speech.of
        return int(ack["stream"]["have"])

    async def append(self, client: WireClient, number: int, **fields: Any) -> dict[str, Any]:
        """Say one part. Every `ack_every`-th waits for its ack."""
        speech = self.speech
        part = {key_of(speech.mode): speech.pieces[number - 1]}
        acked = "end" in fields or number % self.ack_every == 0
        return await client.publish(
            type="append", of=speech.of, n=number, ack=acked, message_id=f"{speech.of}.{number}", **part, **fields
        )

    async def run(self) -> dict[str, Any]:
        """Say everything and end; the ack of the end. Raises WireError where trying again would not help."""
        speech, began = self.speech, time.monotonic()
        last = len(speech.pieces)
        while True:
            client = await self.member.connected()
            try:
                sent = await self.have(client)
                speech.compare(sent, self.readers)
                while sent < last - 1:
                    await speech.pause(began, sent + 1)
                    sent += 1
                    await self.append(client, sent)
                return await self.append(client, last, end="complete", payload={"usage": {"out": last}})
            except WireError as error:
                if error.code not in _ASK:
                    raise
                await asyncio.sleep(0.05)
            except (AssertionError, ConnectionClosed):
                await asyncio.sleep(0.02)


class RestOwner:
    """An owner by HTTP. It repeats what was not answered."""

    def __init__(self, server: BusServer, speech: Speech, *, token: str, readers: Sequence[Watch] = ()) -> None:
        self.server = server
        self.speech = speech
        self.readers = readers
        self._http = httpx.AsyncClient(
            base_url=f"{server.http_url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
            trust_env=False,
        )

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request, again and again until it is answered for good. Raises AssertionError for a refusal."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await self._http.post(path, json=body)
                if answer.status_code < 300:
                    done: dict[str, Any] = answer.json()
                    return done
                assert answer.status_code in (429, 502, 503, 504), f"{path}: {answer.status_code} {answer.text[:300]}"
            await asyncio.sleep(0.05)

    async def run(self) -> dict[str, Any]:
        """Say everything and end; the answer to the end."""
        speech, began = self.speech, time.monotonic()
        opening = {"id": speech.of, "stream": {"mode": speech.mode}, "payload": {"role": "assistant"}}
        async with self._http:
            await self.post(f"/channels/{speech.room}:{speech.channel}/messages", opening)
            for number, piece in enumerate(speech.pieces, 1):
                await speech.pause(began, number)
                body = {"n": number, key_of(speech.mode): piece}
                state = await self.post(f"/streams/{speech.of}/append", body)
                speech.compare(state["have"], self.readers)
            return await self.post(f"/streams/{speech.of}/end", {"n": len(speech.pieces), "state": "complete"})


# An owner as a process


class OwnerProcess:
    """An owner that can be frozen and killed; `streams` are `{of, room, channel}`, and `keep` for who adopts them."""

    def __init__(
        self, folder: Path, name: str, url: str, token: str, streams: Sequence[dict[str, Any]], *, opens: bool
    ):
        folder.mkdir(parents=True, exist_ok=True)
        config = {"name": name, "url": url, "token": token, "streams": list(streams), "opens": opens}
        self.name = name
        self.process = ManagedProcess(
            [sys.executable, "-m", "tests.harness.owner", json.dumps(config)],
            log_path=folder / f"{name}.log",
            env=clean_environment(),
        )

    def start(self, deadline: float = 30.0) -> OwnerProcess:
        """Start, and wait until it is registered."""
        self.process.start()
        self.process.wait_for_log('"ready"', deadline=deadline)
        return self

    def adopt(self) -> None:
        """Let it adopt its streams and go on with them."""
        self.process.send_signal(signal.SIGUSR1)

    def end(self) -> None:
        """Let it end those that it still owns."""
        self.process.send_signal(signal.SIGUSR2)

    def events(self, event: str) -> list[dict[str, Any]]:
        """What it said so far: `adopted`, `lost`, `ended`, `failed`."""
        lines = [json.loads(line) for line in self.process.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


class _Program:
    """The life of an owner process: it says `NAME.N ` as part N of each of its streams, as fast as acks come."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.name: str = config["name"]
        self.streams: dict[str, dict[str, Any]] = {stream["of"]: stream for stream in config["streams"]}
        self.config = config
        self.begin, self.ending = asyncio.Event(), asyncio.Event()

    def say(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)

    async def run(self) -> None:
        """Register, wait for the word, own the streams until they are lost or to be ended; then stay."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.begin.set)
        loop.add_signal_handler(signal.SIGUSR2, self.ending.set)
        headers = {"Authorization": f"Bearer {self.config['token']}"}
        client = await WireClient.connect(
            self.config["url"], client_id=self.name, room="lab:door", headers=headers, timeout=30
        )
        self.say("ready")
        if not self.config["opens"]:
            await self.begin.wait()
        await asyncio.gather(*(self.own(client, of, stream) for of, stream in self.streams.items()))
        self.say("done")
        await client.wait_closed(timeout=3600)

    async def own(self, client: WireClient, of: str, stream: dict[str, Any]) -> None:
        """Say parts of one stream until somebody else has it, or it is to be ended."""
        token: dict[str, Any] = {}
        if self.config["opens"]:
            where = {"room": stream["room"], "channel": stream["channel"]}
            await client.publish(ack=True, message_id=of, stream={"mode": "text"}, timeout=60, **where)
            have = 0
        else:
            adopted = await client.request("adopt_stream", of=of, keep=stream.get("keep", True), timeout=60)
            have, token = adopted["have"], {"token": adopted["token"]}
            self.say("adopted", of=of, have=have, attempt=adopted["attempt"])
        try:
            while not self.ending.is_set():
                have += 1
                await client.publish(
                    type="append", of=of, n=have, delta=f"{self.name}.{have} ", ack=True, timeout=60, **token
                )
                await asyncio.sleep(0.01)
            await client.publish(type="append", of=of, n=have, end="complete", ack=True, timeout=60, **token)
            self.say("ended", of=of, n=have)
        except WireError as error:
            self.say("lost" if error.code == "STREAM_LOST" else "failed", of=of, n=have, code=error.code)


def main(read: Callable[[str], Any] = json.loads) -> None:
    """Run one owner: `{name, url, token, streams, opens}`. SIGUSR1: adopt. SIGUSR2: end. It prints one JSON object a line."""
    asyncio.run(_Program(read(sys.argv[1])).run())


if __name__ == "__main__":
    main()
