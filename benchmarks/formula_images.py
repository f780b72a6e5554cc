"""Images drawn from mathematical formulas, in batches, on any device; the parameters of the formulas are the labels.

An image is a scene: a background and a few objects that cover one another. What it looks like is drawn from banks of
formulas, each independently of the others, so that no bank's label can be guessed from another's:

    palette   colours along a path through colour space
    texture   three patterns: sums of waves along bent axes, and noise with a power-law spectrum
    contour   the outline of the objects: superposed waves around a circle
    style     outlines, pixel size, grey levels, blur, grain, shading, number and size of objects
    fractal   an iterated function system, drawn as points over half of the images

Everything else is chance: where objects are, how large, which pattern they carry, and a change of each parameter by a
few percent, so that one label stands for a neighbourhood of formulas and not for one drawing.

Sources: Kataoka et al. 2020 (arXiv:2101.08515), iterated function systems; Kataoka et al. 2022 and Takashima et al.
2023 (arXiv:2206.09132, arXiv:2303.01112), contours; Nakamura et al. 2024 (arXiv:2408.00677), small changes of
parameters around one formula; Lee et al. 2001, dead leaves. The code is our own.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

NO_LABEL = -100  # What `cross_entropy` leaves out.
N_COLOURS = 64  # Entries of a palette.
N_ANGLES = 64  # Entries of a contour; a power of 2.
N_PATTERNS = 3  # Patterns of a texture.
N_WAVES = 3  # Waves of a pattern.
N_MAPS = 4  # Affine maps of a fractal.
MAX_OBJECTS = 7
N_CHAINS, N_POINTS_PER_CHAIN, N_SKIPPED = 160, 14, 6  # Points of a fractal; those skipped are not on it yet.
_TAU = 2 * torch.pi


@dataclass(frozen=True)
class BankSizes:
    """How many formulas there are of each kind: the numbers of classes."""

    palette: int = 1024
    texture: int = 1024
    contour: int = 512
    style: int = 128
    fractal: int = 256


@dataclass(frozen=True)
class Bank:
    """The formulas, as tensors whose first dimension is the label of the bank that their name begins with."""

    palette_colours: Tensor  # [P, N_COLOURS, 3] in [0, 1]
    texture_waves: Tensor  # [T, N_PATTERNS, N_WAVES, 5]: frequency, angle, amplitude, bend, frequency of the bend
    texture_patterns: Tensor  # [T, N_PATTERNS, 7]: share of noise, slope, anisotropy, hardness, levels, first, last
    contour_radii: Tensor  # [S, N_ANGLES], about 1
    style_values: Tensor  # [F, 10], see `_styles`
    fractal_maps: Tensor  # [M, N_MAPS, 2, 3], scaled so that the attractor fills [-1, 1]

    def to(self, device: torch.device | str) -> "Bank":
        """The same bank on `device`."""
        return Bank(**{column.name: getattr(self, column.name).to(device) for column in fields(self)})


def make_bank(sizes: BankSizes, *, seed: int) -> Bank:
    """The formulas that belong to `seed`, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return Bank(
        palette_colours=_palettes(sizes.palette, generator),
        texture_waves=_waves(sizes.texture, generator),
        texture_patterns=_patterns(sizes.texture, generator),
        contour_radii=_contours(sizes.contour, generator),
        style_values=_styles(sizes.style, generator),
        fractal_maps=_fractals(sizes.fractal, generator),
    )


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _palettes(n: int, generator: torch.Generator) -> Tensor:
    """Half smooth paths through colour space, half steps between a few colours of neighbouring hues."""
    along = torch.linspace(0, 1, N_COLOURS).view(1, -1, 1)
    centre, phase = _uniform(0.25, 0.75, (n, 1, 3), generator), _uniform(0, 1, (n, 1, 3), generator)
    phase = phase[..., :1] + (phase - phase[..., :1]) * _uniform(0, 1, (n, 1, 1), generator)  # Many are nearly grey.
    smooth = centre + 0.45 * torch.cos(_TAU * (along * _uniform(0.3, 2.0, (n, 1, 3), generator) + phase))
    n_knots = 7
    hue = _uniform(0, 1, (n, 1), generator) + _normal((n, n_knots), generator) * _uniform(0.02, 0.4, (n, 1), generator)
    saturation = (_uniform(0, 1, (n, 1), generator) + 0.2 * _normal((n, n_knots), generator)).clamp(0, 1)
    value = _uniform(0.05, 1, (n, n_knots), generator) ** (3 ** _uniform(-1, 1, (n, 1), generator))
    wheel = (hue.unsqueeze(-1) + torch.tensor([0.0, 2 / 3, 1 / 3])) % 1.0
    pure = ((wheel * 6 - 3).abs() - 1).clamp(0, 1)
    knots = value.unsqueeze(-1) * (1 - saturation.unsqueeze(-1) * (1 - pure))  # [n, n_knots, 3]
    stepped = functional.interpolate(knots.transpose(1, 2), N_COLOURS, mode="linear", align_corners=True)
    is_smooth = _uniform(0, 1, (n, 1, 1), generator) < 0.5
    return torch.where(is_smooth, smooth, stepped.transpose(1, 2)).clamp(0, 1)


