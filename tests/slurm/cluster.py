"""A SLURM of two nodes on this one machine, for tests that submit real jobs.

Debian's packages are unpacked below the cluster's folder and laid over ``/usr`` for the cluster alone. The login node
and the two compute nodes are Linux namespaces (network, processes, mounts, host name), joined by a bridge that exists
only inside them: names resolve, addresses differ, a node can crash, and nothing is installed, listens or is left on
this machine. A node lives for as long as a pipe from this process is open, so the cluster cannot outlive it.

By hand, a shell on the login node (SLURM ends with it)::

    python tests/slurm/cluster.py FOLDER [COMMAND ...]
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ADDRESSES = {"login": "10.77.0.1", "n1": "10.77.0.11", "n2": "10.77.0.12"}
NODES = ("n1", "n2")
TOOLS = ("apt-get", "dpkg", "ip", "nsenter", "unshare")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
NAMESPACES = ("--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--net", "--uts")
FIRST_PROCESS = """
set -e
hostname "$0"
mount --bind "$1/hosts" /etc/hosts
mount -t overlay overlay -o "lowerdir=$1/root/usr:/usr" /usr
ip link set lo up
echo ready
read -r _
"""
FOREIGN = ("SLURM", "SBATCH", "SRUN", "SALLOC", "SQUEUE", "SINFO", "SCANCEL", "PYTEST", "COV")
SECONDS_TO_START = 120


class UnavailableError(Exception):
    """SLURM cannot be had here; the message says why."""


class Cluster:
    """Two nodes and a login node, from ``with`` to its end.

    Args:
        folder: of everything the cluster writes; removed by whoever made it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.hosts: dict[str, subprocess.Popen[str]] = {}
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        require_namespaces()
        unpack(self.folder)
        self._configure()
        try:
            self._start_host("login")
            self._inside("login", "ip link add br0 type bridge; ip addr add 10.77.0.1/24 dev br0; ip link set br0 up")
            self._daemon("login", *self._munged())
            wait_until((self.folder / "munge.sock").exists, "munged to start", self.folder)
            self._daemon("login", "slurmctld", "-D")
            for node in NODES:
                self.boot(node)
            self.await_nodes()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self.hosts.values():
            host.kill()
            host.communicate()
        for daemon in self.daemons:
            daemon.wait()

    def run(self, *command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
        """Run a command on the login node and return what it printed.

        Raises:
            CalledProcessError: it failed.
        """
        entered = self._entering("login", ["env", "-C", str(cwd or self.folder), *map(str, command)])
        done = subprocess.run(entered, env=self._environment(variables), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def crash(self, node: str) -> None:
        """Let every process of a node, and its network, be gone at once."""
        self.hosts[node].kill()
        self.hosts.pop(node).communicate()

    def boot(self, node: str) -> None:
        """Start a node."""
        self._start_host(node)
        inside, login = (str(self._first_process(name)) for name in (node, "login"))
        address = f"ip addr add {ADDRESSES[node]}/24 dev eth0; ip link set eth0 up"
        pair = f"nsenter -t {inside} -n ip link add eth0 type veth peer name v{node} netns {login}"
        subprocess.run(pair.split(), check=True)
        self._inside(node, address)
        self._inside("login", f"ip link set v{node} master br0; ip link set v{node} up")
        self._daemon(node, "slurmd", "-D", "-N", node)

    def await_nodes(self) -> None:
        """Wait until both nodes take jobs."""

        def ready() -> bool:
            states = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split()
            return len(states) == len(NODES) and set(states) <= {"idle", "mix", "alloc"}

        wait_until(ready, "both nodes to be idle", self.folder)

    def _configure(self) -> None:
        folder = self.folder
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir(exist_ok=True)
        hosts = {"localhost": "127.0.0.1"} | ADDRESSES
        (folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
        template = Path(__file__).with_name("slurm.conf").read_text()
        (folder / "slurm.conf").write_text(template.replace("FOLDER", str(folder)))
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))

    def _munged(self) -> Sequence[str]:
        # --force: a folder that only its owner can enter is then a warning.
        names = {"key-file": "key", "socket": "munge.sock", "pid-file": "munged.pid", "seed-file": "seed"}
        options = [f"--{option}={self.folder / name}" for option, name in names.items()]
        return ["munged", "--foreground", "--force", f"--log-file={self.folder / 'munged.log'}", *options]

    def _start_host(self, name: str) -> None:
        command = ["unshare", *NAMESPACES, "bash", "-c", FIRST_PROCESS, name, str(self.folder)]
        pipe = subprocess.PIPE
        host = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        self.hosts[name] = host
        assert host.stdout is not None
        if (answer := host.stdout.readline().strip()) != "ready":
            raise UnavailableError(f"no namespaces for a node: {answer}")

    def _first_process(self, name: str) -> int:
        """Return a host's init, as this machine numbers it."""
        pid = self.hosts[name].pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def _entering(self, name: str, command: Sequence[str]) -> list[str]:
        return ["nsenter", "-t", str(self._first_process(name)), "-m", "-u", "-n", "-p", "--", *command]

    def _inside(self, name: str, script: str) -> None:
        subprocess.run(self._entering(name, ["bash", "-ec", script]), check=True)

    def _daemon(self, name: str, *command: str) -> None:
        with (self.folder / f"{command[0]}-{name}.log").open("ab") as log:
            entered = self._entering(name, command)
            self.daemons.append(
                subprocess.Popen(entered, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def _environment(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return this process' environment without what a client of SLURM would obey."""
        plain = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        path = f"{plain['PATH']}:/usr/sbin:/sbin"
        return plain | {"PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")} | dict(variables or {})


def require_namespaces() -> None:
    """Check that this process may make namespaces.

    Raises:
        UnavailableError: it may not, or a tool is missing.
    """
    if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise UnavailableError(f"a SLURM for tests needs {', '.join(lacking)}")
    if os.geteuid() != 0:
        raise UnavailableError("a SLURM for tests needs root, for its nodes are namespaces")
    if subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True).returncode:
        raise UnavailableError(
            "a SLURM for tests needs namespaces, and this machine (a container?) does not allow them"
        )


def unpack(folder: Path) -> None:
    """Download SLURM and what it needs beyond this machine's packages, and unpack it below ``folder``.

    Raises:
        UnavailableError: there is nothing to download it from, or it is installed already.
    """
    root, archives = folder / "root", folder / "archives"
    if (root / "complete").exists():
        return
    archives.mkdir(exist_ok=True)
    apt, names = _plan(folder)
    fetched = subprocess.run([*apt, "download", *names], cwd=archives, capture_output=True, text=True, check=False)
    if fetched.returncode:
        raise UnavailableError(f"SLURM's packages cannot be downloaded: {fetched.stderr.strip()[-200:]}")
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg", "-x", archive, root], check=True)
    for program in ("slurmctld", "slurmd", "slurmstepd"):
        (root / "usr" / "sbin" / program).symlink_to(f"{program}-wlm")
    (root / "complete").touch()


def _plan(folder: Path) -> tuple[list[str], list[str]]:
    """Return how to call apt, with lists of its own where this machine has none, and the packages it would install."""
    plain, own = ["apt-get", "-o", "APT::Sandbox::User=root"], [folder / "lists", folder / "cache"]
    for path in own:
        (path / "partial").mkdir(parents=True, exist_ok=True)
    private = [*plain, "-o", f"Dir::State::Lists={own[0]}", "-o", f"Dir::Cache={own[1]}"]
    complaint = ""
    for apt in (plain, private):
        if apt is private:
            complaint = subprocess.run([*apt, "update"], capture_output=True, text=True, check=False).stderr
        asked = [*apt, "install", "--simulate", "--no-install-recommends", *PACKAGES]
        plan = subprocess.run(asked, capture_output=True, text=True, check=False)
        if names := [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]:
            return apt, names
    raise UnavailableError(f"apt finds no SLURM to unpack: {(complaint or plan.stderr).strip()[-200:]}")


def wait_until(
    holds: Callable[[], bool], what: str, folder: Path, seconds: float = SECONDS_TO_START, pause: float = 0.2
) -> None:
    """Look until something holds.

    Raises:
        TimeoutError: it does not, in that time.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}; see the logs in {folder}")
        time.sleep(pause)


if __name__ == "__main__":
    with Cluster(Path(sys.argv[1])) as cluster:
        command = sys.argv[2:] or [os.environ.get("SHELL", "bash")]
        entered = cluster._entering("login", ["env", "-C", os.getcwd(), *command])
        sys.exit(subprocess.call(entered, env=cluster._environment()))
