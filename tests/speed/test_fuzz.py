"""Strange bytes for the plain C part, with AddressSanitizer and UBSan: briefly here, and long in `make chaos`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bus._speed.sources import HERE
from bus.realtime.frame import masked_frame
from tests.speed.corpus import LEFT, TAKEN

pytestmark = pytest.mark.pure

_SOURCES = [Path(__file__).with_name("fuzz.c"), HERE / "grammar.c", HERE / "websocket.c"]
_FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fno-omit-frame-pointer", f"-I{HERE}"]
_CHECKS = "-fsanitize=address,undefined"
#: Seconds of `make chaos`.
LONG = 300


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, data in enumerate(TAKEN + LEFT):
        (folder / f"{number}").write_bytes(data)
        (folder / f"{number}-masked").write_bytes(masked_frame(data, b"\x01\x82\x03\xff"))
    return folder


def run(*command: object, seconds: int = 100) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.mark.needs("gcc")
def test_no_byte_of_the_corpus_and_around_it_leads_out_of_bounds(corpus: Path, tmp_path: Path) -> None:
    program = tmp_path / "replay"
    run("gcc", "-DALONE", _CHECKS, "-fno-sanitize-recover=undefined", *_FLAGS, *_SOURCES, "-o", program)
    assert run(program, 300, 1, *sorted(corpus.iterdir())).endswith("done\n")


@pytest.mark.chaos
@pytest.mark.needs("clang")
@pytest.mark.timeout(LONG + 120)
def test_a_fuzzer_finds_nothing_in_minutes(corpus: Path, tmp_path: Path) -> None:
    program = tmp_path / "fuzz"
    run("clang", f"{_CHECKS},fuzzer", "-fno-sanitize-recover=undefined", *_FLAGS, *_SOURCES, "-o", program)
    # Longer texts than this only repeat what shorter ones do.
    said = run(
        program, f"-max_total_time={LONG}", "-max_len=4096", f"-artifact_prefix={tmp_path}/", corpus, seconds=LONG + 60
    )
    assert "Done" in said
