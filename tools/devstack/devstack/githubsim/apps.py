"""Who signed an App's JWT."""

from __future__ import annotations

from typing import Any

import jwt

from devstack.githubsim.records import App
from devstack.githubsim.world import World

LONGEST_LIFE = 600
"""Seconds that `exp` may lie ahead."""


def client_id(app_id: int) -> str:
    """The other name of an App, by which its JWTs may name it."""
    return f"Iv23li{app_id:014d}"


def signer(world: World, token: str, now: float) -> App | None:
    """The App that signed it, by RS256 and its own key; None if the signature, `iss`, `iat` or `exp` is not right."""
    try:
        issuer: Any = jwt.decode(token, options={"verify_signature": False}).get("iss")
        app = next((app for app in world.apps.values() if str(issuer) in (str(app.id), client_id(app.id))), None)
        if app is None:
            return None
        # Times are held against the simulator's clock, which a test may move.
        options: Any = {"require": ["iat", "exp", "iss"], "verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, app.public_key, algorithms=["RS256"], options=options)
        in_time = claims["iat"] <= now < claims["exp"] <= now + LONGEST_LIFE
    except (jwt.InvalidTokenError, TypeError, ValueError):
        return None
    return app if in_time else None
