"""What the parts of the benchmark have found, in one file."""

import json


def add(path, part, rows):
    """Beside what other parts have written there; no path: nothing is written."""
    if path is None:
        return
    figures = json.loads(path.read_text()) if path.exists() else {}
    figures[part] = rows
    path.write_text(json.dumps(figures, indent=2) + '\n', encoding='ascii')
