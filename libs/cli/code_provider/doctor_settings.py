"""What ``code-provider doctor`` reads: every setting of every process."""

from __future__ import annotations

from code_provider.init_settings import InitSettings
from codecommon.controller.settings import ReconcilerSettings
from gateway.settings import GatewaySettings


class DoctorSettings(GatewaySettings, ReconcilerSettings, InitSettings):
    """The settings of init, of the reconcilers and of the gateway."""
