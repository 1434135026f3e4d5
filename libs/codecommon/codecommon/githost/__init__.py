"""Git hosts: what reconcilers ask of them, and the HTTP stack and the budget that all hosts share.

A host is a package of its own, such as ``github``, and ``registry`` alone knows it. It implements three protocols:
``protocol.GitBackend`` (what can be done there), ``provider.Provider`` (where the host may be, and its credentials) and
``host_api.HostApi`` (what ``http`` and ``budget`` must know of its API). docs/adding-a-host.md goes through them.
"""
