"""One budget per account at a git host, shared by all processes: docs/adr/0006-one-budget-per-account.md.

``gate`` is the layer of the transport. It asks ``accounts`` whose budget a request draws on, ``blocks`` whether the host wants
a pause, and ``shared`` for a place in the account's ``ledger``.
"""
