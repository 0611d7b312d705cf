"""Runs in the node's namespace: listens on the client's side of the bridge until stdin closes.

    wire.py MARKER

It prints whether the marker crossed in the clear and whether TLS application data did.
"""

import select
import socket
import sys

ALL_PROTOCOLS = 3
TLS_APPLICATION_DATA = b"\x17\x03\x03"


def main(marker):
    """Looks at every packet of a few requests; the marker is short enough to lie in one."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    packets.bind(("client", 0))
    print("listening", flush=True)
    clear = encrypted = False
    while True:
        ready, _, _ = select.select([packets, sys.stdin], [], [])
        if packets in ready:
            packet = packets.recv(65536)
            clear |= marker.encode() in packet
            encrypted |= TLS_APPLICATION_DATA in packet
        elif not sys.stdin.readline():
            break
    print("clear" if clear else "-", "encrypted" if encrypted else "-")


main(*sys.argv[1:])
