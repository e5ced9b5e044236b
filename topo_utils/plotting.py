"""One look for every figure of the book, and the two kinds of interactive ones."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from topo_utils.complexity import relative_depth
from topo_utils.cubical import betti_numbers
from topo_utils.intervals import Estimate

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
            "savefig.dpi": 150,  # of the parts of it that are pictures
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


def _curves(profiles):
    """Of Omega (N, L) by label: label, colour, relative depth, mean, standard error (or None)."""
    colours = {}
    for label, omega in profiles.items():
        omega = np.asarray(omega, dtype=float)
        colour = colours.setdefault(label.partition(" (")[0], COLOURS[len(colours) % len(COLOURS)])
        error = omega.std(axis=0, ddof=1) / np.sqrt(len(omega)) if len(omega) > 1 else None
        yield label, colour, relative_depth(omega.shape[1]), omega.mean(axis=0), error


def plot_curves(ax, curves, *, dashed=(), ylabel="Ω, mean over images"):
    """Mean complexity on relative depth, with a band of one standard error.

    `curves` has Omega (N, L) by image and block, by label. Labels that agree up to " (" share a
    colour; those in `dashed` are drawn dashed.
    """
    positive = False
    for label, colour, depth, mean, error in _curves(curves):
        positive |= (mean > 0).any()
        band = Estimate(mean) if error is None else Estimate(mean, mean - error, mean + error)
        plot_estimates(ax, depth, band, label, dashed=label in dashed, color=colour)
    ax.set(xlabel="relative depth (first block 0, last block 1)", ylabel=ylabel)
    if positive:  # a logarithmic axis has no place for anything else
        log_counts(ax)
    ax.legend(fontsize=9)


def plot_estimates(ax, x, estimate, label, *, dashed=False, color=None):
    """A line of estimates (L,) at x (L,), with a band where they have an interval."""
    style = "--" if dashed else "-"
    (line,) = ax.plot(x, estimate.value, style, color=color, marker="o", markersize=3, label=label)
    if estimate.low is not None:
        band = {"color": line.get_color(), "alpha": 0.18, "lw": 0}
        ax.fill_between(x, estimate.low, estimate.high, **band)


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
    points = np.asarray(points, dtype=bool)
    faces = _surface(points)
    # One collection for all (matplotlib's own `voxels` makes one a cube, and takes seconds for
    # hundreds); of many faces a picture, so that the vector graphics stay small.
    many = len(faces) > 500
    cubes = Poly3DCollection(
        faces,
        facecolors=COLOURS[4] if many else COLOURS[4] + "b0",
        edgecolors="#00517f",
        linewidths=0.15 if many else 0.4,
        shade=True,
        rasterized=many,
    )
    ax.add_collection3d(cubes, autolim=False)
    limits = zip(("xlim", "ylim", "zlim"), points.shape, strict=True)
    ax.set(title=title, box_aspect=points.shape, **{name: (0, size) for name, size in limits})
    ax.set_axis_off()


def _surface(points):
    """Corners (F, 4, 3) of the squares between a cube that is set and one that is not."""
    faces = []
    for axis in range(3):
        width = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        changes = np.argwhere(np.diff(np.pad(points, width), axis=axis))
        u, v = np.delete(np.eye(3), axis, axis=0)
        faces.append(changes[:, None] + np.stack([0 * u, u, u + v, v]))
    return np.concatenate(faces)


def interactive_sublevel_sets(figure, volume, thresholds, *, start=0):
    """On a page of the book, put a slider over the threshold in the place of a static figure.

    It shows the sublevel set of a small volume (C, H, W) and its Betti numbers at increasing
    thresholds (T,), first at the stop `start`. The figure is named in its cell's metadata. The page
    draws it by itself; a notebook shows nothing.
    """
    volume, thresholds = np.asarray(volume, dtype=float), np.asarray(thresholds, dtype=float)
    _show_interactive(
        figure,
        {
            "kind": "sublevel sets",
            "shape": volume.shape,
            # A point is in the sublevel sets from its own stop on.
            "levels": np.searchsorted(thresholds, volume.ravel()).tolist(),
            "etas": thresholds.tolist(),
            "betti": betti_numbers(volume, thresholds).tolist(),
            "start": int(start),
        },
    )


def interactive_curves(figure, profiles, shapes, *, dashed=()):
    """On a page of the book, let the points of a figure made by `plot_curves` tell what they are.

    `profiles` has Betti numbers (image, block, degree) at one threshold, by label, and `shapes` the
    shape of each block's output. The figure is named in its cell's metadata.
    """
    from plotly.graph_objects import Figure

    drawn = Figure(layout_template="none")
    omegas = {label: p.sum("degree").transpose("image", "block") for label, p in profiles.items()}
    for label, colour, depth, mean, error in _curves(omegas):
        x, y, profile = depth.round(4).tolist(), mean.round(2), profiles[label]
        if error is not None:
            drawn.add_scatter(
                x=x + x[::-1],
                y=[*(mean - error).round(2).tolist(), *(mean + error)[::-1].round(2).tolist()],
                **{"mode": "lines", "line_width": 0, "fill": "toself", "fillcolor": colour + "2e"},
                **{"hoverinfo": "skip", "showlegend": False, "legendgroup": label},
            )
        betti = profile.mean("image").transpose("block", "degree").to_numpy().round(1)
        sizes = (" × ".join(map(str, shape)) for shape in shapes[label])
        blocks = zip(profile["block"].values, sizes, betti, strict=True)
        drawn.add_scatter(
            x=x,
            y=y.tolist(),
            mode="lines+markers",
            name=label,
            legendgroup=label,
            line={"color": colour, "dash": "dash" if label in dashed else "solid"},
            customdata=[[str(block), size, *numbers.tolist()] for block, size, numbers in blocks],
            hovertemplate="block %{customdata[0]}<br>%{customdata[1]}<br>β₀ = %{customdata[2]}, "
            "β₁ = %{customdata[3]}, β₂ = %{customdata[4]}<br>Ω = %{y}",
        )
    drawn.update_layout(
        height=460,
        margin={"l": 60, "r": 10, "t": 10, "b": 10},
        font={"color": "#000000", "size": 13},
        hovermode="closest",
        legend={"orientation": "h", "y": -0.2},
    )
    axis = {"gridcolor": "#dddddd", "linecolor": "#000000", "zeroline": False}
    drawn.update_xaxes(axis, title_text="relative depth")  # which fits a phone
    drawn.update_yaxes(
        axis,
        title={"text": "Ω, mean over images", "standoff": 12},
        automargin=True,
        type="log",
        tickvals=[step * 10**power for power in range(6) for step in (1, 2, 5)],
        tickformat=",d",
    )
    _show_interactive(figure, {"kind": "curves", **drawn.to_plotly_json()})


def _show_interactive(figure, data):
    """Hand data to the page; ``_static/book.js`` draws it in the place of the figure."""
    from IPython.display import display

    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    html = (
        f'<div class="moving" data-figure="{figure}">'
        f'<script type="application/json">{text}</script></div>'
    )
    display({"text/html": html, "text/plain": f"<interactive picture of {figure}>"}, raw=True)
