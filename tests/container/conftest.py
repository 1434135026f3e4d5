"""One engine and one set of images for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine import Engine, build_images, missing, networking, provide_base_images, running_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    why_not = missing()
    if why_not is not None:
        pytest.skip(why_not)
    before = networking()
    with running_engine() as running:
        provide_base_images(running)
        build_images(running)
        yield running
    assert networking() == before, "the engine has changed the host's networking"
