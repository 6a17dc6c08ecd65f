"""How kinds of faults are made known.

A fault is a function (chance, message, token, mark) that makes something wrong with a message that was
right so far; whatever it picks, it picks by `chance`. Some of what they make is harmless: then it must
come out as it was authorised.
"""

from corpus.message import latin


def fault(group):
    def register(function):
        group.append(function)
        return function
    return register


def one_of(group, *choices):
    """A fault that sets what `choices` name; the function tells where."""
    def register(function):
        def apply(chance, message, token, mark):
            function(message, latin(chance.choice(choices)))
        apply.__name__ = function.__name__
        group.append(apply)
        return apply
    return register
