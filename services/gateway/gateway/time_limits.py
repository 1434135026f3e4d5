"""How long a call of a tool may take, in seconds. The hub gives up after 15 s, its own requests included.

None is longer than the one before, so that the inner one answers: it knows better what is done and what is not.
"""

from __future__ import annotations

from typing import Final

CALL: Final = 13.0
"""Any call, also one whose caller has gone. Then its work is ended, and the caller is told what is not known."""
LAST_WRITE: Final = 10.0
"""Until then a call begins another write. What kcp did is told after it."""
WAIT: Final = 10
"""The longest that ``wait_for`` takes, and how long after its begin a call waits for a commit, a checkout or a build status."""
VALIDATION: Final = 8
"""How long ``validate_connection`` waits for its result."""
TURN: Final = 5.0
"""How long a large request waits until others have left the memory that it takes."""
RESULT: Final = 5.0
"""How long after its begin a call waits for what becomes of its writes."""
