"""What projects choose, and an array in which every pair of choices comes together at least once."""

from __future__ import annotations

import itertools

#: What is chosen, and from what. The first of each is what `startproject` and docs/django.md give.
FACTORS: dict[str, tuple[str, ...]] = {
    "server": ("daphne", "uvicorn", "runbus"),
    "prefix": ("bus", "root", "languages", "script"),
    "users": ("django", "email", "plain", "bare"),
    "databases": ("one", "replica", "own"),
    "doors": ("django", "hidden", "sessions", "named"),
    "country": ("american", "german", "nepalese"),
    "transactions": ("views alone", "atomic"),
    "apps": ("all", "few"),
    "odds": ("none", "production", "eccentric"),
}

Choice = dict[str, str]


def possible(choice: Choice) -> bool:
    """Whether a project can be so at all."""
    # Users who cannot be staff do not get into the admin.
    return not (choice.get("users") == "bare" and choice.get("apps") == "all")


def _pairs(choice: Choice) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    return set(itertools.combinations(sorted(choice.items()), 2))


def pairwise() -> list[Choice]:
    """Choices that together hold every possible pair; the same ones each time. The first is the usual project."""
    usual = {factor: values[0] for factor, values in FACTORS.items()}
    missing = {
        pair
        for one, other in itertools.combinations(sorted(FACTORS), 2)
        for pair in itertools.product(
            ((one, value) for value in FACTORS[one]), ((other, value) for value in FACTORS[other])
        )
        if possible(dict(pair))
    } - _pairs(usual)
    found = [usual]
    while missing:
        choice: Choice = dict(min(missing))
        for factor in sorted(FACTORS, key=lambda name: -len(FACTORS[name])):
            if factor not in choice:
                choice[factor] = _most(choice, factor, missing)
        found.append(choice)
        missing -= _pairs(choice)
    return found


def _most(choice: Choice, factor: str, missing: set[tuple[tuple[str, str], tuple[str, str]]]) -> str:
    """The value of a factor that brings the most pairs that are still missing."""
    values = [value for value in FACTORS[factor] if possible({**choice, factor: value})]
    return max(values, key=lambda value: len(_pairs({**choice, factor: value}) & missing))


def name_of(choice: Choice) -> str:
    """What is not usual about it."""
    return ", ".join(value for factor, value in choice.items() if value != FACTORS[factor][0]) or "as documented"
