# SPDX-License-Identifier: Apache-2.0
"""Line charts with logarithmic axes, as SVG. Panels beside and below each other, two in a row."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 460, 300  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 56, 48  # what a panel keeps free around its plot
COLOURS = ["#0b62a4", "#c8501b", "#2f7d4f"]
STYLE = ("text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:14px;font-weight:600}.small{font-size:11px}"
         ".grid{stroke:#ddd}.axis{stroke:#777;fill:none}")


def decades(values):
    """The powers of ten that hold all values; at least one decade."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def label(exponent):
    n = 10.0 ** exponent
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:g}{letter}"
    return f"{n:g}"


class Panel:
    """title, what x and y are, and series: {name: [(x, y), ...]}."""

    def __init__(self, title, x_label, y_label, series):
        self.title, self.x_label, self.y_label, self.series = title, x_label, y_label, series
        self.x = decades([x for points in series.values() for x, _ in points])
        self.y = decades([y for points in series.values() for _, y in points])

    def place(self, x, y):
        w, h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return (LEFT + w * (math.log10(x) - self.x[0]) / (self.x[1] - self.x[0]),
                TOP + h - h * (math.log10(y) - self.y[0]) / (self.y[1] - self.y[0]))

    def grid(self):
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        for e in range(self.x[0], self.x[1] + 1):
            x = self.place(10.0 ** e, 10.0 ** self.y[0])[0]
            yield f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            yield f'<text class="small" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label(e)}</text>'
        for e in range(self.y[0], self.y[1] + 1):
            y = self.place(10.0 ** self.x[0], 10.0 ** e)[1]
            yield f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            yield f'<text class="small" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label(e)}</text>'
        yield f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'

    def names(self):
        yield f'<text class="title" x="{LEFT}" y="18">{escape(self.title)}</text>'
        yield (f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">'
               f'{escape(self.x_label)}</text>')
        middle = (TOP + HEIGHT - BOTTOM) / 2
        yield (f'<text x="14" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 14 {middle:.0f})">'
               f'{escape(self.y_label)}</text>')

    def lines(self):
        key = LEFT
        for (name, points), colour in zip(self.series.items(), COLOURS):
            places = [self.place(x, y) for x, y in points]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            for x, y in places:
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            yield f'<rect x="{key}" y="31" width="14" height="4" fill="{colour}"/>'
            yield f'<text class="small" x="{key + 18}" y="38">{escape(name)}</text>'
            key += 34 + 6.2 * len(name)

    def draw(self, left, top):
        return "\n".join([f'<g transform="translate({left} {top})">', *self.grid(), *self.names(), *self.lines(), "</g>"])


def picture(panels):
    columns = min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    width, height = columns * WIDTH + 20, lines * HEIGHT + 20
    drawn = "\n".join(p.draw(10 + WIDTH * (i % columns), 10 + HEIGHT * (i // columns)) for i, p in enumerate(panels))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' role="img">\n<title>How the cost grows</title>\n<style>{STYLE}</style>\n'
            f'<rect width="{width}" height="{height}" fill="#fff"/>\n{drawn}\n</svg>\n')
