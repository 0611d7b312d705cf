"""What policies cost a request at the called pod's sidecar: instructions by callgrind, and CPU at a fixed rate.

Requests are the same with and without policies, the token among them. The policies let them pass, after DENY rules that
do not match and ALLOW rules of which the last does.
"""

import argparse
import base64
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import alone
import tools
from load import LoadFailed
from names import CLIENT, HOST_HEADER, SERVER, URL
from pinnace import Pinnace, mesh
from pods import NotReady, Pods, prepare, run, within
from usage import cpu_seconds

LIMIT = 1.15
"""What policies may cost, as a multiple of none."""

CONNECTIONS = 8
RATE = 1000
ISSUER = "https://issuer.example"
T95 = (None, None, 6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761)
"""Student's t by number of rounds: 95 % of means lie below so many standard errors above the true one."""

VERSIONS = "import sys, urllib.request as u; print(u.urlopen('http://127.0.0.1:15000/discovery', timeout=5).read().decode())"
STATUS = """\
import sys, urllib.request as u, urllib.error as e
request = u.Request(sys.argv[1], headers=dict(word.split(': ', 1) for word in sys.argv[2:]))
try:
    print(u.urlopen(request, timeout=10).status)
except e.HTTPError as error:
    print(error.code)
"""


def arguments():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="hack/bench-policies", description=(
        f"Measures ten AuthorizationPolicies and one JWT rule beside none; the status is 1 where they cost more than"
        f" {LIMIT} times as much. Needs root, for network namespaces of its own, and Debian's valgrind."))
    parser.add_argument("--rounds", type=int, default=10, help="pairs of CPU measurements (10); 0 leaves them out")
    parser.add_argument("--seconds", type=int, default=15, help="of each CPU measurement (15)")
    parser.add_argument("--requests", type=int, default=10_000, help=(
        "requests more in the longer run under callgrind (10000); 0 leaves callgrind out"))
    parser.add_argument("--bins", type=Path, help="a folder with proxy and fixture-discovery, instead of building them")
    parser.add_argument("--profiles", type=Path, help="a folder for callgrind's files, to look into")
    asked = parser.parse_args()
    if not 0 <= asked.rounds < len(T95) or asked.rounds == 1:
        parser.error(f"--rounds: {asked.rounds}: not 0, or between 2 and {len(T95) - 1}")
    return asked


def main():
    """Measures and prints; the status is 1 if policies cost more than they may."""
    asked = arguments()
    lock = alone.begin("hack/bench-policies")
    tools.packages([])
    if asked.requests and not shutil.which("valgrind"):
        raise SystemExit("valgrind is lacking: apt-get install valgrind")
    binaries = _given(asked.bins) if asked.bins else tools.pinnace()
    good = True
    try:
        with tempfile.TemporaryDirectory(prefix=alone.PREFIX) as folder:
            print(folder, file=lock, flush=True)
            bench = Bench(Path(folder), binaries, tools.oha(), asked)
            if asked.requests:
                good &= bench.instructions()
            if asked.rounds:
                good &= bench.cpu()
    except KeyboardInterrupt:
        print("interrupted; the namespaces and their processes are gone", flush=True)
        return 130
    except (LoadFailed, NotReady, subprocess.SubprocessError) as error:
        print(f"failed: {error}", flush=True)
        return 1
    return 0 if good else 1


