"""A page of a list that costs the database too much ends with one clear error, as the command of a socket does."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django.fixtures import Settings

from bus.models import Room
from bus.services import questions, rooms
from tests.node.test_threads import ENDLESS, asked


@pytest.mark.django_db(transaction=True)
def test_a_page_of_a_list_is_bounded_and_the_next_one_is_answered(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.ARQONBUS = {"anonymous": True}
    Room.objects.get_or_create(name="costly")
    client, endless = Client(), {"on": True}
    page = rooms.page

    def slow(*args: Any, **kwargs: Any) -> Any:
        if endless["on"]:
            asked(ENDLESS[connection.vendor])
        return page(*args, **kwargs)

    monkeypatch.setattr(rooms, "page", slow)
    monkeypatch.setattr(questions, "LONGEST_QUESTION", 0.2)
    answer = client.get("/api/v1/rooms")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert "more than 0.2 seconds" in answer.json()["error"]["message"]
    endless["on"] = False
    monkeypatch.setattr(questions, "LONGEST_QUESTION", 10.0)
    assert client.get("/api/v1/rooms").status_code == 200
