import pytest

from baken import Baken


@pytest.fixture(scope="session")
def baken(tmp_path_factory):
    server = Baken(tmp_path_factory.mktemp("baken"))
    yield server
    server.stop()
