"""What every benchmark begins with: root, one run at a time, an end that cleans up, and enough open files."""

import fcntl
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path

PREFIX = "pinnace-bench-"
"""What the name of a run's folder begins with."""

_LOCK = Path("/run/lock/pinnace-bench.lock")


def begin(program):
    """Ends where the program cannot run now; gives the lock, into which its folder is to be written, and which holds as long
    as it is kept."""
    if os.geteuid() != 0:
        raise SystemExit(f"{program} needs root: it makes network namespaces")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    lock = open(_LOCK, "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit("another benchmark is running: two would measure each other") from None
    _remove_leftover(lock)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20000, hard) if hard > 0 else 20000, hard))
    return lock


def _remove_leftover(lock):
    """Removes the folder that a run wrote into the lock before it was killed."""
    lock.seek(0)
    for line in lock.read().splitlines():
        if Path(line).name.startswith(PREFIX) and Path(line).parent == Path(tempfile.gettempdir()):
            shutil.rmtree(line, ignore_errors=True)
    lock.truncate(0)


def _interrupted(*_):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
