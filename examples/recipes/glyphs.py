"""Procedurally drawn glyphs and their captions: the images that clip-tiny is trained on.

Letters and digits come from Pillow's built-in FreeType font, digits also from jittered handwriting-like strokes.
A view is one glyph under a sheared, stretched, mirrored, rotated and filtered camera of low resolution (8 to 32
pixels a side, enlarged to 32). No image of any data set is used.
"""

import math
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

IMAGE_SIZE = 32
BANK_SIZE = 40  # pixels of a stored glyph; finer than any view
ANGLE_STEP = 10  # degrees between the angles that captions can name
CLASSES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FILTERS = ("", "blurred", "edges only", "noisy", "low contrast")
FILTER_ODDS = (0.6, 0.12, 0.12, 0.08, 0.08)
# How much each property counts in the likeness of two views. The angle counts most within a class: a 6 turned by 180
# degrees is a 9, and what tells them apart from their neighbours is the pair of class and angle.
SHARES = {"class": 0.1, "angle": 0.1, "axis": 0.15, "posed": 0.4, "mirrored": 0.03, "inverted": 0.1, "effect": 0.12}
LOW_SIDES = (8, 8, 8, 10, 12, 16, 28)  # 8 three times: small grey digits are the main use

# Each digit's ways of being written; a way is a list of curves through points in the unit square, y downwards.
_STROKES: dict[str, list[list[list[tuple[float, float]]]]] = {
    "0": [[[(0.5, 0), (0.15, 0.3), (0.15, 0.7), (0.5, 1), (0.85, 0.7), (0.85, 0.3), (0.5, 0)]]],
    "1": [
        [[(0.35, 0.25), (0.55, 0)], [(0.55, 0), (0.55, 1)]],
        [[(0.5, 0), (0.5, 1)]],
        [[(0.3, 0.25), (0.55, 0)], [(0.55, 0), (0.55, 1)], [(0.3, 1), (0.8, 1)]],
    ],
    "2": [
        [[(0.15, 0.2), (0.5, 0), (0.85, 0.25), (0.5, 0.6), (0.1, 1)], [(0.1, 1), (0.9, 1)]],
        [[(0.2, 0.15), (0.55, 0), (0.8, 0.25), (0.55, 0.65), (0.2, 0.95), (0.4, 0.9), (0.9, 1)]],
    ],
    "3": [
        [[(0.15, 0.1), (0.55, 0), (0.8, 0.22), (0.42, 0.47)], [(0.42, 0.47), (0.85, 0.72), (0.5, 1), (0.1, 0.88)]],
        [[(0.15, 0), (0.85, 0)], [(0.85, 0), (0.45, 0.42)], [(0.45, 0.42), (0.85, 0.7), (0.5, 1), (0.1, 0.9)]],
    ],
    "4": [
        [[(0.6, 0), (0.1, 0.65)], [(0.1, 0.65), (0.9, 0.65)], [(0.65, 0.3), (0.65, 1)]],
        [[(0.2, 0), (0.15, 0.5)], [(0.15, 0.5), (0.85, 0.5)], [(0.8, 0), (0.72, 1)]],
        [[(0.55, 0), (0.1, 0.55)], [(0.1, 0.55), (0.85, 0.6)], [(0.6, 0.4), (0.5, 1)]],
    ],
    "5": [
        [[(0.85, 0), (0.2, 0)], [(0.2, 0), (0.15, 0.45)],
         [(0.15, 0.45), (0.6, 0.38), (0.85, 0.7), (0.5, 1), (0.1, 0.9)]],
    ],
    "6": [
        [[(0.7, 0), (0.3, 0.3), (0.12, 0.7), (0.45, 1), (0.82, 0.75), (0.5, 0.5), (0.17, 0.7)]],
        [[(0.4, 0), (0.2, 0.5), (0.3, 0.95), (0.7, 0.95), (0.8, 0.7), (0.5, 0.55), (0.2, 0.75)]],
    ],
    "7": [
        [[(0.1, 0), (0.9, 0)], [(0.9, 0), (0.4, 1)]],
        [[(0.1, 0.05), (0.85, 0)], [(0.85, 0), (0.45, 1)], [(0.25, 0.5), (0.8, 0.5)]],
    ],
    "8": [
        [[(0.75, 0.15), (0.5, 0), (0.22, 0.2), (0.5, 0.46), (0.82, 0.75), (0.5, 1), (0.15, 0.75),
          (0.5, 0.46), (0.78, 0.2)]],
        [[(0.5, 0), (0.25, 0.22), (0.5, 0.45), (0.75, 0.22), (0.5, 0)],
         [(0.5, 0.45), (0.15, 0.75), (0.5, 1), (0.85, 0.75), (0.5, 0.45)]],
    ],
    "9": [
        [[(0.8, 0.25), (0.5, 0.02), (0.18, 0.25), (0.45, 0.5), (0.8, 0.27), (0.75, 0.6), (0.55, 1)]],
        [[(0.75, 0.2), (0.45, 0), (0.2, 0.25), (0.5, 0.48), (0.78, 0.2)],
         [(0.78, 0.2), (0.75, 0.75), (0.5, 1), (0.2, 0.9)]],
    ],
}  # fmt: skip


