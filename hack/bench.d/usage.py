"""CPU time and memory of processes, read from /proc before and after a load."""

import os
import re
import resource
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids):
    """User and system time of processes, in seconds; a process that ended counts nothing."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_mib(pids):
    """Resident memory of processes, in MiB; pages that several share are counted for each."""
    total = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        resident = re.search(r"VmRSS:\s+(\d+)", status)
        total += int(resident[1]) if resident else 0
    return total / 1024


def _machine_busy():
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / TICKS


def _load_generators():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Meter:
    """Measures what a `with` block uses: CPU seconds of the sidecars, and `foreign`, cores busy with other work.

    `foreign` tells a disturbed measurement from a quiet one.
    """

    def __init__(self, sidecars, application):
        self._pids = sidecars, application

    def __enter__(self):
        self._start = self._read()
        return self

    def __exit__(self, *_):
        wall, busy, load, sidecars, application = (now - then for now, then in zip(self._read(), self._start))
        self.sidecars = sidecars
        # A load that failed at once is shorter than the ticks in which /proc counts.
        self.foreign = max(0.0, (busy - load - sidecars - application) / wall) if wall > 0.5 else 0.0

    def _read(self):
        return (time.monotonic(), _machine_busy(), _load_generators(), *map(cpu_seconds, self._pids))
