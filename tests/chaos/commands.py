"""Real commands in forks of this process, which has imported everything once, on one or two ranks.

The second rank is a child of the first one. The processes find each other as those do that torchrun has started.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from amed_lightning.cli.main import main
from amed_lightning.runtime import signals

SECONDS_TO_END = 60.0
"""A rank that is alone ends within a minute."""
SECONDS_BETWEEN_LOOKS = 0.02
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of processes whose parent was killed, so that they can be waited for."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


@dataclass
class Command:
    """A command that runs in a folder.

    Attributes:
        folder: where to.
        arguments: of the command.
        ranks: processes.
        log: the file in that folder that they print to.
        codes: that they ended with, by rank.
    """

    folder: Path
    arguments: Sequence[str]
    ranks: int
    log: str = "log.txt"
    codes: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.output = self.folder / self.log
        self.began = self.output.stat().st_size if self.output.exists() else 0
        ours, theirs = os.pipe()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        if not (first := os.fork()):
            pids = [os.getpid()]
            rank = 0
            for other in range(1, self.ranks):
                if not (child := os.fork()):
                    rank = other
                    break
                pids.append(child)
            if rank == 0:
                os.write(theirs, " ".join(map(str, pids)).encode())
            os.close(theirs)
            os._exit(self._work(rank, port))
        os.close(theirs)
        with open(ours) as told:
            self.pids = [int(pid) for pid in told.read().split()]
        assert self.pids[0] == first

    def _work(self, rank: int, port: int) -> int:
        """Be a rank, and return its exit code."""
        signals._parent = os.getppid()
        signals._IGNORED.clear()  # whoever started this may ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.ranks > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
            os.environ |= {"WORLD_SIZE": str(self.ranks), "LOCAL_WORLD_SIZE": str(self.ranks)}
            os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "chaos"}
        os.chdir(self.folder)
        output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["amed-lightning", *self.arguments]
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        with contextlib.suppress(ValueError, OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        return code

    @property
    def said(self) -> str:
        """What its processes have printed."""
        with self.output.open() as file:
            file.seek(self.began)
            return file.read()

    def send(self, number: int, ranks: Sequence[int]) -> None:
        """Send a signal to some of its processes."""
        for rank in ranks:
            if rank not in self.codes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pids[rank], number)

    def has_ended(self, rank: int) -> bool:
        """Whether a process has ended; the code of one whose parent has stopped is known once that is gone."""
        self.is_over()
        status = Path(f"/proc/{self.pids[rank]}/stat")
        return rank in self.codes or status.read_text().rpartition(")")[2].split()[0] == "Z"

    def is_over(self) -> bool:
        """Whether all its processes have ended."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.codes:
                with contextlib.suppress(ChildProcessError):  # still the first rank's own child
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        self.codes[rank] = os.waitstatus_to_exitcode(status)
        return len(self.codes) == self.ranks

    def wait(self, seconds: float) -> bool:
        """Wait for their end, at most so long; return whether they have ended."""
        until = time.monotonic() + seconds
        while not self.is_over():
            if time.monotonic() > until:
                return False
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return True

    def end(self) -> None:
        """Kill what is left."""
        self.send(signal.SIGKILL, range(self.ranks))
        self.wait(SECONDS_TO_END)
