"""Access to kcp: credentials, requests, and the endpoints of our APIExport.

Change it when kcp, or the way the hub hands out access to it, changes. It knows objects as plain JSON and no kind's
meaning. It imports ``api`` and ``process``.
"""
