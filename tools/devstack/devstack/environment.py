"""What child processes inherit of an environment. It leaves out what could change what they do, such as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""They are read in both cases."""

_PASSED_ON: Final = (
    *(
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CODE_LOG_LEVEL",
        "CODE_MAX_IN_FLIGHT",
    ),
    *PROXIES,
)
PASSED_ON_PREFIX: Final = "OTEL_"


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that children get."""
    return {name: value for name, value in environ.items() if name in _PASSED_ON or name.startswith(PASSED_ON_PREFIX)}
