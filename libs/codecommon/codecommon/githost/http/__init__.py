"""The one way out to git hosts: proxy, TLS, timeouts, conditional requests, a breaker for hosts that fail, spans and
counts.

It knows requests and answers, and no host's API.
"""
