"""Views show local wall-clock times; tests see them in one time zone. Being here also puts `fakes` on the import path."""

import os
import time
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()
