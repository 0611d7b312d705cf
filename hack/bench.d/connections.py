"""Runs in the client's namespace: opens keep-alive connections, asks once over each, and holds them until stdin closes.

    connections.py ADDRESS PORT HOST COUNT SECONDS

It prints how many answers were 200 with a whole body. The first connection is tried again until SECONDS have passed,
which makes `COUNT` 1 the probe for readiness.
"""

import socket
import sys
import time


def ask(address, port, host):
    """One request on a new connection; gives the connection and whether the answer was whole and 200."""
    connection = socket.create_connection((address, port), timeout=5)
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < 1024:
        part = connection.recv(65536)
        if not part:
            break
        answer += part
    return connection, answer.startswith(b"HTTP/1.1 200 ") and len(answer) > 1024


def main(address, port, host, count, seconds):
    """Opens the connections; a failure after the first success is counted, not tried again."""
    held, good, until = [], 0, time.monotonic() + float(seconds)
    while len(held) < int(count):
        try:
            connection, whole = ask(address, int(port), host)
        except OSError:
            connection, whole = None, False
        if not whole and good == 0:
            if time.monotonic() > until:
                break
            time.sleep(0.02)
            continue
        held.append(connection)
        good += whole
    print(good, flush=True)
    sys.stdin.read()


main(*sys.argv[1:])
