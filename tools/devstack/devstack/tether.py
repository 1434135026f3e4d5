"""Runs a command that ends with its parent: ``python -I -S tether.py <parent pid> <signal> <command> …``.

The parent-death signal of Linux is set in a small program of its own and kept across ``exec``, instead of in a hook
between fork and exec of the parent: that hook is not safe once the parent has threads. Elsewhere than on Linux the
command simply runs, and only an orderly stop ends it.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, death_signal, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the signal was set
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
