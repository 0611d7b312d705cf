"""Turns samples into ratios within a round, docs/benchmarks.json and the generated part of docs/benchmarks.md.

A sample is one data plane in one round: {"round", "plane", "metrics": {name: value}, "foreign", "failures": [text]}.
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- figures: written by hack/bench -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Ratio:
    """One name in docs/benchmarks.json: a metric of ours over the same of Envoy's, in the same round."""

    name: str
    metric: str
    mode: str
    text: str
    more_is_better: bool = False
    added: bool = False
    """Whether `direct` of the same round is taken from both first, which leaves what the sidecars add."""

    def of(self, planes):
        """The ratio in one round, given each plane's metrics; None where something was not measured."""
        ours, theirs = (planes.get(f"{who}-{self.mode}", {}).get(self.metric) for who in ("pinnace", "envoy"))
        if ours is None or theirs is None:
            return None
        if self.added:
            base = planes.get("direct", {}).get(self.metric)
            if base is None:
                return None
            ours, theirs = ours - base, theirs - base
        return ours / theirs if theirs > 0 else None


def _mode(mode, memory_prefix):
    return (
        Ratio(f"{mode}_added_p50", "p50", mode, "added p50 at 1,000 requests/s", added=True),
        Ratio(f"{mode}_added_p99", "p99", mode, "added p99 at 1,000 requests/s", added=True),
        Ratio(f"{mode}_p50", "p50", mode, "p50 at 1,000 requests/s"),
        Ratio(f"{mode}_p99", "p99", mode, "p99 at 1,000 requests/s"),
        Ratio(f"{mode}_cpu_1k", "cpu_1k", mode, "CPU per request at 1,000 requests/s"),
        Ratio(f"{mode}_cpu_max", "cpu_max", mode, "CPU per request at maximum"),
        Ratio(f"{mode}_max_rps", "max_rps", mode, "maximum requests/s", more_is_better=True),
        Ratio(f"{mode}_new_connections", "new_connections", mode, "new client connections/s", more_is_better=True),
        Ratio(f"{memory_prefix}memory_idle", "memory_idle", mode, "memory, idle"),
        Ratio(f"{memory_prefix}memory_1000_connections", "memory_1000_connections", mode,
              "memory with 1,000 connections"),
    )


RATIOS = (*_mode("http1", ""), *_mode("tcp", "tcp_"),
          Ratio("tcp_handshakes", "handshakes", "tcp-full", "full handshakes/s", more_is_better=True),
          Ratio("tcp_gbps", "gbps", "tcp", "Gb/s over one connection", more_is_better=True),
          Ratio("grpc_unary", "unary", "http1", "gRPC unary messages/s", more_is_better=True),
          Ratio("grpc_cpu", "cpu_unary", "http1", "CPU per gRPC message at maximum"))

COLUMNS = (("p50", "p50 µs", 0), ("p99", "p99 µs", 0), ("cpu_1k", "CPU s per 10,000 at 1,000/s", 2),
           ("max_rps", "max requests/s", 0), ("cpu_max", "CPU s per 10,000 at max", 2),
           ("new_connections", "new connections/s", 0), ("handshakes", "full handshakes/s", 0),
           ("gbps", "Gb/s", 2), ("unary", "gRPC messages/s", 0), ("memory_idle", "idle MiB", 1),
           ("memory_1000_connections", "MiB with 1,000 connections", 1))


def ratios(samples):
    """Median, lowest and highest of each ratio over the rounds that have it."""
    rounds = {}
    for sample in samples:
        rounds.setdefault(sample["round"], {})[sample["plane"]] = sample["metrics"]
    found = {}
    for ratio in RATIOS:
        values = [value for value in (ratio.of(planes) for planes in rounds.values()) if value is not None]
        if values:
            found[ratio.name] = {"median": round(statistics.median(values), 3), "low": round(min(values), 3),
                                 "high": round(max(values), 3)}
    return found


def tables(samples, found, date, machine, rounds):
    """The generated part of docs/benchmarks.md."""
    disturbed = max((sample["foreign"] for sample in samples), default=0.0)
    lines = [f"{date}, {machine}; {rounds} rounds. Other work on the machine took at most {disturbed:.2f} cores"
             " during a load.", ""]
    if found:
        lines += ["| ratio | ours over Envoy's, same round | median | low | high | |", "|---|---|---|---|---|---|"]
        for ratio in RATIOS:
            if ratio.name in found:
                value = found[ratio.name]
                ahead = value["median"] > 1 if ratio.more_is_better else value["median"] < 1
                lines.append(f"| `{ratio.name}` | {ratio.text} | {value['median']:.2f} | {value['low']:.2f} |"
                             f" {value['high']:.2f} | {'ahead' if ahead else '**behind**'} |")
        lines.append("")
    lines += ["Medians [lowest to highest] over the rounds:", "",
              "| data plane | " + " | ".join(title for _, title, _ in COLUMNS) + " |",
              "|---" * (len(COLUMNS) + 1) + "|"]
    for plane in dict.fromkeys(sample["plane"] for sample in samples):
        own = [sample["metrics"] for sample in samples if sample["plane"] == plane]
        cells = [_cell([metrics[key] for metrics in own if key in metrics], digits) for key, _, digits in COLUMNS]
        lines.append(f"| {plane} | " + " | ".join(cells) + " |")
    failures = [f"- round {sample['round']}, {sample['plane']}: {failure.splitlines()[0]}"
                for sample in samples for failure in sample["failures"]]
    if failures:
        lines += ["", "Loads that failed and are left out:", "", *failures]
    return "\n".join(lines) + "\n"


def _cell(values, digits):
    if not values:
        return ""
    middle, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} [{low} to {high}]" if len(values) > 1 else middle


def write(folder: Path, found, text, date, machine, rounds):
    """Writes benchmarks.json, and the text between the markers of benchmarks.md (the whole file where it has none)."""
    folder.mkdir(parents=True, exist_ok=True)
    result = {"date": date, "machine": machine, "rounds": rounds, "ratios": found}
    (folder / "benchmarks.json").write_text(json.dumps(result, indent=2) + "\n")
    page = folder / "benchmarks.md"
    before, after = "", ""
    if page.exists() and BEGIN in (old := page.read_text()) and END in old:
        before, after = old.split(BEGIN)[0], old.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after or chr(10)}")
