"""One engine for all tests here. All run twice, with the images of either builder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine import Engine, build_images, missing, networking, provide_base_images, running_engine

WHY_NOT = missing()
"""Why there can be no engine; None if there can."""

BUILDERS = ["docker-compose", "Compose v2 and BuildKit"] if WHY_NOT is None else ["no engine"]


@pytest.fixture(scope="session")
def bare_engine() -> Iterator[Engine | None]:
    """The engine with the images to build from; None where there can be no engine."""
    if WHY_NOT is not None:
        yield None
        return
    before = networking()
    with running_engine() as running:
        provide_base_images(running)
        yield running
    assert networking() == before, "the engine has changed the host's networking"


@pytest.fixture(scope="session", params=BUILDERS)
def engine_or_none(bare_engine: Engine | None, request: pytest.FixtureRequest) -> Engine | None:
    """The engine with all images. Those of the second run replace those of the first, by the same names."""
    if bare_engine is None:
        return None
    engine = bare_engine if request.param == "docker-compose" else bare_engine.with_buildkit()
    build_images(engine)
    return engine


@pytest.fixture
def engine(engine_or_none: Engine | None) -> Engine:
    if WHY_NOT is not None:
        pytest.skip(WHY_NOT)
    assert engine_or_none is not None
    return engine_or_none
