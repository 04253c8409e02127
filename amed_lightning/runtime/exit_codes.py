"""What a command's exit code says."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes that mean the same for every verb; the last two are for whoever started the job."""

    done = 0
    failed = 1
    bad_input = 2
    undecided = 3
    """Of a night: a figure could not be compared."""
    requeue = 85
    """Stopped on USR1 with everything saved: start the same command again."""
    interrupted = 130
    """Stopped on Ctrl-C with everything saved: starting again goes on."""
    terminated = 143
    """Stopped on TERM or HUP with everything saved: starting again goes on, and nobody has asked for it."""
