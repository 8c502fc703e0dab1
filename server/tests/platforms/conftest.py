"""Fixtures: a server, a customer's certificates, and free ports."""

import pathlib
import socket
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "clients"))

from authority import Authority  # noqa: E402
from baken import Baken  # noqa: E402
from machine import OWN_MACHINE  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--outage-s", type=float, default=20,
                     help="how long platforms are down in the test of an outage")


@pytest.fixture
def baken(tmp_path):
    folder = tmp_path / "baken"
    folder.mkdir()
    server = Baken(folder, OWN_MACHINE)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def authority():
    return Authority("test authority")


@pytest.fixture
def free_port():
    def find():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return listener.getsockname()[1]
    return find
