"""What ends ``code-provider init``."""


class InitError(Exception):
    """The message is one line that says what could not be done and why; it is all that a person gets to see."""


class NotPermitted(InitError):
    """kcp says that the provider may not do it."""