def _waves(n: int, generator: torch.Generator) -> Tensor:
    shape = (n, N_PATTERNS, N_WAVES)
    frequency = 2 ** _uniform(-0.5, 4.2, (n, N_PATTERNS, 1), generator) * _uniform(0.5, 1.5, shape, generator)
    spread = 10 ** _uniform(-2, 0.3, (n, N_PATTERNS, 1), generator)  # From parallel waves to all directions.
    angle = _uniform(0, torch.pi, (n, N_PATTERNS, 1), generator) + spread * _normal(shape, generator)
    amplitude = _uniform(0, 1, shape, generator)
    bend = _uniform(-0.5, 1, (n, N_PATTERNS, 1), generator).clamp(min=0).expand(shape) * 0.3
    return torch.stack([frequency, angle, amplitude, bend, _uniform(0.5, 5, shape, generator)], dim=-1)


def _patterns(n: int, generator: torch.Generator) -> Tensor:
    shape = (n, N_PATTERNS)
    noise = _uniform(-0.4, 1.4, shape, generator).clamp(0, 1)
    hardness = 4 ** _uniform(-0.5, 2, shape, generator)
    levels = torch.where(_uniform(0, 1, shape, generator) < 0.5, 2 ** _uniform(1, 3, shape, generator), 64.0)
    first = _uniform(0, 1, shape, generator)
    last = (first + _uniform(-0.6, 0.6, shape, generator)).clamp(0, 1)
    slope, anisotropy = _uniform(0.3, 3, shape, generator), 6 ** _uniform(-1, 1, shape, generator)
    return torch.stack([noise, slope, anisotropy, hardness, levels.round(), first, last], dim=-1)


def _contours(n: int, generator: torch.Generator) -> Tensor:
    """Circles with a few waves on them, some of them sharpened to polygons and stars."""
    angles = torch.arange(N_ANGLES).view(1, 1, -1) * (_TAU / N_ANGLES)
    order = torch.randint(1, 9, (n, 3, 1), generator=generator).float()
    amplitude = _uniform(0, 1, (n, 3, 1), generator) ** 2 * _uniform(0, 0.5, (n, 1, 1), generator)
    waves = (amplitude * torch.cos(order * angles + _uniform(0, _TAU, (n, 3, 1), generator))).sum(1)
    corners = torch.randint(3, 7, (n, 1), generator=generator).float()
    sector = (angles[:, 0] * corners / _TAU % 1 - 0.5) * _TAU / corners
    polygon = torch.cos(torch.pi / corners) / torch.cos(sector)
    is_polygon = _uniform(0, 1, (n, 1), generator) < 0.4
    return (torch.where(is_polygon, polygon * (1 + 0.3 * waves), 1 + waves)).clamp(0.1, 2.0)


def _styles(n: int, generator: torch.Generator) -> Tensor:
    """[n, 10]: outline width and brightness, pixel size, levels, blur, grain, shading, objects, their size, stretch."""

    def sometimes(probability: float, low: float, high: float, otherwise: float = 0.0) -> Tensor:
        value = _uniform(low, high, (n,), generator)
        return torch.where(_uniform(0, 1, (n,), generator) < probability, value, torch.full((n,), otherwise))

    columns = [
        sometimes(0.5, 0.05, 0.4),
        sometimes(0.3, 1.0, 1.6, otherwise=0.15),
        2 ** sometimes(0.4, 1.0, 2.99).floor(),
        sometimes(0.3, 2, 9, otherwise=256).floor(),
        sometimes(0.4, 0.2, 1.0),
        sometimes(0.4, 0.01, 0.12),
        sometimes(0.6, 0.1, 0.9),
        _uniform(1.5, MAX_OBJECTS + 0.99, (n,), generator),
        _uniform(0.12, 0.45, (n,), generator),
        _uniform(0, 0.7, (n,), generator),
    ]
    return torch.stack(columns, dim=-1)


