"""What every process has: settings, logs, telemetry, health, an orderly end, retry delays, and redaction of secrets.

Change it when all services should behave differently as processes. It knows no kind, no message and no git host. From ``api`` it
imports only the format of durations and times.
"""