@dataclass(frozen=True)
class GlyphBank:
    """Upright glyphs: `images` (n, 1, BANK_SIZE, BANK_SIZE) in [0, 1], light on dark, and the rows of each class."""

    images: Tensor
    rows: dict[str, list[int]]


def draw_bank(rng: random.Random, per_class: int = 120) -> GlyphBank:
    """Draw `per_class` glyphs of every letter and three times as many of every digit."""
    images, rows = [], {}
    for name in CLASSES:
        rows[name] = []
        for number in range(per_class * (3 if name.isdigit() else 1)):
            written = name.isdigit() and number % 3 != 0
            picture = _draw_written(name, rng) if written else _draw_printed(name, rng)
            rows[name].append(len(images))
            images.append(torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8))
    stacked = torch.stack(images).reshape(-1, 1, BANK_SIZE, BANK_SIZE).float() / 255
    return GlyphBank(stacked, rows)


@dataclass(frozen=True)
class Views:
    """A batch: images (n, 3, 32, 32) in [0, 1], a caption of each, and its truth (n, features) as unit vectors.

    The product of two truths is the share of what the two views have in common; in the angle it is a smooth function
    of the difference, a sum of its first two harmonics.
    """

    images: Tensor
    captions: list[str]
    truths: Tensor


def draw_views(bank: GlyphBank, size: int, rng: random.Random, noise: torch.Generator) -> Views:
    """One batch of `size` views.

    Half of the batch comes in groups of eight that share everything but the glyph's drawing and the angle, so that
    the loss cannot be lowered by the class and the filter alone.
    """
    states = _draw_states(size, rng)
    glyphs = bank.images[[rng.choice(bank.rows[state.name]) for state in states]]
    pieces = []
    for start in range(0, size, 32):
        side = rng.choice(LOW_SIDES)
        part = states[start : start + 32]
        pieces.append(_photograph(glyphs[start : start + 32], part, side, rng.random() < 0.5, rng, noise))
    images = torch.cat(pieces).clamp(0, 1).expand(-1, 3, -1, -1)
    return Views(images, [state.caption(rng) for state in states], _truths(states))


