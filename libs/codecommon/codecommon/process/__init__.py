"""What every process has, whatever it does: settings, logs, telemetry, health, an orderly end, and redaction of secrets.

Change it when all services shall behave differently as processes. It knows no kind, no message and no git host. It
imports ``api`` only for how durations and times are written.
"""
