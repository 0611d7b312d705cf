"""The run from end to end: arguments, tools, rounds, report."""

import argparse
import datetime
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import alone
import planes
import report
import tools
from load import FULL, QUICK, Load, LoadFailed
from pods import NotReady, Pods, prepare

MAXIMUM_ROUNDS = 50


def arguments():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="hack/bench", description=(
        "Measures Pinnace's pair of sidecars beside Envoy's. Needs root, for network namespaces of its own."))
    parser.add_argument("--rounds", type=int, default=7, help="times that every data plane is measured (7)")
    parser.add_argument("--planes", default=",".join(planes.COMPARED), help=(
        f"some of {','.join(planes.EVERY)} ({','.join(planes.COMPARED)})"))
    parser.add_argument("--quick", action="store_true", help="loads of a second or two, to try the harness")
    parser.add_argument("--out", type=Path, help=(
        "folder for benchmarks.json and benchmarks.md (docs, if every data plane of the ratios is measured in full;"
        " else nothing is written)"))
    asked = parser.parse_args()
    asked.planes = asked.planes.split(",")
    if unknown := [name for name in asked.planes if name not in planes.EVERY]:
        parser.error(f"--planes: {','.join(unknown)}: not one of {','.join(planes.EVERY)}")
    if not 1 <= asked.rounds <= MAXIMUM_ROUNDS:
        parser.error(f"--rounds: {asked.rounds}: not between 1 and {MAXIMUM_ROUNDS}")
    if asked.out is None and not asked.quick and set(planes.COMPARED) <= set(asked.planes):
        asked.out = tools.REPOSITORY / "docs"
    return asked


def main():
    """Runs the benchmark; the status is 1 if any load failed."""
    asked = arguments()
    lock = alone.begin("hack/bench")
    chosen = [planes.EVERY[name] for name in asked.planes]
    seconds = QUICK if asked.quick else FULL
    try:
        binaries, oha = _tools(chosen)
        print(f"{asked.rounds} rounds of {len(chosen)} data planes, about"
              f" {asked.rounds * len(chosen) * seconds.total() / 60:.0f} minutes", flush=True)
        with tempfile.TemporaryDirectory(prefix=alone.PREFIX) as folder:
            print(folder, file=lock, flush=True)
            samples = _rounds(chosen, asked.rounds, Path(folder), binaries, oha, seconds)
    except KeyboardInterrupt:
        print("interrupted; the namespaces and their processes are gone", flush=True)
        return 130
    found = report.ratios(samples)
    date, machine = datetime.datetime.now(datetime.UTC).date().isoformat(), _machine()
    text = report.tables(samples, found, date, machine, asked.rounds)
    print(f"\n{text}")
    if asked.out:
        report.write(asked.out, found, text, date, machine, asked.rounds)
        print(f"written to {asked.out}/benchmarks.json and {asked.out}/benchmarks.md")
    return 1 if any(sample["failures"] for sample in samples) else 0


def _tools(chosen):
    tools.packages([plane.name for plane in chosen])
    needs = {need for plane in chosen for need in plane.needs}
    binaries = {}
    if "envoy" in needs:
        binaries["envoy"] = tools.envoy()
    if "pinnace" in needs:
        binaries |= tools.pinnace()
    return binaries, tools.oha()


def _rounds(chosen, rounds, folder, binaries, oha, seconds):
    samples = []
    with open(tools.cache() / "bench-samples.jsonl", "w") as out:
        copies = prepare(folder, binaries)
        for number in range(1, rounds + 1):
            for plane in chosen if number % 2 else reversed(chosen):
                sample = {"round": number, "plane": plane.name, **_measure(plane, folder, copies, oha, seconds)}
                samples.append(sample)
                out.write(json.dumps(sample) + "\n")
                out.flush()
                figures = " ".join(f"{key}={value:.4g}" for key, value in sample["metrics"].items())
                print(f"{time.strftime('%T')} round {number} {plane.name}: {figures} foreign={sample['foreign']:.2f}",
                      *sample["failures"], sep="\n  failed: ", flush=True)
    return samples


def _measure(plane, folder, binaries, oha, seconds):
    """Every load against one data plane in pods of its own; a load that fails leaves its metrics out."""
    metrics, failures, foreign = {}, [], 0.0
    expected = (LoadFailed, NotReady, subprocess.SubprocessError, ValueError, KeyError)
    try:
        with Pods(folder, binaries) as pods:
            load = Load(pods, oha, seconds)
            for side in ("server", "client"):
                plane.start(pods, side)
            load.wait_until_ready()
            load.check_sidecars()
            load.check_wire(plane.encrypted)
            if hasattr(plane, "check"):
                plane.check(pods)
            for name in plane.loads:
                try:
                    metrics |= getattr(load, name)()
                except expected as error:
                    failures.append(f"{name}: {error}")
            load.check_sidecars()
            foreign = load.foreign
    except expected as error:
        failures.append(str(error))
    return {"metrics": metrics, "foreign": round(foreign, 2), "failures": failures}


def _machine():
    """The machine as a reader needs it: processor, cores, memory, kernel; no names."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 1024**2
    kernel = re.match(r"[\d.]+", os.uname().release)[0].rstrip(".")
    return f"{model[1] if model else os.uname().machine}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {kernel}"
