"""Fakes and builders for tests of what stands on codecommon. No service imports this.

A fake counts only while the same contract cases (``tests/contract``) run against it and the real thing. It may import
every package.
"""
