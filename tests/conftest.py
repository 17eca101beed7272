"""How tests are spread over processes: a file stays together, and so do all that share the finished smoke study."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        shared = "finished" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("smoke" if shared else item.path.stem))
