"""Transfers from a server on this machine that misbehaves in every way that was thought of."""

import hashlib
import re
import shutil
import socket
import time
from contextlib import suppress
from itertools import repeat

import pytest

from amed_lightning.runtime import download as module
from amed_lightning.runtime.download import RemoteFile, TransferError, download

from .server import CONTENT, ETAG, cut_after, serve, status, whole

DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
SLEEP = time.sleep


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """No pause between attempts, and the list of those that were made."""
    made = []
    monkeypatch.setattr(module.time, "sleep", made.append)
    return made


@pytest.fixture
def part(tmp_path):
    return tmp_path / "weights.pkl.part"


def transfer(site, part, sha256=DIGEST, size=None):
    download(site.address, RemoteFile("weights.pkl", (site.address,), sha256, size), part)


def refusal(site, part, **facts):
    with pytest.raises(TransferError) as caught:
        transfer(site, part, **facts)
    return str(caught.value)


class TestWhole:
    def test_a_file_arrives_in_one_request(self, part, pauses):
        with serve(whole()) as site:
            transfer(site, part)
        assert part.read_bytes() == CONTENT
        assert [request.range for request in site.requests] == [None]
        assert pauses == []

    def test_nothing_but_the_file_is_left(self, part):
        with serve(whole()) as site:
            transfer(site, part)
        assert list(part.parent.iterdir()) == [part]

    def test_progress_is_told_in_megabytes(self, part, capsys):
        with serve(whole()) as site:
            transfer(site, part)
        assert "fetch weights.pkl: 3/3 MB" in capsys.readouterr().err


class TestContinuing:
    def test_what_is_here_is_not_asked_for_again(self, part):
        part.write_bytes(CONTENT[:HALF])
        with serve(whole()) as site:
            transfer(site, part)
        assert part.read_bytes() == CONTENT
        assert [request.range for request in site.requests] == [f"bytes={HALF}-"]

    def test_a_cut_transfer_goes_on_at_once_where_it_stopped(self, part, pauses):
        with serve(cut_after(1000), cut_after(5000), whole()) as site:
            transfer(site, part)
        assert part.read_bytes() == CONTENT
        assert [request.range for request in site.requests] == [None, "bytes=1000-", "bytes=6000-"]
        assert pauses == [module.PAUSES[0]] * 2

    def test_a_server_that_knows_no_ranges_sends_all_of_it(self, part):
        part.write_bytes(b"x" * HALF)
        with serve(whole(ranges=False)) as site:
            transfer(site, part)
        assert part.read_bytes() == CONTENT

    def test_a_part_that_is_already_all_of_it_stays(self, part):
        part.write_bytes(CONTENT)
        with serve(whole()) as site:
            transfer(site, part)
        assert part.read_bytes() == CONTENT
        assert len(site.requests) == 1

    def test_a_part_that_is_longer_than_the_file_begins_anew(self, part):
        part.write_bytes(CONTENT + b"more")
        with serve(whole()) as site:
            transfer(site, part)
        assert part.read_bytes() == CONTENT

    def test_a_rest_that_begins_elsewhere_is_refused(self, part):
        def elsewhere(handler):
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}")
            handler.end_headers()

        part.write_bytes(CONTENT[:HALF])
        with serve(elsewhere) as site:
            assert f"asked for the bytes from {HALF} and sent bytes 7-" in refusal(site, part)


class TestContinuingWithoutADigest:
    def test_the_server_must_still_have_the_same_file(self, part):
        with serve(cut_after(1000), whole()) as site:
            transfer(site, part, sha256=None)
        assert part.read_bytes() == CONTENT
        assert [(request.range, request.if_range) for request in site.requests] == [
            (None, None),
            ("bytes=1000-", ETAG),
        ]

    def test_another_file_is_taken_from_its_start(self, part):
        other = CONTENT[::-1]
        with serve(cut_after(1000), whole(other, etag='"second edition"')) as site:
            transfer(site, part, sha256=None)
        assert part.read_bytes() == other

    @pytest.mark.parametrize("etag", [None, 'W/"about the same"'], ids=["none", "weak"])
    def test_a_server_without_a_name_for_the_file_sends_it_anew(self, part, etag):
        with serve(cut_after(1000, etag=etag), whole(etag=etag)) as site:
            transfer(site, part, sha256=None)
        assert part.read_bytes() == CONTENT
        assert site.requests[1].range is None


class TestAskingAgain:
    @pytest.mark.parametrize("code", [503, 429])
    def test_a_busy_server_is_asked_again(self, part, pauses, code):
        with serve(status(code), status(code), whole()) as site:
            transfer(site, part)
        assert part.read_bytes() == CONTENT
        assert pauses == list(module.PAUSES[:2])

    def test_a_server_that_stays_busy_is_given_up(self, part, pauses):
        with serve(status(503)) as site:
            assert "HTTP 503" in refusal(site, part)
        assert len(site.requests) == 1 + len(module.PAUSES)
        assert pauses == list(module.PAUSES)

    @pytest.mark.parametrize("code", [404, 403, 410])
    def test_a_file_that_is_not_there_is_asked_for_once(self, part, code):
        with serve(status(code)) as site:
            assert f"HTTP {code}" in refusal(site, part)
        assert len(site.requests) == 1

    def test_a_transfer_that_never_gets_further_is_given_up(self, part):
        with serve(cut_after(0)) as site:
            assert f"it ended after 0 of {len(CONTENT)} bytes" in refusal(site, part)
        assert len(site.requests) == 1 + len(module.PAUSES)

    def test_silence_is_a_failure(self, part, monkeypatch):
        monkeypatch.setattr(module, "SECONDS_OF_SILENCE", 0.05)
        monkeypatch.setattr(module, "PAUSES", ())
        with serve(lambda handler: keep_waiting(0.3)) as site:
            assert "the connection broke (timed out)" in refusal(site, part)


