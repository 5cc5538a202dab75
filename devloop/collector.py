"""Python's garbage collector, kept away from what is imported: modules live to the end.

To look through them again and again took a fifth of the processor time of `devloop status`.
"""

from __future__ import annotations

import gc


def pause() -> None:
    """Until `resume` nothing is collected: what is made meanwhile is there to stay."""
    gc.disable()


def resume() -> None:
    """Collect again, of what is made from now on. Where nothing was paused, nothing changes: what is there
    then may be garbage."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
