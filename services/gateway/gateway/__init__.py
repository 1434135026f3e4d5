"""The HTTP surface of the code provider."""