def keep_waiting(seconds):
    """Wait; the module's own sleep is recorded instead."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class TestOutOfReach:
    def test_a_host_that_refuses_is_given_up_at_once(self, part, pauses):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{unused.getsockname()[1]}/weights.pkl"
            with pytest.raises(TransferError, match="the host cannot be reached"):
                download(address, RemoteFile("weights.pkl", (address,)), part)
        assert pauses == []

    def test_a_name_that_nobody_has_is_given_up_at_once(self, part, pauses):
        began = time.monotonic()
        with pytest.raises(TransferError, match="the host cannot be reached"):
            download("http://nobody.invalid/weights.pkl", RemoteFile("weights.pkl", ()), part)
        assert time.monotonic() - began < 10
        assert pauses == []

    def test_a_host_that_vanishes_after_it_has_given_something_is_asked_again(self, part, monkeypatch):
        with serve(cut_after(1000), whole()) as site:
            happenings = iter([site.stop, site.start])
            monkeypatch.setattr(module.time, "sleep", lambda _: next(happenings)())
            transfer(site, part)
        assert part.read_bytes() == CONTENT
        assert [request.range for request in site.requests] == [None, "bytes=1000-"]


class TestImplausible:
    def test_a_web_page_is_no_file(self, part):
        with serve(whole(b"<html>log in</html>", kind="text/html; charset=utf-8")) as site:
            assert refusal(site, part) == "it answered with a web page"
        assert not part.exists()

    def test_a_file_of_another_size_is_refused_before_it_comes(self, part):
        with serve(whole()) as site:
            assert refusal(site, part, size=17) == f"it has {len(CONTENT)} bytes, not 17"
        assert not part.exists()

    def test_a_file_that_the_disk_does_not_hold_is_refused_before_it_comes(self, part, monkeypatch):
        part.write_bytes(CONTENT[:HALF])
        missing = len(CONTENT) - HALF
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, missing - 1))
        with serve(whole()) as site:
            assert f"it needs {missing} bytes more" in refusal(site, part)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, missing))
        with serve(whole()) as site:
            transfer(site, part)


class Slowly:
    """A byte now and then, for two seconds."""

    def __iter__(self):
        for _ in range(400):
            SLEEP(0.005)
            yield b"x"


class TestHostile:
    """A server that would never end."""

    def sending(self, head, blocks):
        """Answer with this head, and then with blocks until nobody listens."""

        def answer(handler):
            handler.close_connection = True
            with suppress(OSError):
                handler.wfile.write(head)
                for block in blocks:
                    handler.wfile.write(block)
                    handler.wfile.flush()

        return answer

    def endless(self):
        return self.sending(b"HTTP/1.1 200 OK\r\n\r\n", repeat(bytes(module.BLOCK)))

    def test_what_has_no_end_ends_at_the_known_size(self, part):
        with serve(self.endless()) as site:
            assert refusal(site, part, size=len(CONTENT)) == f"it sends more than {len(CONTENT)} bytes"
        assert not part.exists()

    def test_what_has_no_end_and_no_size_ends_too(self, part, monkeypatch):
        monkeypatch.setattr(module, "MOST_UNTOLD", 1000)
        with serve(self.endless()) as site:
            assert refusal(site, part) == "it sends more than 1000 bytes"

    def test_a_size_that_is_known_must_be_reached(self, part):
        short = self.sending(b"HTTP/1.1 200 OK\r\n\r\n", [CONTENT[:-1]])
        with serve(short) as site:
            assert (
                refusal(site, part, size=len(CONTENT)) == f"it ended after {len(CONTENT) - 1} of {len(CONTENT)} bytes"
            )

    def test_next_to_nothing_is_nothing(self, part, pauses, monkeypatch):
        monkeypatch.setattr(module, "SECONDS_OF_LITTLE", 0.05)
        with serve(self.sending(b"HTTP/1.1 200 OK\r\n\r\n", Slowly())) as site:
            assert re.fullmatch(r"it sent \d+ bytes in \d+ seconds", refusal(site, part))
        assert pauses == list(module.PAUSES)

    def test_a_head_that_comes_byte_by_byte_is_not_waited_for(self, part, monkeypatch):
        monkeypatch.setattr(module, "SECONDS_OF_ANSWERING", 0.1)
        with serve(self.sending(b"HTTP/1.1 200 OK\r\nA: ", Slowly())) as site:
            assert "the connection broke" in refusal(site, part)

    def test_a_file_that_is_begun_again_and_again_is_given_up(self, part, pauses):
        with serve(*[cut_after(100), status(416)] * 20) as site:
            refusal(site, part)
        assert len(site.requests) == len(module.PAUSES) + 1

    @pytest.mark.parametrize("length", [b"many", b"-5", b"1e3"])
    def test_a_length_that_is_no_number_is_refused(self, part, length):
        with serve(self.sending(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n", [CONTENT])) as site:
            assert refusal(site, part) == f"it says that it has {length.decode()!r} bytes"
