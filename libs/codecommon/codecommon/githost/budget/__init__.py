"""One budget per account at a git host, shared by all processes: docs/adr/0006-one-budget-per-account.md."""
