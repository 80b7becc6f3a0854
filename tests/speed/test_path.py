"""Which path runs, and why: the extension is refused politely where it cannot work."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig

import pytest

from bus import _speed
from bus._speed import build
from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure

_BUILT = pytest.mark.skipif(_speed.core is None, reason="the extension was not built")
_IN_ANOTHER_INTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
run = getattr(interpreters, "exec", None) or interpreters.run_string
run(interpreters.create(), "from bus import _speed; print(_speed.path(), flush=True)")
"""


def said(program: str, **env: str) -> str:
    clean = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT_ROOT), **env}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@_BUILT
def test_the_switch_turns_it_off() -> None:
    program = "from bus import _speed; print(_speed.path())"
    assert said(program) == "compiled"
    assert said(program, ARQONBUS_COMPILED="0") == "python (ARQONBUS_COMPILED switches it off)"


@_BUILT
def test_a_second_interpreter_works_without_it() -> None:
    assert said(_IN_ANOTHER_INTERPRETER).startswith("python (")


def test_a_python_without_the_lock_works_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: 1 if name == "Py_GIL_DISABLED" else None)
    monkeypatch.delenv(_speed.SWITCH, raising=False)
    assert _speed._load() == (None, "this Python has no global interpreter lock")
    assert build.missing() == "this Python has no global interpreter lock"


@_BUILT
def test_one_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_speed, "digest", lambda: "0" * 16)
    assert _speed._load() == (None, "it was built from other sources")


def test_without_a_compiler_the_build_says_so_and_fails_only_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for arguments, code in (["build"], 0), (["build", "--required"], 1):
        monkeypatch.setattr(sys, "argv", arguments)
        assert build.main() == code
        assert "there is no C compiler. The bus works without it." in capsys.readouterr().out
