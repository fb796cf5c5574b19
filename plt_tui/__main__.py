"""`python -m plt_tui` is `plt-tui`."""

from plt_tui.cli.main import main

if __name__ == "__main__":
    main()
