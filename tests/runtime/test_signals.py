"""Signals raise a flag, and a process stops where it looks at it."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from amed_lightning.runtime import signals
from amed_lightning.runtime.exit_codes import ExitCode
from amed_lightning.runtime.signals import Stopped, asked, listen, listening, stop_if_asked


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


class TestFlag:
    @pytest.fixture(autouse=True)
    def _heard(self, monkeypatch):
        """Whoever runs the tests may ignore some of the signals."""
        monkeypatch.setattr(signals, "_IGNORED", [])

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            ([signal.SIGUSR1], 85),
            ([signal.SIGTERM], 143),
            ([signal.SIGUSR1, signal.SIGTERM], 143),
            ([signal.SIGTERM, signal.SIGUSR1], 143),
            ([signal.SIGINT], 130),
            ([signal.SIGHUP], 143),
            ([signal.SIGUSR1, signal.SIGINT], 130),
        ],
    )
    def test_the_work_stops_with_the_code_of_the_signal_when_it_looks(self, sent, code):
        with listening():
            stop_if_asked()
            send(*sent)
            assert asked() == code
            with pytest.raises(Stopped) as stopped:
                stop_if_asked()
            assert stopped.value.code == code

    def test_afterwards_the_handlers_are_those_from_before_and_the_flag_is_down(self):
        before = signal.getsignal(signal.SIGTERM)
        with listening():
            send(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == before
        assert asked() is None

    def test_handlers_that_a_library_has_replaced_come_back(self):
        with listening():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            listen()
            send(signal.SIGTERM)
            assert asked() == ExitCode.terminated


class TestChild:
    def test_it_stops_when_the_process_that_started_it_is_gone(self, monkeypatch):
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert asked() is None
        monkeypatch.setattr(signals, "_parent", 0)
        assert asked() == ExitCode.terminated
        monkeypatch.setenv("LOCAL_RANK", "0")
        assert asked() is None

    def test_it_ends_with_0_so_that_lightning_does_not_kill_the_parent(self, monkeypatch):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with listening():
            send(signal.SIGUSR1)
            with pytest.raises(Stopped) as stopped:
                stop_if_asked()
        assert stopped.value.code == 0


def test_a_process_ends_with_the_code():
    script = (
        "import os, signal\nfrom amed_lightning.runtime.signals import *\n"
        "with listening():\n    os.kill(os.getpid(), signal.SIGUSR1)\n    stop_if_asked()"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 85


ENDLESS = (
    "import time\nfrom amed_lightning.runtime.signals import *\n"
    "with listening():\n    print('ready', flush=True)\n    while True:\n        time.sleep(0.05)\n"
)


def test_a_second_interrupt_ends_a_process_that_does_not_look():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    with subprocess.Popen([sys.executable, "-c", ENDLESS], **pipes, preexec_fn=heard) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert b"Ctrl-C again stops at once" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == -signal.SIGINT


def test_what_nohup_ignores_stays_ignored():
    script = "import os, signal\nfrom amed_lightning.runtime.signals import *\n"
    script += "with listening():\n    os.kill(os.getpid(), signal.SIGHUP)\n    stop_if_asked()"
    for before, code in ((signal.SIG_IGN, 0), (signal.SIG_DFL, 143)):
        ended = subprocess.run(
            [sys.executable, "-c", script], timeout=60, preexec_fn=partial(signal.signal, signal.SIGHUP, before)
        )
        assert ended.returncode == code
