"""The code-provider command: init and serve."""
