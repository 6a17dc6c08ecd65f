#!/usr/bin/python3
"""Draws what portcullis-bench measured: rate over the size of packets, and over the number of SAs.

    bench/plot.py RESULT.json [FOLDER]     writes rate-over-size.svg and rate-over-sas.svg

SVG by hand: two small plots do not need a library. Dots are measured, lines only join them.
"""

import json
import math
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 170, 44, 56
# Told apart without colour, too: by the dashes.
STYLES = [('#1f5fa8', ''), ('#c2571a', ''), ('#1f5fa8', '6 4'), ('#c2571a', '6 4')]


class Plot:
    """Both ways' rates beside their limits; x is logarithmic, its ticks are what was measured."""

    def __init__(self, title, x_label, series, ticks):
        self.title, self.x_label, self.series, self.ticks = title, x_label, series, ticks
        most = max(y for _, points in series for _, y in points)
        step = 10 ** math.floor(math.log10(most))
        self.step = next(s for s in (step / 5, step / 2, step, 2 * step) if most / s <= 8)
        self.most = math.ceil(most * 1.05 / self.step) * self.step

    def x(self, value):
        first, last = math.log(self.ticks[0]), math.log(self.ticks[-1])
        share = (math.log(value) - first) / (last - first)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return HEIGHT - BOTTOM - value / self.most * (HEIGHT - TOP - BOTTOM)

    def svg(self):
        end, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
               'font-family="sans-serif" font-size="12" fill="#222">',
               f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
               f'<text x="{LEFT}" y="24" font-size="15">{self.title}</text>']
        for i in range(round(self.most / self.step) + 1):
            value = i * self.step
            out.append(f'<path d="M{LEFT} {self.y(value):.1f}H{end}" stroke="#ddd"/>')
            out.append(f'<text x="{LEFT - 8}" y="{self.y(value) + 4:.1f}" '
                       f'text-anchor="end">{value:g}</text>')
        for tick in self.ticks:
            out.append(f'<path d="M{self.x(tick):.1f} {floor}v5" stroke="#222"/>')
            out.append(f'<text x="{self.x(tick):.1f}" y="{floor + 19}" '
                       f'text-anchor="middle">{tick:,}</text>')
        out.append(f'<path d="M{LEFT} {TOP}V{floor}H{end}" fill="none" stroke="#222"/>')
        out.append(f'<text x="{(LEFT + end) / 2}" y="{HEIGHT - 14}" '
                   f'text-anchor="middle">{self.x_label}</text>')
        out.append(f'<text transform="translate(16 {(TOP + floor) / 2}) rotate(-90)" '
                   'text-anchor="middle">million packets a second, one core</text>')
        for i, ((name, points), (colour, dashes)) in enumerate(zip(self.series, STYLES)):
            line = ' '.join(f'{self.x(x):.1f},{self.y(y):.1f}' for x, y in points)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" '
                       f'stroke-width="2" stroke-dasharray="{dashes}"/>')
            out += [f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3" fill="{colour}"/>'
                    for x, y in points]
            height = TOP + 14 + 20 * i
            out.append(f'<path d="M{end + 14} {height - 4}h26" stroke="{colour}" '
                       f'stroke-width="2" stroke-dasharray="{dashes}"/>')
            out.append(f'<text x="{end + 46}" y="{height}">{name}</text>')
        return '\n'.join(out + ['</svg>', ''])


def series(rows, key):
    """For each way the gate's points and its limit's, sorted by `key`."""
    found = []
    for column, label in (('mpps', '{}'), ('limit_mpps', 'limit, {}')):
        for direction in ('inbound', 'outbound'):
            points = sorted((row[key], row[column]) for row in rows
                            if row['direction'] == direction)
            found.append((label.format(direction), points))
    return found


def draw(path, title, x_label, rows, key):
    ticks = sorted({row[key] for row in rows})
    if len(ticks) < 2 or not all(points for _, points in series(rows, key)):
        sys.exit(f'plot.py: too few rows for {path.name}: run the benchmark without --filter')
    path.write_text(Plot(title, x_label, series(rows, key), ticks).svg())
    print(path)


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    result = json.loads(pathlib.Path(sys.argv[1]).read_text())
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else ROOT / 'docs/images'
    folder.mkdir(parents=True, exist_ok=True)
    plain = [row for row in result['rows'] if row['pages'] == '2M']
    sizes = [{**row, 'inner_bytes': round(row['inner_bytes'])} for row in plain
             if row['name'] == 'size' and row['sizes'].isdigit()]
    one = [row for row in sizes if row['inner_bytes'] == 64]
    sas = one + [row for row in plain if row['name'] == 'sas']
    draw(folder / 'rate-over-size.svg', 'AES-128-GCM, one SA: rate over packet size',
         'inner packet, bytes', sizes, 'inner_bytes')
    draw(folder / 'rate-over-sas.svg', 'AES-128-GCM, 64 bytes: rate over SAs, in random order',
         'security associations', sas, 'sas')


if __name__ == '__main__':
    main()
