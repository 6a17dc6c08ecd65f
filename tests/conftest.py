"""All Python tests import the shared helpers beside this file and those of their own folder."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