@dataclass(frozen=True)
class _State:
    name: str
    angle: float
    mirrored: bool
    inverted: bool
    effect: str

    def caption(self, rng: random.Random) -> str:
        # The named angle is one of the two nearest, the nearer the likelier: neighbours become soft targets.
        step = math.floor(self.angle / ANGLE_STEP + rng.random()) % (360 // ANGLE_STEP)
        parts = [f"the {'digit' if self.name.isdigit() else 'letter'} {self.name}"]
        parts += ["mirrored"] if self.mirrored else []
        parts += [f"rotated by {step * ANGLE_STEP} degrees"]
        parts += ["dark on light"] if self.inverted else []
        parts += [self.effect] if self.effect else []
        return ", ".join(parts)


def _truths(states: list[_State]) -> Tensor:
    angle = torch.tensor([state.angle for state in states]).deg2rad()[:, None]
    mirrored, inverted = (torch.tensor([[getattr(state, key)] for state in states]) for key in ("mirrored", "inverted"))
    classes = torch.eye(len(CLASSES))[[CLASSES.index(state.name) for state in states]]
    turn = torch.cat([angle.cos(), angle.sin()], 1)
    blocks = {
        "class": classes,
        "angle": turn,
        "axis": torch.cat([(2 * angle).cos(), (2 * angle).sin()], 1),
        "posed": (classes[:, :, None] * turn[:, None]).flatten(1),
        "mirrored": torch.where(mirrored, 1.0, -1.0),
        "inverted": torch.where(inverted, 1.0, -1.0),
        "effect": torch.eye(len(FILTERS))[[FILTERS.index(state.effect) for state in states]],
    }
    return torch.cat([math.sqrt(SHARES[name]) * block for name, block in blocks.items()], 1)


def _draw_states(size: int, rng: random.Random) -> list[_State]:
    def any_state() -> _State:
        name = rng.choice(CLASSES[:10] if rng.random() < 0.85 else CLASSES[10:])
        effect = rng.choices(FILTERS, FILTER_ODDS)[0]
        return _State(name, rng.uniform(0, 360), rng.random() < 0.12, rng.random() < 0.3, effect)

    states = []
    while len(states) < size // 2:
        shared = any_state()
        states += [_State(shared.name, rng.uniform(0, 360), *_look(shared)) for _ in range(8)]
    states += [any_state() for _ in range(size - len(states))]
    rng.shuffle(states)
    return states


def _look(state: _State) -> tuple[bool, bool, str]:
    return state.mirrored, state.inverted, state.effect


def _photograph(
    glyphs: Tensor, states: list[_State], side: int, lower_first: bool, rng: random.Random, noise: torch.Generator
) -> Tensor:
    """Views of `glyphs` (n, 1, h, w) at `side` pixels, enlarged to 32; lower_first rotates the low-resolution image."""
    n = len(states)
    shape = _shapes(n, rng)
    turn = torch.stack([_rotation(state.angle, state.mirrored) for state in states])
    if lower_first:
        low = F.interpolate(_warp(glyphs, shape, 32, noise), size=side, mode="area")
        low = _warp(low, turn, side, None)
    else:
        low = F.interpolate(_warp(glyphs, shape @ turn, 64, noise), size=side, mode="area")
    low = low * torch.empty(n, 1, 1, 1).uniform_(0.75, 1.25, generator=noise)
    low = _filtered(low.clamp(0, 1), [state.effect for state in states], rng, noise)
    inverted = torch.tensor([state.inverted for state in states])[:, None, None, None]
    low = torch.where(inverted, 1 - low, low)
    return F.interpolate(low, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", antialias=True)


def _warp(images: Tensor, matrices: Tensor, side: int, noise: torch.Generator | None) -> Tensor:
    """Resample under output-to-input matrices (n, 2, 2); with `noise` also under a smooth random displacement."""
    n = len(images)
    affine = torch.cat([matrices, torch.zeros(n, 2, 1)], dim=2)
    grid = F.affine_grid(affine, [n, 1, side, side], align_corners=False)
    if noise is not None:
        bends = torch.randn(n, 2, 4, 4, generator=noise) * 0.03
        grid = grid + F.interpolate(bends, size=(side, side), mode="bicubic").permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, align_corners=False)


def _rotation(angle: float, mirrored: bool) -> Tensor:
    turn = math.radians(angle)
    matrix = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return torch.diag(torch.tensor([-1.0, 1.0])) @ matrix if mirrored else matrix


def _shapes(n: int, rng: random.Random) -> Tensor:
    """Random shear, stretch and a small slant, as output-to-input matrices (n, 2, 2)."""
    rows = []
    for _ in range(n):
        wide, tall = rng.uniform(0.9, 1.3), rng.uniform(0.88, 1.1)
        slant = math.radians(rng.gauss(0, 3))
        tilt = torch.tensor([[math.cos(slant), -math.sin(slant)], [math.sin(slant), math.cos(slant)]])
        rows.append(tilt @ torch.tensor([[wide, rng.gauss(0, 0.15)], [0.0, tall]]))
    return torch.stack(rows)


def _filtered(images: Tensor, effects: list[str], rng: random.Random, noise: torch.Generator) -> Tensor:
    sigma = images.shape[-1] * rng.uniform(0.07, 0.15)
    versions = {
        "": images,
        "blurred": _gaussian(images, sigma),
        "edges only": _edges(images),
        "noisy": images + rng.uniform(0.1, 0.3) * torch.randn(images.shape, generator=noise),
        "low contrast": 0.5 + (images - 0.5) * rng.uniform(0.25, 0.5),
    }
    return torch.stack([versions[effect][row] for row, effect in enumerate(effects)]).clamp(0, 1)


def _gaussian(images: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(2.5 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    line = line / line.sum()
    across = F.conv2d(F.pad(images, (radius, radius, 0, 0)), line[None, None, None, :])
    return F.conv2d(F.pad(across, (0, 0, radius, radius)), line[None, None, :, None])


def _edges(images: Tensor) -> Tensor:
    sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(padded, torch.stack([sobel, sobel.T])[:, None])
    return (slopes.square().sum(1, keepdim=True).sqrt() / 4).clamp(0, 1)


def _draw_printed(name: str, rng: random.Random) -> Image.Image:
    text = name.lower() if name.isalpha() and rng.random() < 0.3 else name
    font = ImageFont.load_default(size=rng.uniform(40, 90))
    canvas = Image.new("L", (160, 160))
    ImageDraw.Draw(canvas).text((80, 80), text, 255, font, anchor="mm", stroke_width=rng.randint(0, 6))
    return _fit(canvas, rng)


def _draw_written(name: str, rng: random.Random) -> Image.Image:
    canvas = Image.new("L", (160, 160))
    draw = ImageDraw.Draw(canvas)
    width = rng.uniform(7, 17)
    wobble = rng.uniform(0.01, 0.05)
    moved: dict[tuple[float, float], tuple[float, float]] = {}  # a point shared by two curves moves once
    for curve in rng.choice(_STROKES[name]):
        for point in curve:
            if point not in moved:
                moved[point] = (point[0] + rng.gauss(0, wobble), point[1] + rng.gauss(0, wobble))
        path = [(45 + 70 * x, 30 + 100 * y) for x, y in _smooth([moved[point] for point in curve])]
        draw.line(path, fill=255, width=round(width), joint="curve")
        for x, y in (path[0], path[-1]):
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return _fit(canvas, rng)


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Catmull-Rom curve through the points, eight samples a piece."""
    if len(points) < 3:
        return points
    ends = [points[-2] if points[0] == points[-1] else points[0]] + points
    ends.append(points[1] if points[0] == points[-1] else points[-1])
    path = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for t in (i / 8 for i in range(8)):
            x, y = (
                0.5 * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t**2 + (3 * q - p - 3 * r + s) * t**3)
                for p, q, r, s in zip(a, b, c, d, strict=True)
            )
            path.append((x, y))
    return [*path, points[-1]]


def _fit(canvas: Image.Image, rng: random.Random) -> Image.Image:
    """Crop to the ink and paste it centred, filling the frame's height (or width, where it is wider)."""
    ink = canvas.crop(canvas.getbbox())
    scale = BANK_SIZE * rng.uniform(0.85, 1.0) / max(ink.size)
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    frame = Image.new("L", (BANK_SIZE, BANK_SIZE))
    frame.paste(ink.resize(size, Image.Resampling.LANCZOS), ((BANK_SIZE - size[0]) // 2, (BANK_SIZE - size[1]) // 2))
    return frame
