"""Migrations are never edited once they have landed: databases out there were made by them."""

from __future__ import annotations

import hashlib

import pytest

from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure

#: The beginning of the SHA-256 of each migration, added in the commit that adds the migration.
LANDED = {
    "bus/migrations/0001_initial.py": "a84b7ed4b243c006",
    "bus/migrations/0002_forget_gone_clients.py": "aa68a54dec2d13e7",
    "bus/migrations/0003_keys_bound_to_nothing.py": "2937239d679786e0",
    "bus/migrations/0004_claims_in_order.py": "90483386c808e37e",
    "bus/migrations/0005_audit_principal.py": "b72961d65ca83a47",
    "bus/migrations/0006_help_texts_in_plain_english.py": "a8e60e3c3d1d17f9",
    "bus/migrations/0007_streamed_messages.py": "e6b99c2a373831ce",
    "bus/migrations/0008_durable_agents.py": "6a224c6f84b63357",
    "bus/migrations/0009_handlers_decisions_amendments.py": "ec8742e3c764db5c",
    "bus/migrations/0010_own_retention_indexed.py": "59b7b91975841be1",
}


def test_landed_migrations_are_as_they_landed() -> None:
    found = {
        path.relative_to(PROJECT_ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for app in ("bus", "telemetry")
        for path in sorted((PROJECT_ROOT / app / "migrations").glob("0*.py"))
    }
    assert found == LANDED, "Make a new migration instead of a change of one that landed; a new one is added here."
