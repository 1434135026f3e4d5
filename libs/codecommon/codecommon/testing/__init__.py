"""Fakes and builders for tests of what stands on codecommon. No service imports this."""
