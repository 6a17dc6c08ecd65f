"""A session's keys as docs/session-keys.md has them: shares no code with the gate. test_session_keys.py
holds it against the page's vectors."""

import hmac
import ipaddress
import pathlib
import re

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "session-keys.md"
LENGTHS = {m[1]: int(m[2]) for m in re.finditer(r"^\| ([a-z0-9-]+) \| (\d+) \|", PAGE.read_text(), re.M)}
LABEL = b"EXPERIMENTAL-portcullis-esp-1"
MASTER_BYTES = 64


def fields(*values):
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


def number(value, width):
    return value.to_bytes(width, "big")


def prefix(text):
    if text is None:
        return b""
    net = ipaddress.ip_network(text)
    return net.network_address.packed + bytes([net.prefixlen])


def selector(s):
    ports = [number(port, 2) for port in s["gate_ports"] + s["peer_ports"]]
    return fields(prefix(s["gate"]), prefix(s["peer"]), number(s["protocol"], 1), *ports)


def context(v):
    return fields(
        number(1, 1), number(v["tls_version"], 2), number(v["mode"], 1),
        *(v[name].encode() for name in ("gate", "peer", "interface", "session")),
        number(v["generation"], 8), number(v["to_gate"], 4), number(v["to_peer"], 4),
        v["algorithm"].encode(), number(v["esn"], 1), fields(*map(selector, v["selectors"])),
        bytes.fromhex(v["gate_nonce"]), bytes.fromhex(v["peer_nonce"]))


def hkdf_expand(key, info, length):
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def sa_key(master, direction, spi, algorithm):
    """`direction`: 0 from the peer to the gate, 1 back."""
    return hkdf_expand(master, bytes([direction]) + number(spi, 4), LENGTHS[algorithm])
