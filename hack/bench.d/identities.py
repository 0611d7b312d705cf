"""The certificates of a run: one CA, P-256 leaves of a day with SPIFFE IDs, as the mesh's operator would issue them."""

import subprocess
from pathlib import Path

from names import CLIENT_ID, DISCOVERY_ID, SERVER_ID

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def write(folder: Path):
    """Writes `ca.crt`, and a folder with tls.crt, tls.key and ca.crt for each side and for the discovery server.

    `stream` beside a side is the same leaf with a DNS name too, for peers that cannot verify a SPIFFE ID.
    """
    folder.mkdir()
    _openssl("req", "-x509", *CURVE, "-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-days", "2",
             "-subj", f"/O={CLIENT_ID.split('/')[2]}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name, uri in (("client", CLIENT_ID), ("server", SERVER_ID), ("discovery", DISCOVERY_ID)):
        _leaf(folder, name, f"URI:{uri}")
    for name, uri in (("client", CLIENT_ID), ("server", SERVER_ID)):
        _leaf(folder, f"{name}-stream", f"URI:{uri},DNS:{name}.bench")
        stream = folder / f"{name}-stream"
        (stream / "both.pem").write_bytes((stream / "tls.crt").read_bytes() + (stream / "tls.key").read_bytes())
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _leaf(folder, name, names):
    target = folder / name
    target.mkdir()
    _openssl("req", "-x509", *CURVE, "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-days", "1", "-subj", "/",
             "-keyout", target / "tls.key", "-out", target / "tls.crt",
             "-addext", f"subjectAltName=critical,{names}", "-addext", "basicConstraints=critical,CA:FALSE",
             "-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=serverAuth,clientAuth")
    (target / "ca.crt").write_bytes((folder / "ca.crt").read_bytes())


def _openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise SystemExit(f"openssl {arguments[0]}: {done.stderr.strip()}")
