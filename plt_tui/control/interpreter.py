"""The command that starts a Python process of this package, so that it runs nothing which lies in the working folder.

Python looks for modules there first when it is started with `-m` or `-c`: a `random.py` among somebody's files would take the
place of the standard one. Starts nothing itself. Invariant: a process looks for modules where the one that starts it does.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from plt_tui.protocol.rank import OURS, SAFE_PATH

_PROGRAM = "import sys; sys.path[0] = {first!r}; import runpy; runpy.run_module({module!r}, None, '__main__', True)"
"""Nothing is imported while the folder still comes first: `sys` is built in."""


def module_command(module: str) -> Sequence[str]:
    """What starts `module` as `python -m` does, but for the place that is searched first."""
    return (sys.executable, "-c", _PROGRAM.format(first=sys.path[0], module=module))


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """While the body runs, what `multiprocessing` starts does not look for its own modules in the working folder.

    Its commands take no other path until they have imported some; so it takes a variable, which a rank removes before any code
    of the user's could inherit it. Python 3.10 does not know it.
    """
    is_set = SAFE_PATH in os.environ
    os.environ.setdefault(SAFE_PATH, OURS)
    try:
        yield
    finally:
        if not is_set:
            del os.environ[SAFE_PATH]
