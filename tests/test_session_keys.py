"""The vectors of docs/session-keys.md, computed from its text alone: shares no code with the gate,
whose own unit test (keys_test.cpp) reads the same vectors."""

import hashlib
import json
import re

import pytest

from session_keys import PAGE, context, sa_key

VECTORS = json.loads(re.search(r"```json\n(.*?)```", PAGE.read_text(), re.S).group(1))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["session"])
def test_vector(vector):
    encoded = context(vector)
    assert encoded.hex() == vector["context"]
    assert hashlib.sha256(encoded).hexdigest() == vector["hash"]
    master = bytes.fromhex(vector["master"])
    for direction, name in enumerate(("to_gate", "to_peer")):
        key = sa_key(master, direction, vector[name], vector["algorithm"])
        assert key.hex() == vector["key_" + name]
