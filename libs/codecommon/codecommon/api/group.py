"""The API group and its version, as every manifest names them in ``apiVersion``."""

from __future__ import annotations

from typing import Final

GROUP: Final = "code.kedge.faros.sh"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
