"""Fusion of modalities on the unit sphere: slerp and spherical Bezier curves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from mmrepro.ops.losses import unit

PARALLEL_MARGIN = 1e-6  # 1 - cosine below which two unit vectors count as parallel in float32
OPPOSITE_MARGIN = 1e-5
RELEASED_MARGIN = 1e-8  # the program's clamp; in float32 1 - 1e-8 is 1, so it does nothing


def slerp(start: Tensor, end: Tensor, t: Tensor, safe: bool = True) -> Tensor:
    """Spherical linear interpolation from `start` (t = 0) to `end` (t = 1), row by row (methods, 5.1).

    Parameters
    ----------
    start, end
        Unit rows, shape (n, d).
    t
        Position on the arc in [0, 1], shape (n, 1) or a scalar.
    safe
        Keep result and gradient finite where the rows are parallel (the chord) or opposite (any great circle joins
        them: one is chosen, through the coordinate axis most perpendicular to `start`). Otherwise the program's
        clamp, which gives NaN for parallel rows in float32 (switch `angle_clamp`).

    Returns
    -------
    Tensor
        Unit rows, shape (n, d).
    """
    cosine = (start * end).sum(dim=-1, keepdim=True)
    if not safe:
        return _on_arc(start, end, t, torch.arccos(cosine.clamp(-1 + RELEASED_MARGIN, 1 - RELEASED_MARGIN)))
    opposite = cosine.detach() < -1 + OPPOSITE_MARGIN
    cosine = cosine.clamp(-1 + OPPOSITE_MARGIN, 1 - PARALLEL_MARGIN)
    arc = unit(_on_arc(start, end, t, torch.arccos(cosine)))
    if not bool(opposite.any()):
        return arc
    angle = torch.pi * torch.as_tensor(t, dtype=start.dtype, device=start.device)
    half_circle = torch.cos(angle) * start + torch.sin(angle) * _perpendicular(start)
    return torch.where(opposite, unit(half_circle), arc)


def _on_arc(start: Tensor, end: Tensor, t: Tensor, angle: Tensor) -> Tensor:
    return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)


def _perpendicular(x: Tensor) -> Tensor:
    """A unit row perpendicular to each unit row, without gradient."""
    x = x.detach()
    axis = torch.zeros_like(x).scatter_(-1, x.abs().argmin(dim=-1, keepdim=True), 1.0)
    return unit(axis - (axis * x).sum(dim=-1, keepdim=True) * x)


def spherical_bezier(points: Sequence[Tensor], t: Tensor, scheme: str = "triangular", safe: bool = True) -> Tensor:
    """Return the point at t of the spherical Bezier curve with the given control points (CM3; methods, 5.1).

    Parameters
    ----------
    points
        Control points in order, one a modality: unit rows, each of shape (n, d). One point is returned as it is.
    t
        Position in [0, 1], one a row, shape (n, 1), or a scalar; t = 0 gives the first point, t = 1 the last.
    scheme
        `triangular`: De Casteljau's scheme, b_i <- slerp(b_i, b_{i+1}; t) until one point is left. `iterated`: the
        running result is slerped with the next point, as two re-implementations do. They agree for two points.
    safe
        See `slerp`.

    Returns
    -------
    Tensor
        Unit rows, shape (n, d).
    """
    if scheme == "iterated":
        result = points[0]
        for point in points[1:]:
            result = slerp(result, point, t, safe)
        return result
    level = list(points)
    while len(level) > 1:
        level = [slerp(a, b, t, safe) for a, b in itertools.pairwise(level)]
    return level[0]
