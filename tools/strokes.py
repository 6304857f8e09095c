"""Digits drawn by code, for measuring what the page "Draw a digit" answers.

Nobody has drawn these. Each digit has two or three skeletons, designed by hand as a few
points on paper; each skeleton is drawn three times in six kinds, with random deviations
from a seed. The skeletons and the kinds were fixed before the network saw any of them.
A drawing is {"digit", "skeleton", "kind", "strokes"}, its strokes as digit.js takes
them: [{"width", "points": [x, y, x, y, ...]}] in a field of 280 × 280.
"""

import math
import random

FIELD = 280
SEED = 18
TIMES = 3  # each skeleton in each kind


def ellipse(x, y, rx, ry, start=-90, turn=-360, points=12):
    """Points on an ellipse, from an angle in degrees on; a negative turn goes left."""
    angles = [math.radians(start + turn * i / points) for i in range(points + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


# A skeleton is a list of strokes, a stroke a list of pieces, a piece a list of points that
# a smooth curve goes through; where two pieces meet there is a corner. A digit is 1 high.
BELLY_OF_5 = [
    (0.1, 0.44),
    (0.36, 0.36),
    (0.61, 0.58),
    (0.54, 0.88),
    (0.26, 1),
    (0.02, 0.88),
]
LOOP_OF_9 = [
    (0.57, 0.15),
    (0.36, 0),
    (0.11, 0.13),
    (0.12, 0.38),
    (0.34, 0.5),
    (0.54, 0.36),
    (0.58, 0.14),
]
SKELETONS = {
    "0 round": [[ellipse(0.35, 0.5, 0.33, 0.5)]],
    "0 narrow": [[ellipse(0.3, 0.5, 0.24, 0.5, start=-110, turn=-380)]],
    "1 bar": [[[(0.35, 0), (0.35, 1)]]],
    "1 flag": [[[(0.13, 0.22), (0.38, 0)], [(0.38, 0), (0.38, 1)]]],
    "1 foot": [
        [[(0.13, 0.22), (0.36, 0)], [(0.36, 0), (0.36, 1)]],
        [[(0.1, 1), (0.62, 1)]],
    ],
    "2 plain": [
        [
            [
                (0.06, 0.24),
                (0.2, 0.04),
                (0.46, 0.02),
                (0.62, 0.2),
                (0.54, 0.46),
                (0.04, 1),
            ],
            [(0.04, 1), (0.68, 1)],
        ]
    ],
    "2 loop": [
        [
            [(0.08, 0.2), (0.3, 0), (0.58, 0.12), (0.57, 0.4), (0.34, 0.76), (0.14, 0.97)]
            + [(0.04, 0.9), (0.16, 0.82), (0.42, 0.93), (0.7, 0.95)]
        ]
    ],
    "3 round": [
        [
            [(0.08, 0.12), (0.32, 0), (0.56, 0.13), (0.52, 0.36), (0.26, 0.47)],
            [(0.26, 0.47), (0.56, 0.56), (0.62, 0.78), (0.4, 0.99), (0.05, 0.88)],
        ]
    ],
    "3 flat": [
        [
            [(0.06, 0.02), (0.6, 0.02)],
            [(0.6, 0.02), (0.28, 0.4)],
            [(0.28, 0.4), (0.55, 0.48), (0.63, 0.72), (0.42, 0.98), (0.06, 0.9)],
        ]
    ],
    "4 open": [
        [[(0.1, 0), (0.06, 0.55)], [(0.06, 0.55), (0.68, 0.55)]],
        [[(0.5, 0.03), (0.46, 1)]],
    ],
    "4 closed": [
        [[(0.5, 0), (0.02, 0.64)], [(0.02, 0.64), (0.7, 0.64)]],
        [[(0.5, 0), (0.5, 1)]],
    ],
    "5 two strokes": [
        [[(0.14, 0.02), (0.1, 0.44)], BELLY_OF_5],
        [[(0.14, 0.02), (0.64, 0.02)]],
    ],
    "5 one stroke": [
        [[(0.62, 0.03), (0.16, 0.05)], [(0.16, 0.05), (0.1, 0.44)], BELLY_OF_5]
    ],
    "6 curved": [
        [
            [(0.54, 0.02), (0.26, 0.2), (0.08, 0.58), (0.14, 0.9), (0.38, 0.99)]
            + [(0.59, 0.84), (0.55, 0.6), (0.34, 0.52), (0.12, 0.68)]
        ]
    ],
    "6 straight": [
        [
            [(0.42, 0), (0.18, 0.36), (0.06, 0.72), (0.22, 0.98), (0.5, 0.95)]
            + [(0.6, 0.74), (0.42, 0.57), (0.09, 0.74)]
        ]
    ],
    "7 plain": [[[(0.05, 0.03), (0.64, 0.02)], [(0.64, 0.02), (0.25, 1)]]],
    "7 bar": [
        [[(0.05, 0.03), (0.64, 0.02)], [(0.64, 0.02), (0.25, 1)]],
        [[(0.18, 0.5), (0.6, 0.48)]],
    ],
    "7 hook": [
        [
            [(0.06, 0.18), (0.07, 0.03)],
            [(0.07, 0.03), (0.63, 0.03)],
            [(0.63, 0.03), (0.42, 0.45), (0.3, 1)],
        ]
    ],
    "8 one stroke": [
        [
            [(0.56, 0.14), (0.34, 0), (0.12, 0.16), (0.24, 0.4), (0.5, 0.6), (0.6, 0.82)]
            + [(0.34, 1), (0.08, 0.82), (0.18, 0.6), (0.46, 0.4), (0.56, 0.14)]
        ]
    ],
    "8 two circles": [
        [ellipse(0.35, 0.23, 0.22, 0.23)],
        [ellipse(0.35, 0.73, 0.28, 0.27)],
    ],
    "9 straight": [[LOOP_OF_9, [(0.58, 0.14), (0.54, 1)]]],
    "9 curved": [
        [LOOP_OF_9, [(0.58, 0.14), (0.6, 0.5), (0.5, 0.86), (0.28, 1), (0.1, 0.93)]]
    ],
}
PLAIN = {"height": (160, 200), "pen": 20, "shear": (-0.1, 0.1), "move": (0, 12)}
KINDS = {  # what differs from plain; all but shear in pixels of the field
    "plain": {},
    "thin": {"pen": 8},
    "thick": {"pen": 34},
    "small": {"height": (60, 90), "pen": 10},
    "off-centre": {"height": (100, 130), "pen": 14, "move": (55, 75)},
    "slanted": {"shear": (0.3, 0.55)},
}


def drawings(seed: int = SEED) -> list[dict]:
    """All drawings: every skeleton in every kind, TIMES times."""
    generator = random.Random(seed)
    made = []
    for kind, differs in KINDS.items():
        for name, skeleton in SKELETONS.items():
            for _ in range(TIMES):
                strokes = drawn(skeleton, {**PLAIN, **differs}, generator)
                made.append(
                    {
                        "digit": int(name[0]),
                        "skeleton": name,
                        "kind": kind,
                        "strokes": strokes,
                    }
                )
    return made


def drawn(skeleton, kind, generator) -> list[dict]:
    """One drawing of a skeleton: bent a little, stretched, turned, sheared and moved."""

    def either_way(low, high):
        return generator.choice((-1, 1)) * generator.uniform(low, high)

    height = generator.uniform(*kind["height"])
    stretch = generator.uniform(0.85, 1.15)
    angle = math.radians(generator.uniform(-6, 6))
    low, high = kind["shear"]
    shear = generator.uniform(low, high) if low < 0 else either_way(low, high)
    middle_x = FIELD / 2 + either_way(*kind["move"])
    middle_y = FIELD / 2 + either_way(*kind["move"])

    def place(point):
        x, y = point[0] - 0.35, point[1] - 0.5  # from the middle of the digit
        x = stretch * x - shear * y  # a positive shear leans to the right
        x, y = (
            x * math.cos(angle) - y * math.sin(angle),
            x * math.sin(angle) + y * math.cos(angle),
        )
        inside = kind["pen"] / 2 + 1
        return [
            round(min(FIELD - inside, max(inside, middle + height * v)))
            for middle, v in ((middle_x, x), (middle_y, y))
        ]

    strokes = []
    for stroke in skeleton:
        points = []
        for piece in bent(stroke, generator):
            for point in curve(piece):
                if points[-2:] != place(point):
                    points += place(point)
        strokes.append({"width": kind["pen"], "points": points})
    return strokes


def bent(stroke, generator, spread=0.02):
    """A stroke with every point moved at random; its corners stay joined."""
    moved = []
    for piece in stroke:
        points = [
            (x + generator.gauss(0, spread), y + generator.gauss(0, spread))
            for x, y in piece
        ]
        if moved:
            points[0] = moved[-1][-1]
        moved.append(points)
    return moved


def curve(points, steps=6):
    """A smooth curve through points (Catmull and Rom's), as a list of points."""
    if len(points) == 2:
        return points
    ends = [points[0], *points, points[-1]]
    path = [points[0]]
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for t in (i / steps for i in range(1, steps + 1)):
            path.append(
                tuple(
                    0.5
                    * (
                        2 * b[k]
                        + (c[k] - a[k]) * t
                        + (2 * a[k] - 5 * b[k] + 4 * c[k] - d[k]) * t**2
                        + (3 * b[k] - a[k] - 3 * c[k] + d[k]) * t**3
                    )
                    for k in (0, 1)
                )
            )
    return path