def _fractals(n: int, generator: torch.Generator) -> Tensor:
    """Random contractions, moved and scaled so that the attractor fills the square from -1 to 1."""
    turns = _uniform(-torch.pi, torch.pi, (n, N_MAPS, 2), generator)
    scales = _uniform(0.2, 0.8, (n, N_MAPS, 2), generator) * torch.where(
        torch.rand((n, N_MAPS, 2), generator=generator) < 0.3, -1.0, 1.0
    )
    linear = _rotation(turns[..., 0]) @ torch.diag_embed(scales) @ _rotation(turns[..., 1])
    maps = torch.cat([linear, _uniform(-1, 1, (n, N_MAPS, 2, 1), generator)], dim=-1)
    points = _chaos_game(maps, generator)  # [n, points, 2]
    ends = torch.tensor([0.02, 0.98])
    parts = [part.quantile(ends, dim=1) for part in points.split(1024)]  # It takes 16 million numbers at most.
    low, high = torch.cat(parts, dim=1)
    centre, half = (low + high) / 2, ((high - low) / 2).clamp(min=1e-3)
    # With y = (x - centre) / half, x -> A x + b becomes y -> (A (half y + centre) + b - centre) / half.
    centre, half = centre.view(n, 1, 2, 1), half.view(n, 1, 2, 1)
    offset = (linear @ centre + maps[..., 2:] - centre) / half
    return torch.cat([linear * half.transpose(-1, -2) / half, offset], dim=-1)


def _rotation(angle: Tensor) -> Tensor:
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)


def _chaos_game(maps: Tensor, generator: torch.Generator) -> Tensor:
    """[B, points, 2] points on the attractors of `maps` [B, N_MAPS, 2, 3], by many short random walks."""
    n = len(maps)
    flat = maps.reshape(-1, 6)
    first = torch.arange(n, device=maps.device).view(-1, 1) * N_MAPS
    x = y = torch.zeros(n, N_CHAINS, device=maps.device)
    points = []
    for step in range(N_SKIPPED + N_POINTS_PER_CHAIN):
        chosen = torch.randint(0, N_MAPS, (n, N_CHAINS), generator=generator, device=maps.device)
        a, b, c, d, e, f = flat[first + chosen].unbind(-1)
        x, y = a * x + b * y + c, d * x + e * y + f
        if step >= N_SKIPPED:
            points.append(torch.stack([x, y], dim=-1))
    return torch.cat(points, dim=1)


