"""Table tests of the ratios and of what is written: `python3 -m unittest discover -s hack/bench.d`."""

import json
import tempfile
import unittest
from pathlib import Path

import report


def sample(number, plane, failures=(), **metrics):
    """One sample as the harness records it."""
    return {"round": number, "plane": plane, "metrics": metrics, "foreign": 0.0, "failures": list(failures)}


class Ratios(unittest.TestCase):
    """Ratios are taken within a round, and only where both sides were measured."""

    def test_within_a_round(self):
        """The median of ratios, not the ratio of medians; added latency is less that of `direct`."""
        samples = []
        for number, (direct, ours, theirs) in enumerate([(100, 200, 500), (200, 500, 800), (100, 300, 900)], 1):
            samples += [sample(number, "direct", p50=direct), sample(number, "pinnace-http1", p50=ours),
                        sample(number, "envoy-http1", p50=theirs)]
        found = report.ratios(samples)
        self.assertEqual(found["http1_added_p50"], {"median": 0.25, "low": 0.25, "high": 0.5})
        self.assertEqual(found["http1_p50"], {"median": 0.4, "low": 0.333, "high": 0.625})
        self.assertEqual(set(found), {"http1_added_p50", "http1_p50"})

    def test_what_is_missing_is_left_out(self):
        """A load that failed, another round's figure and a reference that added nothing give no ratio."""
        for samples in (
            [sample(1, "pinnace-tcp", max_rps=5)],
            [sample(1, "pinnace-tcp", max_rps=5), sample(2, "envoy-tcp", max_rps=5)],
            [sample(1, "pinnace-tcp", p99=5), sample(1, "envoy-tcp", p99=4), sample(1, "direct", p99=4)],
        ):
            self.assertNotIn("tcp_max_rps", report.ratios(samples))
            self.assertNotIn("tcp_added_p99", report.ratios(samples))


class Written(unittest.TestCase):
    """The page keeps what a person wrote around the figures."""

    def test_between_the_markers(self):
        """Figures replace figures, failures are listed, and a ratio on the wrong side of 1 says so."""
        samples = [sample(1, "pinnace-tcp", gbps=4.0), sample(1, "envoy-tcp", ["paced: refused\nmore"], gbps=5.0)]
        found = report.ratios(samples)
        text = report.tables(samples, found, "2026-01-01", "a machine", 1)
        self.assertIn("| `tcp_gbps` | Gb/s over one connection | 0.80 | 0.80 | 0.80 | **behind** |", text)
        self.assertIn("- round 1, envoy-tcp: paced: refused\n", text)
        with tempfile.TemporaryDirectory() as name:
            page = Path(name) / "benchmarks.md"
            page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
            for _ in range(2):
                report.write(Path(name), found, text, "2026-01-01", "a machine", 1)
                written = page.read_text()
                self.assertTrue(written.startswith("before\n") and written.endswith("\nafter\n"))
                self.assertNotIn("old", written)
                self.assertEqual(written.count(report.BEGIN), 1)
            self.assertEqual(json.loads((Path(name) / "benchmarks.json").read_text())["ratios"], found)


if __name__ == "__main__":
    unittest.main()
