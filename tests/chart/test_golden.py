"""The installations of README, as helm renders them. After a wanted change: CODE_UPDATE_GOLDEN=1 pytest tests/chart."""

from __future__ import annotations

import os
from pathlib import Path

from rendering import EXAMPLES, example, render

GOLDEN = Path(__file__).parent / "golden"


def test_an_installation_is_rendered_as_before(installation: str) -> None:
    rendered = render(*example(installation))
    golden = GOLDEN / f"{installation}.yaml"
    if os.environ.get("CODE_UPDATE_GOLDEN"):
        golden.write_text(rendered)

    assert rendered == golden.read_text()


def test_every_installation_has_a_rendering_and_no_rendering_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(EXAMPLES)


def test_the_values_of_the_go_provider_give_what_the_defaults_give() -> None:
    assert render(*example("go-provider")) == render(*example("minimal"))
