"""One look for every figure of the book."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from topo_utils.complexity import relative_depth

__all__ = ["COLOURS", "log_counts", "plot_betti_curves", "plot_curves", "plot_points", "use_style"]

#: Okabe and Ito's palette, told apart with any colour vision; in the order in which it is used.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def use_style():
    """Set matplotlib to the look of the book, vector graphics in notebooks included."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "font.size": 11,
            "axes.titlesize": 11,
            "legend.frameon": False,
            "figure.figsize": (7.2, 4.2),
            "figure.constrained_layout.use": True,
            # The page may be dark: figures bring their own paper.
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "svg.hashsalt": "topobook",  # the same figure gives the same file
        }
    )
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # not in a notebook
        return
    set_matplotlib_formats("svg")


def log_counts(ax):
    """Make the vertical axis logarithmic, its ticks plain numbers: 200, 500, 1,000."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def plot_curves(ax, curves, *, dashed=(), ylabel="Ω, mean over images"):
    """Mean complexity on relative depth, with a band of one standard error.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    curves : dict of str to array-like (N, L)
        Omega by image and block, by label. Labels that agree up to " (" share a colour.
    dashed : sequence of str
        Labels to draw dashed.
    ylabel : str
        What is on the vertical axis.
    """
    colours = {}
    for label, omega in curves.items():
        omega = np.asarray(omega, dtype=float)
        colour = colours.setdefault(label.partition(" (")[0], COLOURS[len(colours) % len(COLOURS)])
        depth, mean = relative_depth(omega.shape[1]), omega.mean(axis=0)
        style = "--" if label in dashed else "-"
        ax.plot(depth, mean, style, color=colour, marker="o", markersize=3, label=label)
        if len(omega) > 1:
            error = omega.std(axis=0, ddof=1) / np.sqrt(len(omega))
            ax.fill_between(depth, mean - error, mean + error, color=colour, alpha=0.18, lw=0)
    ax.set(xlabel="relative depth (first block 0, last block 1)", ylabel=ylabel)
    log_counts(ax)
    ax.legend(fontsize=9)


def plot_betti_curves(ax, thresholds, betti):
    """Betti numbers (T, K), K up to 3, over thresholds (T,); a step holds until the next."""
    names = ("β₀ (components)", "β₁ (tunnels)", "β₂ (cavities)")
    for name, curve, colour in zip(names, np.asarray(betti).T, COLOURS, strict=False):
        ax.step(thresholds, curve, where="post", color=colour, label=name)
    ax.set(ylabel="Betti number", ylim=(0, None))
    ax.legend(fontsize=9)


def plot_points(ax, points, title=""):
    """The points of a small volume that are set, as cubes; `ax` has projection "3d".

    Two cubes that share a face stand for two points joined by an edge.
    """
    ax.voxels(points, facecolors=COLOURS[4] + "b0", edgecolors="#00517f", linewidth=0.4)
    ax.set(title=title, box_aspect=points.shape)
    ax.set_axis_off()
