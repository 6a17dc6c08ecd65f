"""What the parts of the benchmark have found: rows for people, and all of them in one file."""

import argparse
import json
import pathlib
import statistics


def add(path, part, rows):
    """Beside what other parts have written there; no path: nothing is written."""
    if path is None:
        return
    figures = json.loads(path.read_text()) if path.exists() else {}
    figures[part] = rows
    path.write_text(json.dumps(figures, indent=2) + '\n', encoding='ascii')


def row(name, value, unit, *, ratio=None, least=None, most=None, **more):
    """`least` is an aim of the ratio, `most` one of the value."""
    met = (least is None or ratio >= least) and (most is None or value <= most)
    aim = {'aim': least if least is not None else most, 'met': met} \
        if least is not None or most is not None else {}
    return {'name': name, 'value': round(value, 3), 'unit': unit,
            **({} if ratio is None else {'ratio': round(ratio, 3)}), **aim, **more}


def spread(values):
    return round((max(values) - min(values)) / statistics.median(values), 3)


def table(rows):
    for one in rows:
        aim = f'{"met" if one["met"] else "MISSED"}, aim {one["aim"]:g}' if 'aim' in one else ''
        more = ', '.join(f'{name} {value}' for name, value in one.items() if name not in (
            'name', 'value', 'unit', 'ratio', 'aim', 'met'))
        print(f'{one["name"]:55}{one["value"]:>11.3f} {one["unit"]:22}'
              f'{one.get("ratio", ""):>7}  {aim:16} {more}', flush=True)


def main(name, description, parts, world):
    """parts: functions (world's value, quick) -> rows, as --only names them; world: a context."""
    parser = argparse.ArgumentParser(description=description.split('\n', maxsplit=1)[0])
    parser.add_argument('--quick', action='store_true', help='small numbers, to see that it works')
    parser.add_argument('--only', help='parts, with commas: ' + ', '.join(parts))
    parser.add_argument('--json', type=pathlib.Path)
    arguments = parser.parse_args()
    wanted = arguments.only.split(',') if arguments.only else list(parts)
    if unknown := set(wanted) - set(parts):
        parser.error(f'no such part: {", ".join(sorted(unknown))}')
    rows = []
    with world() as there:
        for part in wanted:
            found = parts[part](there, arguments.quick)
            table(found)
            rows += found
    add(arguments.json, name, rows)