class Bench:
    """The measurements, in one folder."""

    def __init__(self, folder, binaries, oha, asked):
        self._folder, self._oha, self._asked = folder, oha, asked
        self._binaries = prepare(folder, binaries)
        key = folder / "issuer.pem"
        _openssl("genrsa", "-out", key, "2048")
        self._token = _token(key)
        self._resources = {"none": "", "policies": _resources(_jwks(key))}

    def instructions(self):
        """Instructions per request of the server's sidecar: what a longer run has more than a shorter one."""
        few, many = 500, 500 + self._asked.requests
        per_request = {}
        for which in self._resources:
            counts = [self._counted(which, requests) for requests in (few, many)]
            per_request[which] = (counts[1] - counts[0]) / (many - few)
        ratio = per_request["policies"] / per_request["none"]
        print(f"instructions per request, server's sidecar: {per_request['none']:,.0f} without,"
              f" {per_request['policies']:,.0f} with policies: {ratio:.3f} times as many", flush=True)
        return ratio <= LIMIT

    def _counted(self, which, requests):
        """Instructions of a whole life of the server's sidecar in which so many requests came."""
        out = self._asked.profiles / f"{which}-{requests}.callgrind" if self._asked.profiles else Path("/dev/null")
        if self._asked.profiles:
            self._asked.profiles.mkdir(parents=True, exist_ok=True)
            self._asked.profiles.chmod(0o777)
        under = {"server": (("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"), 300)}
        with Pods(self._folder, self._binaries) as pods:
            self._start(pods, which, under)
            self._ask("-n", requests, seconds=600)
            # Callgrind counts up at the process's own end, after it has drained.
            process = pods.processes["server-proxy"]
            process.terminate()
            process.wait(120)
            log = (self._folder / "server-proxy.log").read_text(errors="replace")
        found = re.search(r"Collected *: *(\d+)", log)
        if not found:
            raise LoadFailed(f"callgrind counted nothing: {log[-500:]}")
        return int(found[1])

    def cpu(self):
        """CPU of the server's sidecar at a fixed rate, each round with and without policies."""
        ratios = []
        for number in range(1, self._asked.rounds + 1):
            used = dict.fromkeys(self._resources, 0.0)
            with Pods(self._folder, self._binaries) as pods:
                self._start(pods, "none")
                # There and back again, so that a machine that grows slower or faster meanwhile favours neither.
                order = ("none", "policies") if number % 2 else ("policies", "none")
                for which in (*order, *reversed(order)):
                    self._apply(pods, which)
                    self._ask("-z", "2s", "-q", RATE, seconds=30)
                    before = cpu_seconds(pods.pids("server-proxy"))
                    half = self._asked.seconds * 500
                    answers = self._ask("-z", f"{half}ms", "-q", RATE, seconds=half / 1000 + 30)
                    used[which] += (cpu_seconds(pods.pids("server-proxy")) - before) / answers * 1e6 / 2
            ratios.append(used["policies"] / used["none"])
            print(f"{time.strftime('%T')} round {number}: {used['none']:.1f} µs of CPU per request without,"
                  f" {used['policies']:.1f} with policies: {ratios[-1]:.3f}", flush=True)
        mean = statistics.mean(ratios)
        bound = mean + T95[len(ratios)] * statistics.stdev(ratios) / math.sqrt(len(ratios))
        print(f"CPU at {RATE:,} requests/s, server's sidecar, {len(ratios)} rounds: {mean:.3f} times as much,"
              f" below {bound:.3f} with 95 %", flush=True)
        return bound <= LIMIT

    def _start(self, pods, which, under=None):
        plane = Pinnace("pinnace-policies", True, under=under)
        fixtures = self._folder / "fixtures-pinnace-policies"
        fixtures.mkdir(exist_ok=True)
        self._write(which)
        for side in ("server", "client"):
            plane.start(pods, side)
        self._check(which)

    def _write(self, which):
        # In one step: the server looks at any time.
        new = self._folder / "mesh.yaml.new"
        new.write_text(mesh("http") + self._resources[which])
        new.rename(self._folder / "fixtures-pinnace-policies/mesh.yaml")

    def _apply(self, pods, which):
        """Puts other policies in force, where they are not already."""
        def versions():
            page = json.loads(run(*within(SERVER, sys.executable, "-I", "-c", VERSIONS)))
            return [page["versions"].get(kind) for kind in ("AuthorizationPolicies", "RequestAuthentications")]

        current = (self._folder / "fixtures-pinnace-policies/mesh.yaml").read_text()
        if current != mesh("http") + self._resources[which]:
            before, until = versions(), time.monotonic() + 20
            self._write(which)
            while any(old == new for old, new in zip(before, versions())):
                if time.monotonic() > until:
                    raise NotReady("the sidecar does not take other policies")
                pods.check_alive("server-proxy")
                time.sleep(0.1)
        self._check(which)

    def _check(self, which):
        """Raises unless exactly the policies that are meant are in force."""
        def status(path, token):
            words = [HOST_HEADER, f"Authorization: Bearer {token}"]
            return int(run(*within(CLIENT, sys.executable, "-I", "-c", STATUS, URL + path, *words)))

        found = status("", self._token), status("admin", self._token), status("", "a.b.c")
        if found != ((200, 403, 401) if which == "policies" else (200, 404, 200)):
            raise NotReady(f"with {which}: a request, one that is denied and one with a bad token get {found}")

    def _ask(self, *how_long, seconds):
        """Makes requests and gives how many were answered; raises unless all of them were, and well."""
        command = [self._oha, "--no-tui", "--output-format", "json", "-c", CONNECTIONS, *how_long,
                   "-H", HOST_HEADER, "-H", f"Authorization: Bearer {self._token}", URL]
        done = subprocess.run(within(CLIENT, *command), capture_output=True, text=True, timeout=seconds)
        if done.returncode != 0:
            raise LoadFailed(f"oha: status {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
        result = json.loads(done.stdout)
        if set(result["statusCodeDistribution"]) != {"200"}:
            raise LoadFailed(f"oha: {result['statusCodeDistribution']} {result['errorDistribution']}")
        return sum(result["statusCodeDistribution"].values())


def _given(folder):
    return {name: folder / name for name in ("proxy", "fixture-discovery")}


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _openssl(*words, data=None):
    done = subprocess.run(["openssl", *map(str, words)], input=data, capture_output=True, timeout=30)
    if done.returncode != 0:
        raise SystemExit(f"openssl {words[0]}: {done.stderr.decode().strip()}")
    return done.stdout


def _jwks(key):
    modulus = _openssl("rsa", "-in", key, "-noout", "-modulus").decode().strip().split("=")[1]
    return json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "kid": "a", "use": "sig", "e": "AQAB",
                                 "n": _base64(bytes.fromhex(modulus))}]})


