from collections.abc import Iterator

import pytest

from tests.service.running import Running, running


@pytest.fixture(scope="module")
def toy() -> Iterator[Running]:
    """A service with toy networks and the settings that hold unless told otherwise."""
    with running() as service:
        yield service
