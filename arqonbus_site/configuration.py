"""Makes docs/configuration.md: ``python -m arqonbus_site.configuration > docs/configuration.md``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from arqonbus_site.environment import Site
from bus.conf.parsing import Field, fields_of
from bus.conf.table import PARTS, Config

_HEAD = """\
<!-- Made by `python -m arqonbus_site.configuration`; a test keeps it true. Do not edit it by hand. -->
# Configuration

Everything is set by environment variables. With none of them set ArqonBus runs in development mode; production is `DEBUG=0`
with `SECRET_KEY` and `ALLOWED_HOSTS`, and `DATABASE_URL` and `REDIS_URL` for more than one process.

- A value of the wrong form is refused at start, in one line that names the variable.
- `NAME_FILE` gives a file that holds the value of `NAME`, for secrets that are mounted as files.
- Yes and no are `1` and `0` (also `true`, `yes`, `on`, `false`, `no`, `off`); lists have commas between their items.
- `manage.py check` warns of combinations that work but should not be used as they are, `manage.py check --deploy` of more.
- A Django project that includes the app `bus` sets the same values in `settings.ARQONBUS`, in lower case and without the
  prefix: `ARQONBUS = {"rate_limit": 50}`.

## The site
"""


def page() -> str:
    """The whole document."""
    lines = [_HEAD, *_rows(list(fields_of(Site).values()), "")]
    rows = list(fields_of(Config).values())
    names = [row.name for row in rows]
    starts = [(names.index(first), title) for first, title in PARTS.items()]
    for (start, title), (end, _) in zip(starts, [*starts[1:], (len(rows), "")], strict=True):
        lines += ["", f"## {title}", "", *_rows(rows[start:end], "ARQONBUS_")]
    return "\n".join(lines) + "\n"


def _rows(fields: Sequence[Field], prefix: str) -> Iterator[str]:
    yield "| variable | type | default | unit | meaning |"
    yield "|---|---|---|---|---|"
    for field in fields:
        meaning = field.meaning.replace("|", "\\|")
        shown = f"`{_shown(field.default)}`" if _shown(field.default) else ""
        yield f"| `{prefix}{field.name.upper()}` | {field.type_name} | {shown} | {field.unit} | {meaning} |"


def _shown(default: Any) -> str:
    if default is None:
        return ""
    if isinstance(default, bool):
        return "1" if default else "0"
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, float) and default == int(default):
        return str(int(default))
    return str(default)


if __name__ == "__main__":
    print(page(), end="")
