"""helm 3 renders the same as helm 4; `make test-helm3` runs it."""

from __future__ import annotations

import yaml
from rendering import example, render


def test_helm_3_renders_the_same_objects(installation: str) -> None:
    ours, theirs = (
        [o for o in yaml.load_all(render(*example(installation), helm=helm), yaml.CSafeLoader) if o]
        for helm in ("helm", "helm3")
    )

    def by_name(found: list[dict[str, object]]) -> dict[str, object]:
        return {f"{o['kind']} {o['metadata']['name']}": o for o in found}  # type: ignore[index]

    assert by_name(theirs) == by_name(ours)
    assert len(theirs) == len(ours)
