"""NATS JetStream: the streams and buckets, object events, locks and leases.

Change it when what travels between services changes. It carries events and never looks at a git host. It imports
``api`` and ``process``.
"""
