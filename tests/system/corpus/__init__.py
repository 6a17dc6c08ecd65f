"""Requests that try to be read in two ways: smuggling and path variants, generated from a seed.

    for variant in corpus.variants(seed=1, count=24_000, token=token):
        variant.name, variant.records       # which faults; the octets, in the TLS records they go in

`rights` (message.py) are what they start from. The same seed and a token of the same length give the same variants. A variant of number n bears
`X-Variant: n`, what hides in it `n-hidden`; so what comes out behind a gate can be told apart.
"""

import dataclasses
import random

from corpus import fields, framing, lines, paths, sequences
from corpus.message import RIGHT

FAULTS = paths.FAULTS + lines.FAULTS + fields.FAULTS + framing.FAULTS + sequences.FAULTS
TOGETHER = paths.FAULTS + fields.FAULTS + framing.FAULTS


@dataclasses.dataclass
class Variant:
    number: int
    name: str
    records: list

    @property
    def octets(self):
        return b''.join(self.records)


def cut(chance, octets):
    """Mostly one piece; a few times several, since what comes apart is read apart."""
    if len(octets) < 2 or chance.random() < 0.7:
        return [octets]
    places = sorted(chance.sample(range(1, len(octets)), min(chance.randint(1, 5), len(octets) - 1)))
    return [octets[a:b] for a, b in zip([0, *places], [*places, len(octets)])]


def variant(seed, number, token, rights=RIGHT):
    chance = random.Random(f'{seed}/{number}')
    right = chance.choice(rights)
    message = right(chance.randrange(8), token, str(number))
    # Each kind as often as any other, so that a small sample has all of them.
    faults = [FAULTS[number % len(FAULTS)]]
    if chance.random() < 0.5:
        faults.insert(0, chance.choice(TOGETHER))
    for fault in faults:
        fault(chance, message, token, str(number))
    names = ' + '.join(fault.__name__ for fault in faults)
    return Variant(number, f'{number} {names} on {right.__name__}', cut(chance, message.render()))


def variants(seed, count, token, rights=RIGHT):
    return [variant(seed, number, token, rights) for number in range(count)]
