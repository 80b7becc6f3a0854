"""`python -m tests.hosts.site.drive PORT`: check, migrate, make two users with tokens, and serve, all in one process.

What the test has to know is written to `facts.json` in the project's folder before the server starts.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.hosts.site import PASSWORD

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.hosts.site.settings"


def _import_server(kind: str) -> None:
    """As its command does, before the application is made."""
    if kind == "daphne":
        import daphne.cli  # noqa: F401
    elif kind == "uvicorn":
        import uvicorn.main  # noqa: F401


def _make_users() -> dict[str, str]:
    """An admin and somebody else, and what the one logs in with."""
    from django.contrib.auth import get_user_model

    users = get_user_model()
    fields = {field.name for field in users._meta.get_fields()}
    made: dict[str, Any] = {}
    for who in ("root", "ada"):
        name = f"{who}@example.com" if users.USERNAME_FIELD == "email" else who
        user = users(**{users.USERNAME_FIELD: name})
        user.set_password(PASSWORD)
        for field in {"is_staff", "is_superuser", "is_admin"} & fields:
            setattr(user, field, who == "root")
        user.save()
        made[who] = name
        made[f"{who}_name"] = f"user-{user.pk}"
    return made


def _copy_to_replica(folder: Path) -> None:
    """The copy, where there is one, learns what there is now, and nothing afterwards."""
    from django.conf import settings
    from django.db import connections

    connections.close_all()
    if "replica" in settings.DATABASES:
        shutil.copy(folder / "default.sqlite3", folder / "replica.sqlite3")


def main() -> None:
    """Do it all."""
    from tests.hosts.site.settings import CHOICE, STATE

    kind, port = CHOICE.get("server", "daphne"), sys.argv[1]
    _import_server(kind)
    import django

    django.setup()
    from django.conf import settings
    from django.core.checks import run_checks
    from django.core.management import call_command

    # Before the application is made: WhiteNoise looks for files once.
    if settings.STORAGES["staticfiles"]["BACKEND"].endswith("ManifestStaticFilesStorage"):
        call_command("collectstatic", interactive=False, verbosity=0)
    found = [f"{message.id}: {message.msg}" for message in run_checks()]
    call_command("migrate", run_syncdb=True, verbosity=0)
    facts: dict[str, Any] = {"checks": found, **_make_users()}
    _copy_to_replica(STATE)
    for who in ("root", "ada"):
        said = io.StringIO()
        extra = ["--admin"] if who == "root" else []
        call_command("create_token", "probe", "--user", facts[who], *extra, stdout=said)
        facts[f"{who}_token"] = said.getvalue().split()[-1]
    _copy_to_replica(STATE)
    (STATE / "facts.json").write_text(json.dumps(facts))
    root_path = "/app" if CHOICE.get("prefix") == "script" else ""
    application = settings.ASGI_APPLICATION.replace(".application", ":application")
    if kind == "daphne":
        from daphne.cli import CommandLineInterface

        arguments = ["-b", "127.0.0.1", "-p", port, application]
        CommandLineInterface().run([*(["--root-path", root_path] if root_path else []), *arguments])
    elif kind == "uvicorn":
        import uvicorn

        uvicorn.run(application, host="127.0.0.1", port=int(port), root_path=root_path, log_level="warning")
    else:
        call_command("runbus", host="127.0.0.1", port=int(port), telemetry_port=0)


if __name__ == "__main__":
    main()
