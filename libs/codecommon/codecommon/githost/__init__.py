"""Git hosts: the neutral protocol that reconcilers speak, the HTTP stack and the budget that all hosts share.

``protocol`` is the seam: no name of one host's API passes it. ``http`` is the stack of transports, ``budget`` the
limits. Each host is a package of its own; ``github`` is the one we have. It imports ``api``, ``process`` and
``messaging``.
"""