def _token(key):
    """A token as providers issue them: RS256, a few claims, good for years."""
    claims = {"iss": ISSUER, "sub": "5b0e5f0e-3d1f-4a63-9d3c-0d3c8f6f7a11", "aud": "shop", "azp": "web", "typ": "Bearer",
              "iat": 1_700_000_000, "exp": 4_000_000_000, "jti": "0b6f3d8e-58f4-4d44-9f6a-51a7f9b1d2c3",
              "scope": "openid profile email", "groups": ["dev", "ops"], "email": "alice@shop.example",
              "preferred_username": "alice", "realm_access": {"roles": ["offline_access", "reader", "writer"]}}
    parts = [json.dumps(part, separators=(",", ":")).encode()
             for part in ({"alg": "RS256", "typ": "JWT", "kid": "a"}, claims)]
    signed = ".".join(map(_base64, parts))
    return f"{signed}.{_base64(_openssl('dgst', '-sha256', '-sign', key, data=signed.encode()))}"


def _resources(jwks):
    """Ten AuthorizationPolicies and a RequestAuthentication for the server: those that let a request pass come last."""
    selector = "selector: {matchLabels: {app: server}}"
    me = "cluster.local/ns/default/sa/client"
    rules = [("DENY", "{to: [{operation: {paths: ['/admin*', '/internal/*']}}]}"),
             ("DENY", "{from: [{source: {namespaces: [untrusted]}}]}"),
             ("DENY", "{to: [{operation: {methods: [TRACE, CONNECT]}}]}"),
             ("DENY", "{when: [{key: 'request.headers[x-debug]', values: ['*']}]}")]
    rules += [("ALLOW", f"{{from: [{{source: {{principals: [cluster.local/ns/default/sa/other-{number}]}}}}],"
                        f" to: [{{operation: {{methods: [GET], paths: [/api/{number}/*]}}}}]}}") for number in range(5)]
    rules.append(("ALLOW", f"{{from: [{{source: {{principals: [{me}], requestPrincipals: ['{ISSUER}/*']}}}}],"
                           " to: [{operation: {methods: [GET, HEAD], paths: [/, '/static/*', /admin]}}],"
                           " when: [{key: 'request.auth.claims[groups]', values: [ops]}]}"))
    policies = [f"kind: AuthorizationPolicy\nmetadata: {{name: p{number}, namespace: default}}\n"
                f"spec: {{{selector}, action: {action}, rules: [{rule}]}}" for number, (action, rule) in enumerate(rules)]
    policies.append(f"kind: RequestAuthentication\nmetadata: {{name: jwt, namespace: default}}\n"
                    f"spec: {{{selector}, jwtRules: [{{issuer: {ISSUER}, audiences: [shop], jwks: '{jwks}'}}]}}")
    return "".join(f"---\napiVersion: security.istio.io/v1\n{policy}\n" for policy in policies)
