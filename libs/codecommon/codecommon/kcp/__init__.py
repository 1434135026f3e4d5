"""Access to kcp: identities and their credentials, requests, and the endpoints of our APIExport.

Change it when kcp changes, or the way in which the hub gives access to it. It knows objects as plain JSON and the meaning of no
kind. It imports ``api`` and ``process``.
"""
