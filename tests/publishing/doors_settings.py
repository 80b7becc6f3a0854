"""The ready project with one address more, at which a test runs Django code inside the server (``doors_urls``)."""

from __future__ import annotations

from arqonbus_site.settings import *  # noqa: F403

ROOT_URLCONF = "tests.publishing.doors_urls"
