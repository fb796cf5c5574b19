"""The budgets of plt-tui, measured: `python -m benchmarks`. Each module but the shared ones holds one benchmark, `measure`."""
