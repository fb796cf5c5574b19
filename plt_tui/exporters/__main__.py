"""Entry point of `python -m plt_tui.exporters`: gives way to the ranks before anything is imported."""

import os
import sys

NICENESS = 10

if __name__ == "__main__":
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    from plt_tui.exporters.process import main

    sys.exit(main())
