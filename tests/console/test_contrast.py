"""The console's colours can be read: WCAG 2 AA asks for a contrast of 4.5 to 1 between text and what is behind it."""

from __future__ import annotations

import re

import pytest

from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure

STYLES = (PROJECT_ROOT / "bus/static/arqonbus/console/console.css").read_text(encoding="utf-8")
TEXTS = ["text", "dim", "faint", "accent", "good", "warn", "bad", "blue", "teal", "violet", "pink", "lime", "slate"]
SURFACES = ["bg", "side", "panel", "raised", "hover"]


def luminance(colour: str) -> float:
    """WCAG's relative luminance of ``#rrggbb``."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [":root", '[data-theme="light"]'], ids=["dark", "light"])
def test_text_stands_out_from_every_surface(theme: str) -> None:
    block = STYLES.split(theme + " {", 1)[1].split("}", 1)[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    pairs = [(colours[text], colours[surface], text, surface) for text in TEXTS for surface in SURFACES]
    pairs.append((colours.get("on-accent", "#ffffff"), colours["accent-strong"], "on-accent", "accent-strong"))
    faint = {(text, surface): contrast(one, other) for one, other, text, surface in pairs if contrast(one, other) < 4.5}
    assert faint == {}
