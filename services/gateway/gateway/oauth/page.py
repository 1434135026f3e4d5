"""The page at the end of the popup: it posts the result to the portal that opened it, and closes."""

from __future__ import annotations

import html
import json
import secrets
from collections.abc import Mapping
from typing import Final

from fastapi.responses import HTMLResponse

MESSAGE_TYPE: Final = "kedge-github-oauth"

_DONE: Final = "Connected with GitHub. You can close this window."
_UNHEARD: Final = (
    "The page that began this sign-in is gone, so nothing is connected. Close this window and begin again."
)
_CLOSE_MILLISECONDS: Final = 600
_CLOSE_AFTER_ERROR_MILLISECONDS: Final = 4000
# JSON may hold what ends a script, or begins a comment in one. Within JSON these can only be in strings.
_IN_A_SCRIPT: Final = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&'"})

_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Connect with GitHub</title></head>
<body>
<p>{text}</p>
<script nonce="{nonce}">
// The address holds a code that was used by now.
history.replaceState(null, "", location.pathname);
if (window.opener) {{
  window.opener.postMessage({message}, {origin});
  setTimeout(() => window.close(), {milliseconds});
}} else document.querySelector("p").textContent = {unheard};
</script>
</body>
</html>
"""

NEVER_STORED: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def script_literal(value: object) -> str:
    """``value`` as an expression in a script of a page, whatever its strings hold."""
    return json.dumps(value, ensure_ascii=True).translate(_IN_A_SCRIPT)


def result_page(message: Mapping[str, str], origin: str) -> HTMLResponse:
    """``message``: what the portal gets. ``origin``: the portal's; the browser drops the message for a page of any other."""
    error = message["error"]
    nonce = secrets.token_urlsafe(16)
    body = _PAGE.format(
        text=html.escape(error or _DONE),
        nonce=nonce,
        message=script_literal(dict(message)),
        origin=script_literal(origin),
        unheard=script_literal(error or _UNHEARD),
        milliseconds=_CLOSE_AFTER_ERROR_MILLISECONDS if error else _CLOSE_MILLISECONDS,
    )
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(
        body, headers={**NEVER_STORED, "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    )
