"""Tests import the shared helpers beside this file, and those of the folders below it.

Files of different folders may have the same name (pytest.ini: importlib), shared helpers may not.
"""

import pathlib
import sys

_HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE / 'pipeline'), str(_HERE / 'system'), str(_HERE / 'demo'),
                str(_HERE / 'guest')]