class Renderer:
    """Draws batches of labelled images."""

    def __init__(self, bank: Bank, *, image_size: int, device: torch.device | str = "cpu") -> None:
        self.bank = bank.to(device)
        self.image_size = image_size
        self.device = torch.device(device)
        along = (torch.arange(image_size, device=device) + 0.5) * (2 / image_size) - 1
        self._y, self._x = along.view(1, 1, -1, 1), along.view(1, 1, 1, -1)

    def render(self, n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """`n` images, [n, 3, S, S] in [0, 1], and their labels, [n] each, by the name of the bank."""
        labels = self._draw_labels(n, generator)
        style = self.bank.style_values[labels["style"]]
        patterns = self._patterns(labels["texture"], generator)
        colour, light, is_blank = self._scene(patterns, labels["contour"], style, generator)
        self._add_fractal(colour, light, is_blank, labels["fractal"], generator)
        palette = self.bank.palette_colours[labels["palette"]]
        images = _look_up(palette, colour) * light.unsqueeze(1)
        blank = _uniform(-1, 2, (n, 1, 1, 1), generator).clamp(0, 1)  # A third each is black, grey and white.
        images = torch.where(is_blank.unsqueeze(1), blank, images)
        return self._finish(images, style, generator), labels

    def _draw_labels(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        bank = self.bank
        sizes = {
            "palette": len(bank.palette_colours),
            "texture": len(bank.texture_waves),
            "contour": len(bank.contour_radii),
            "style": len(bank.style_values),
            "fractal": len(bank.fractal_maps),
        }
        labels = {
            name: torch.randint(0, size, (n,), generator=generator, device=self.device) for name, size in sizes.items()
        }
        is_absent = _uniform(0, 1, (n,), generator) < 0.5
        labels["fractal"] = labels["fractal"].masked_fill(is_absent, NO_LABEL)
        return labels

    def _patterns(self, texture: Tensor, generator: torch.Generator) -> Tensor:
        """[B, N_PATTERNS, S, S] places on the palette, in [0, 1]."""
        waves, pattern = self.bank.texture_waves[texture], self.bank.texture_patterns[texture]
        n = len(texture)
        noise_share, slope, anisotropy, hardness, levels, first, last = pattern.unsqueeze(-1).unsqueeze(-1).unbind(2)
        zoom = 1.25 ** _normal((n, 1, 1), generator)
        values = torch.zeros(n, N_PATTERNS, self.image_size, self.image_size, device=self.device)
        for wave in range(N_WAVES):
            values += self._wave(waves[:, :, wave], zoom, generator)
        norm = waves[..., 2].square().sum(-1, keepdim=True).sqrt().unsqueeze(-1).clamp(min=0.1)
        values *= (1 - noise_share) * 1.4 / norm
        values += noise_share * self._noise(slope, anisotropy, generator)
        values = torch.sigmoid(values * hardness)
        values = ((values * levels).floor() / (levels - 1)).clamp(0, 1)
        shift = 0.03 * _normal((n, N_PATTERNS, 1, 1), generator)
        return (first + (last - first) * values + shift).clamp(0, 1)

    def _wave(self, wave: Tensor, zoom: Tensor, generator: torch.Generator) -> Tensor:
        """[B, N_PATTERNS, S, S] one wave of `wave` [B, N_PATTERNS, 5] in each pattern."""
        n = len(wave)
        turn = 0.08 * _normal((n, 1), generator)  # The same for all waves of an image, up to chance.
        frequency, angle, amplitude, bend, bend_frequency = wave.unbind(-1)
        cosine, sine = ((angle + turn).cos().view(n, -1, 1, 1), (angle + turn).sin().view(n, -1, 1, 1))
        phase, bend_phase = _uniform(0, _TAU, (2, n, N_PATTERNS, 1, 1), generator)
        frequency = (frequency.unsqueeze(-1) * zoom).unsqueeze(-1) * torch.pi
        argument = frequency * (cosine * self._x + sine * self._y) + phase
        across = bend_frequency.view(n, -1, 1, 1) * torch.pi * (cosine * self._y - sine * self._x) + bend_phase
        argument += (bend.view(n, -1, 1, 1) * frequency.clamp(max=20)) * across.sin_()
        return argument.sin_() * amplitude.view(n, -1, 1, 1)

    def _noise(self, slope: Tensor, anisotropy: Tensor, generator: torch.Generator) -> Tensor:
        """[B, N_PATTERNS, S, S] noise of variance 1 whose amplitude falls with frequency to the power of -`slope`."""
        size = self.image_size
        rows = torch.fft.fftfreq(size, 1 / size, device=self.device).view(1, 1, -1, 1)
        columns = torch.fft.rfftfreq(size, 1 / size, device=self.device).view(1, 1, 1, -1)
        square = rows.square() * anisotropy + columns.square() / anisotropy
        amplitude = square.clamp(min=1e-2) ** (-slope / 2)
        amplitude[..., 0, 0] = 0
        spectrum = torch.view_as_complex(_normal((*amplitude.shape, 2), generator)) * amplitude
        noise = torch.fft.irfft2(spectrum, s=(size, size))
        return noise * noise.square().mean((-1, -2), keepdim=True).clamp(min=1e-12).rsqrt()  # Its mean is 0.

    def _scene(
        self, patterns: Tensor, contour: Tensor, style: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Place on the palette, brightness, and whether nothing is there, [B, S, S] each, of background and objects.

        One background in five is blank, as where a figure was cut out.
        """
        n = len(contour)
        shading = style[:, 6].view(n, 1, 1)
        tilt = _normal((2, n, 1, 1), generator)
        light = 1 + 0.35 * shading * (tilt[0] * self._x[0] + tilt[1] * self._y[0])
        colour = patterns[:, 0].clone()
        is_blank = (_uniform(0, 1, (n, 1, 1), generator) < 0.2).expand_as(colour)
        n_objects = style[:, 7].floor() + torch.randint(-1, 2, (n,), generator=generator, device=self.device)
        for number in range(MAX_OBJECTS):
            inside, edge, height = self._object(contour, style, generator)
            inside &= (number < n_objects.clamp(min=2)).view(n, 1, 1)
            edge &= inside
            is_blank = is_blank & ~inside
            source = torch.randint(0, N_PATTERNS, (n,), generator=generator, device=self.device)
            pattern = patterns[torch.arange(n, device=self.device), source]
            colour = torch.where(inside, pattern, colour)
            light = torch.where(inside, 1 + shading * (height - 0.5), light)
            light = torch.where(edge, style[:, 1].view(n, 1, 1), light)
        return colour, light, is_blank

    def _object(self, contour: Tensor, style: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Whether each pixel is inside, whether it is on the outline, and its height over the rim, [B, S, S] each."""
        n = len(contour)
        x0, y0 = _uniform(-1, 1, (2, n, 1, 1), generator)
        size = 2 * style[:, 8].view(n, 1, 1) * 1.5 ** _normal((n, 1, 1), generator)
        stretch = (style[:, 9].view(n, 1, 1) * _normal((n, 1, 1), generator)).clamp(-1, 1).exp()
        radii = self.bank.contour_radii[contour]
        radii = radii * (1 + 0.04 * _normal((n, 1), generator) * radii)
        dx, dy = (self._x[0] - x0) / (size * stretch), (self._y[0] - y0) / (size / stretch)
        turn = _uniform(0, 1, (n, 1, 1), generator) * N_ANGLES
        angle = torch.atan2(dy, dx).mul_(N_ANGLES / _TAU).add_(turn + N_ANGLES).long().bitwise_and_(N_ANGLES - 1)
        first = torch.arange(n, device=self.device).view(n, 1, 1) * N_ANGLES
        limit = radii.square().reshape(-1)[angle + first]
        share = (dx.square() + dy.square()) / limit  # 0 at the centre, 1 on the contour.
        return share < 1, share > (1 - style[:, 0].view(n, 1, 1)) ** 2, (1 - share).clamp(0, 1)

    def _add_fractal(
        self, colour: Tensor, light: Tensor, is_blank: Tensor, fractal: Tensor, generator: torch.Generator
    ) -> None:
        """Draw points of the labelled systems, as far as they have a label, into the other tensors."""
        rows = (fractal != NO_LABEL).nonzero().squeeze(1)
        n = len(rows)
        if not n:
            return
        maps = self.bank.fractal_maps[fractal[rows]]
        maps = maps * (1 + 0.03 * _normal(tuple(maps.shape), generator))
        points = _chaos_game(maps, generator)
        turn = _rotation(0.3 * _normal((n,), generator))
        scale = _uniform(0.35, 1.0, (n, 1, 1), generator)
        places = points @ turn.transpose(1, 2) * scale + _uniform(-0.5, 0.5, (n, 1, 2), generator)
        pixel = ((places + 1) * (self.image_size / 2)).floor().long()
        is_seen = ((pixel >= 0) & (pixel < self.image_size)).all(-1)
        area = self.image_size**2
        index = torch.where(is_seen, pixel[..., 1] * self.image_size + pixel[..., 0], area)
        mask = torch.zeros(n, area + 1, dtype=torch.bool, device=self.device)
        mask.scatter_(1, index, torch.ones_like(index, dtype=torch.bool))
        mask = mask[:, :area].view(n, self.image_size, self.image_size)
        shade, brightness = _uniform(0, 1, (n, 1, 1), generator), _uniform(0.6, 1.4, (n, 1, 1), generator)
        colour[rows] = torch.where(mask, shade, colour[rows])
        light[rows] = torch.where(mask, brightness, light[rows])
        is_blank[rows] &= ~mask

    def _finish(self, images: Tensor, style: Tensor, generator: torch.Generator) -> Tensor:
        """Pixel size, blur, levels and grain of the style; then a change of colours that no label depends on."""
        n = len(images)
        _, _, pixel_size, levels, blur, grain, *_ = style.view(n, -1, 1, 1, 1).unbind(1)
        for size in (2, 4):
            rows = (pixel_size.flatten() == size).nonzero().squeeze(1)
            small = images[rows, :, size // 2 :: size, size // 2 :: size]
            images[rows] = small.repeat_interleave(size, 2).repeat_interleave(size, 3)
        rows = (blur.flatten() > 0).nonzero().squeeze(1)
        padded = functional.pad(images[rows], (1, 1, 1, 1), mode="replicate")
        images[rows] = torch.lerp(images[rows], functional.avg_pool2d(padded, 3, stride=1), blur[rows])
        images = images.clamp(0, 1).mul_(levels).floor_().div_((levels - 1).clamp(min=1)).clamp_(0, 1)
        images += grain * _normal((n, 1, self.image_size, self.image_size), generator)
        gain = 1 + 0.06 * _normal((n, 3, 1, 1), generator) + 0.1 * _normal((n, 1, 1, 1), generator)
        return (images * gain + 0.04 * _normal((n, 1, 1, 1), generator)).clamp_(0, 1)


def _look_up(palette: Tensor, place: Tensor) -> Tensor:
    """[B, 3, S, S] colours of the places [B, S, S] in [0, 1] on the palettes [B, N_COLOURS, 3]."""
    n, height, width = place.shape
    index = (place * (N_COLOURS - 1)).round().long().view(n, 1, -1).expand(n, 3, -1)
    return palette.transpose(1, 2).gather(2, index).view(n, 3, height, width)
