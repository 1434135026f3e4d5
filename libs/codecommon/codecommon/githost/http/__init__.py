"""The one way out to git hosts: proxies, TLS, timeouts, conditional requests, a circuit breaker, traces and metrics.

It knows requests and answers. What it must know of a host's API it asks of ``HostApi``.
"""
