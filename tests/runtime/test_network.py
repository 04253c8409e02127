"""Where the network is forbidden, no library reaches another machine, and this one is still itself."""

import os
import socket

import pytest

from amed_lightning.config import InputError
from amed_lightning.runtime.network import is_offline, keep_offline, offline

ELSEWHERE = ("192.0.2.1", 80)


@pytest.fixture(autouse=True)
def _allowed(monkeypatch):
    monkeypatch.setenv("AMED_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


@pytest.fixture
def forbidden():
    with offline():
        keep_offline()
        yield


class TestForbidden:
    @pytest.mark.parametrize("ask", [socket.getaddrinfo, socket.gethostbyname], ids=lambda ask: ask.__name__)
    def test_no_name_is_looked_up(self, forbidden, ask):
        with pytest.raises(InputError, match=r"example\.invalid would be asked, and AMED_OFFLINE forbids the network"):
            ask("example.invalid", *([80] if ask is socket.getaddrinfo else []))

    def test_no_machine_is_reached(self, forbidden):
        with socket.socket() as plain, pytest.raises(InputError, match=r"192\.0\.2\.1 would be asked"):
            plain.connect(ELSEWHERE)
        with socket.socket(type=socket.SOCK_DGRAM) as plain, pytest.raises(InputError, match=r"192\.0\.2\.1"):
            plain.sendto(b"", ELSEWHERE)

    def test_this_machine_is_reached(self, forbidden):
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            pass
        assert socket.getaddrinfo("localhost", 80)
        with pytest.raises(OSError, match="No such file"), socket.socket(socket.AF_UNIX) as local:
            local.connect("/nonexistent/socket")

    def test_the_hub_is_told(self, forbidden):
        assert os.environ["HF_HUB_OFFLINE"] == "1"

    def test_it_ends_with_the_wish(self):
        with offline():
            keep_offline()
            assert is_offline()
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("127.0.0.1", "no such service")
        assert socket.getaddrinfo("192.0.2.1", 80)
