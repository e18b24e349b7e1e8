"""Metrics of several models as bars."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np

COLOURS = ("#2563eb", "#93c5fd")


def draw_bars(axis: plt.Axes, models: Mapping[str, Mapping[str, float]]) -> None:
    """Horizontal bars: for each model by name up to two metrics by name, in percent."""
    places = np.arange(len(models))
    metrics = list(next(iter(models.values())))[: len(COLOURS)]
    height = 0.8 / len(metrics)
    for number, (metric, colour) in enumerate(zip(metrics, COLOURS, strict=False)):
        offset = (number - (len(metrics) - 1) / 2) * height
        values = [model[metric] for model in models.values()]
        drawn = axis.barh(places + offset, values, 0.95 * height, label=metric, color=colour)
        axis.bar_label(drawn, fmt="%.1f", padding=3)
    axis.set_yticks(places, list(models))
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("percent, test split")
    axis.legend(loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
