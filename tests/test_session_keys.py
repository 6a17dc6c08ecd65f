"""The vectors of docs/session-keys.md, computed from its text alone: shares no code with the gate,
whose own unit test (keys_test.cpp) reads the same vectors."""

import hashlib
import hmac
import ipaddress
import json
import pathlib
import re

import pytest

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "session-keys.md"
VECTORS = json.loads(re.search(r"```json\n(.*?)```", PAGE.read_text(), re.S).group(1))
LENGTHS = {m[1]: int(m[2]) for m in re.finditer(r"^\| ([a-z0-9-]+) \| (\d+) \|", PAGE.read_text(), re.M)}


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


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["session"])
def test_vector(vector):
    encoded = context(vector)
    assert encoded.hex() == vector["context"]
    assert hashlib.sha256(encoded).hexdigest() == vector["hash"]
    master = bytes.fromhex(vector["master"])
    for direction, name in enumerate(("to_gate", "to_peer")):
        info = bytes([direction]) + number(vector[name], 4)
        key = hkdf_expand(master, info, LENGTHS[vector["algorithm"]])
        assert key.hex() == vector["key_" + name]
