"""The keys of a session as docs/session-keys.md says, computed from its text alone: shares no code
with the gate."""

import hashlib
import hmac
import ipaddress

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


def context_hash(v):
    return hashlib.sha256(context(v)).digest()


def sa_key(master, outbound, spi, length):
    """outbound: from the gate to the peer."""
    return hkdf_expand(master, bytes([outbound]) + number(spi, 4), length)
