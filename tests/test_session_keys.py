"""The vectors of docs/session-keys.md, computed from its text alone: shares no code with the gate,
whose own unit test (keys_test.cpp) reads the same vectors."""

import hashlib
import json
import pathlib
import re

import pytest

from session_keys import context, sa_key

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "session-keys.md"
VECTORS = json.loads(re.search(r"```json\n(.*?)```", PAGE.read_text(), re.S).group(1))
LENGTHS = {m[1]: int(m[2]) for m in re.finditer(r"^\| ([a-z0-9-]+) \| (\d+) \|", PAGE.read_text(), re.M)}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["session"])
def test_vector(vector):
    encoded = context(vector)
    assert encoded.hex() == vector["context"]
    assert hashlib.sha256(encoded).hexdigest() == vector["hash"]
    master = bytes.fromhex(vector["master"])
    for direction, name in enumerate(("to_gate", "to_peer")):
        key = sa_key(master, direction, vector[name], LENGTHS[vector["algorithm"]])
        assert key.hex() == vector["key_" + name]
