# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own network, your own images
#
# What does *your* network do to *your* data? This page measures one network on one set of images,
# and places it: beside its own controls, which tell how much of its curve is architecture and
# chance, and among the networks of this book on the same images.
#
# In the book it is made for one of the book's own networks. For yours, one command makes it
# again, with files to go on with:
#
# ```
# topobook profile --model resnet18 --images ~/Pictures -o my_profile
# ```
#
# This page is a notebook, too: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# Each has an option of `topobook profile`; with `topobook run` it is, for instance,
#
# ```
# topobook run your_network -p model convnext_tiny -p weights random -p dataset folder:~/Pictures
# ```

# %% tags=["parameters"]
from pathlib import Path
from typing import Literal

from topo_utils.book import AtLeast, NonEmpty

# The network: any name of topo_utils.model_names(), of torchvision or of timm;
# or module:callable, code of your own that gives it.
model: str = "efficientnet_lite0"
# Its weights; a module:callable is as it comes.
weights: Literal["pretrained", "random"] = "pretrained"
# Weights from a file instead: .safetensors, or a state dict saved by torch.
checkpoint: Path | None = None
# Which modules are measured: a regular expression for their whole names;
# None leaves it to rules by architecture.
blocks: str | None = None
# The images: folder:PATH, or a name that topo_utils.dataset_names() lists.
dataset: str = "imagenet_samples"
# How many images; None takes all.
n_images: AtLeast[1] | None = None
# Height and width to which images are resized, in pixels;
# None is what the network was made for.
image_size: AtLeast[1] | None = None
# The levels eta of the sublevel sets, in units of the activations;
# figures and text are about the first.
thresholds: NonEmpty[float] = [0.0]
# The networks to compare with, pretrained, as topo_utils.model_names() lists them.
compare_with: list[str] = [
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
]
# A folder for the profile (netCDF), the table (CSV) and the figures (SVG);
# None writes no files.
save_to: Path | None = None
# Of random weights, the draw of images, the shuffles and the bootstrap.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# The output of every block for one image is read as a volume of channels × height × width. A
# transformer's tokens are put back on their grid first, without class and register tokens, and
# networks that keep their channels last have them brought to the front. Counted are the components,
# tunnels and cavities of the sublevel set at each threshold; their sum is Ω (see
# {doc}`homology_primer`). Three controls belong to every curve, since a curve alone does not tell
# learning from shrinking volumes (see {doc}`controls`): the same network untrained, its volumes with
# all values shuffled, and with the values shuffled within each channel.

# %%
from dataclasses import replace

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib import pyplot as plt

from topo_utils import (
    Estimate,
    block_shapes,
    decay,
    embedding_profile,
    input_size,
    load_model,
    model_blocks,
    open_images,
    profile_distance,
    profile_distances,
    relative_depth,
    theta_score,
    topological_complexity,
)
from topo_utils.book import glue
from topo_utils.files import check_place, replacing
from topo_utils.models import is_own
from topo_utils.plotting import interactive_curves, plot_curves, use_style

use_style()

if save_to:
    folder = Path(save_to).expanduser()
    check_place(folder / "profile.nc")
thresholds = list(dict.fromkeys(thresholds))
network = load_model(model, weights=weights, checkpoint=checkpoint, seed=seed)
size = image_size or input_size(network)
pictures = open_images(dataset, size, n_images, seed)
named = None if blocks is None else model_blocks(network, blocks)
shapes, left_out = block_shapes(network, size, named)
if len(shapes) < 2:
    raise ValueError(f"a curve needs two blocks; left out are {left_out}")


def measure(network, blocks, image_size=size, **options):
    """Betti numbers by image, block, threshold and degree."""
    return embedding_profile(
        network,
        dataset,
        thresholds=thresholds,
        blocks=blocks,
        image_size=image_size,
        n_images=n_images,
        seed=seed,
        progress=False,
        **options,
    )


profile = measure(network, list(shapes))

# %%
nulls = {
    "all values shuffled": "volume",
    "shuffled within channels": "within_channels",
}
controls = {name: measure(network, list(shapes), null=null) for name, null in nulls.items()}

# %%
# Its untrained twin, where there is one: weights that are random have none, nor
# has code of one's own that gives the network as it is.
if checkpoint or (weights == "pretrained" and not is_own(model)):
    twin = load_model(model, weights="random", seed=seed)
    controls["untrained"] = measure(twin, list(shapes))

# %%
# The others, at the same size, or where that is too small for one of them, at its own.
others, sizes = {}, {}
for name in compare_with:
    if name == model and weights == "pretrained" and not checkpoint:
        continue
    other, label, other_size = load_model(name), name, size
    try:
        found, _ = block_shapes(other, size)
    except ValueError:
        other_size = input_size(other)
        found, _ = block_shapes(other, other_size)
        label += f" ({other_size} pixels)"
    label += " (pretrained)" if name == model else ""
    others[label] = measure(name, list(found), image_size=other_size)
    sizes[label] = list(found.values())

# %% [markdown]
# ## What was measured

# %% tags=["hide-input"]
depth = relative_depth(len(shapes))
rows = []
for eta in thresholds:
    here = profile.sel(threshold=eta)
    omega = topological_complexity(here)
    error = omega.std("image", ddof=1) / np.sqrt(len(pictures)) if len(pictures) > 1 else None
    for i, (name, (channels, height, width)) in enumerate(shapes.items()):
        beta = here.isel(block=i).mean("image").values
        rows.append(
            {
                "threshold": eta,
                "block": name,
                "relative depth": depth[i],
                "channels": channels,
                "height": height,
                "width": width,
                **{f"beta{degree}": beta[degree] for degree in range(3)},
                "Omega": beta.sum(),
                "standard error": np.nan if error is None else error.values[i],
                **{
                    f"Omega, {control}": topological_complexity(found)
                    .sel(threshold=eta)
                    .mean("image")
                    .values[i]
                    for control, found in controls.items()
                },
            }
        )
table = pd.DataFrame(rows)
first = table[table["threshold"] == thresholds[0]]
pd.DataFrame(
    {
        "volume": [f"{c} × {h} × {w}" for c, h, w in shapes.values()],
        "β₀": first["beta0"].map("{:,.1f}".format).values,
        "β₁": first["beta1"].map("{:,.1f}".format).values,
        "β₂": first["beta2"].map("{:,.1f}".format).values,
        "Ω": first["Omega"].map("{:,.1f}".format).values,
    },
    index=list(shapes),
)

# %% [markdown]
# Means over images, at η = {glue:text}`eta`, by block in the order in which the blocks run.


# %% tags=["remove-input"]
def listed(names):
    """Names in prose: up to five, and how many more."""
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


reasons = {}
for name, why in left_out.items():
    reasons.setdefault(why.partition(";")[0], []).append(f"`{name}`")
notes = [f"Left out, since it {why}: {listed(names)}." for why, names in reasons.items()]
if pictures.skipped:
    told = (f"`` {name} `` ({why})" for name, why in pictures.skipped.items())
    notes.append(f"Skipped of the folder: {listed(told)}.")
Markdown(" ".join(notes) or "Nothing was left out.")


# %% mystnb={"figure": {"caption": "The network among other pretrained networks on the same images. Bands: one standard error over images.", "name": "fig-your-network"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth: the measured network, and other pretrained networks on the same images."}} tags=["hide-input"]
def at(eta, found):
    """Betti numbers by image, block and degree."""
    return {name: profile.sel(threshold=eta) for name, profile in found.items()}


mine = at(thresholds[0], {model: profile} | controls)
others = at(thresholds[0], others)
curves = {name: topological_complexity(betti) for name, betti in mine.items()}
other_curves = {name: topological_complexity(betti) for name, betti in others.items()}
figure, ax = plt.subplots()
plot_curves(ax, {model: curves[model]} | other_curves, dashed=other_curves)

# %% tags=["hide-cell"]
# In the book, the points of both figures tell their block, its shape and its Betti numbers.
sizes |= {name: list(shapes.values()) for name in mine}
interactive_curves("fig-your-network", {model: mine[model]} | others, sizes, dashed=others)
interactive_curves("fig-your-controls", mine, sizes, dashed=controls)

# %% [markdown]
# ## Does complexity fall, and by how much more than in the controls?

# %% mystnb={"figure": {"caption": "The same network beside its own controls. Bands: one standard error over images.", "name": "fig-your-controls"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth: the measured network, the same with all values shuffled and with values shuffled within channels, and untrained where it was trained."}} tags=["hide-input"]
controls_figure, ax = plt.subplots()
plot_curves(ax, curves, dashed=controls)


# %% tags=["hide-input"]
def fitted(omega, relative_to=None):
    """The decay; of one image without an interval."""
    if len(pictures) > 1:
        return decay(omega, relative_to=relative_to, seed=seed)
    omega, relative_to = (
        curve if curve is None else np.repeat(curve.values, 2, axis=0)
        for curve in (omega, relative_to)
    )
    return replace(decay(omega, relative_to=relative_to, seed=seed), low=None, high=None)


decays = {}
for eta in thresholds:
    here = {
        name: topological_complexity(betti)
        for name, betti in at(eta, {model: profile} | controls).items()
    }
    found = fitted(here[model])
    decays[f"η = {eta:g}"] = {
        "decay": str(found),
        "first Ω": f"{found.first:,.0f}",
        "last Ω": f"{found.last:,.0f}",
        "depth of minimum": f"{found.minimum_depth:.2f}",
    } | {f"relative to: {name}": str(fitted(here[model], here[name])) for name in controls}
pd.DataFrame(decays)

# %% [markdown]
# The decay is the slope of log(1 + mean Ω) on relative depth; relative to a control, the slope less
# the control's, on the same images. Intervals are a bootstrap over images (95 %).
#
# {glue:text}`measured_name` ({glue:text}`weights_name`) was measured on {glue:text}`n_measured` of
# {glue:text}`images_name` at {glue:text}`pixels` × {glue:text}`pixels` pixels: complexity
# {glue:text}`direction`, from {glue:text}`omega_first:.0f` at the first block to
# {glue:text}`omega_last:.0f` at the last. {glue:text}`beside_controls`.

# %% [markdown]
# ## Which network is it like?

# %% tags=["hide-input"]
pairs = [(model, name) for name in (*other_curves, *controls)]
if len(pictures) > 1:
    distances = profile_distances(curves | other_curves, pairs, seed=seed)
else:
    both = curves | other_curves
    distances = pd.DataFrame(
        [(a, b, profile_distance(both[a], both[b])) for a, b in pairs],
        columns=["a", "b", "distance"],
    )


def distance(row):
    """The distance of a pair, with its interval where there is one."""
    return Estimate(row["distance"], row.get("low"), row.get("high"))


def theta(curve):
    return f"{theta_score(curve):.3f}" if curve.sizes["block"] >= 5 and curve.any() else "–"


everything = {model: curves[model]} | other_curves | {name: curves[name] for name in controls}
pd.DataFrame(
    {
        "blocks": [curve.sizes["block"] for curve in everything.values()],
        "decay": [str(fitted(curve)) for curve in everything.values()],
        f"distance to {model}": ["–", *(str(distance(row)) for _, row in distances.iterrows())],
        "θ": [theta(curve) for curve in everything.values()],
    },
    index=list(everything),
)


# %% tags=["remove-cell"]
found = fitted(curves[model])


def sign(found):
    """Of an interval as it is shown, with two digits; 0 if that contains 0."""
    low, high = (round(end, 2) for end in (found.low, found.high))
    return (low > 0) - (high < 0)


if np.ptp(curves[model].mean("image").values) == 0:
    direction = "does not change with depth"
    if found.first <= 1:
        direction += " (as where η lies beyond all values, and there is nothing to count)"
elif len(pictures) == 1:
    direction = f"has a slope of {found}, for which one image gives no interval"
elif sign(found) < 0:
    direction = f"falls with depth, with a decay of {found}"
elif sign(found) > 0:
    direction = f"rises with depth, with a slope of {found}"
else:
    direction = f"neither falls nor rises for certain, with a slope of {found}"

if len(pictures) == 1:
    beside_controls = "Whether it falls more than its controls, one image cannot tell"
else:
    beside = {name: fitted(curves[model], curves[name]) for name in controls}
    groups = {
        "falls more than": [name for name, gap in beside.items() if sign(gap) < 0],
        "falls less than": [name for name, gap in beside.items() if sign(gap) > 0],
        "is not told apart from": [name for name, gap in beside.items() if sign(gap) == 0],
    }
    told = [f"{how} “{'” and “'.join(names)}”" for how, names in groups.items() if names]
    beside_controls = f"It {', and '.join(told)}"

closest = "No other network was measured"
if other_curves:
    nearest, control = (
        distances[distances["b"].isin(group)].nsmallest(1, "distance").iloc[0]
        for group in (other_curves, controls)
    )
    closest = (
        f"Of the other networks, {nearest['b']} has the curve that is nearest in shape, at "
        f"{distance(nearest)}; of the controls, “{control['b']}” has it, at {distance(control)}"
    )

glue(
    eta=thresholds[0],
    measured_name=model,
    weights_name=network.weights_name,
    n_measured=f"{len(pictures)} image{'s' if len(pictures) > 1 else ''}",
    images_name=dataset if not dataset.startswith("folder:") else Path(dataset).name,
    pixels=size,
    direction=direction,
    omega_first=found.first,
    omega_last=found.last,
    beside_controls=beside_controls,
    closest=closest,
)

# %% [markdown]
# {glue:text}`closest`. The distance is the root mean square difference of the two curves log(1 + Ω)
# over relative depth, each less its own mean: 0.1 is a ratio of the curves that varies by about a
# tenth. What the book's networks are to one another, and to themselves untrained, is in
# {doc}`depth_invariance` and {doc}`controls`.
#
# θ is the score by which the paper ranks networks for transfer, the lower the better. Whether that
# works is another matter: see {doc}`transfer_score` and {doc}`ranking`.

# %% tags=["remove-cell"]
if save_to:
    about = {
        what: ("block", [shape[axis] for shape in shapes.values()])
        for axis, what in enumerate(("channels", "height", "width"))
    }
    if pictures.files:
        about["file"] = ("image", pictures.files)
    named_profile = profile.assign_coords(about).assign_attrs(model=model)
    with replacing(folder / "profile.nc") as part:
        named_profile.to_netcdf(part, engine="scipy")
    with replacing(folder / "profile.csv") as part:
        table.to_csv(part, index=False, float_format="%.6g")
    for name, drawn in {"profile": figure, "controls": controls_figure}.items():
        with replacing(folder / f"{name}.svg") as part:
            drawn.savefig(part, format="svg")

# %% [markdown]
# ## What this page cannot do
#
# - A vector has no space: what is counted in it depends on the order of its entries alone. By rule
#   it is left out where there are volumes; by a regular expression it can be asked for.
# - A block that runs more than once in a forward pass, or gives several tensors, is left out. Name a
#   module inside it: `-p blocks 'stages\.\d\.blocks\.\d+'`.
# - Networks that keep tokens in an order of their own (Hiera) have no grid to put them on.
# - Networks of RGB images only. Others need a wrapper, a `module:callable` that gives the network
#   with its first layer adapted.
# - Images are resized as a whole to a square and normalised as ImageNet's; networks of timm that were
#   trained with another mean and deviation get theirs.
# - At a threshold below 0 the block's own activation function matters: a ReLU's output has no point
#   there.

# %% [markdown]
# ## What to try next
#
# - The same network with random weights: what is left of its distance to the others?
# - Two folders of photographs, and `topobook compare` of the two runs.
# - Another threshold, `-p thresholds '[0.0, 0.5, 1.0]'`: does the order of the networks stay?
# - A checkpoint in the middle of training, `-p checkpoint FILE`: when does the curve take its shape?
#
# In Python, the same numbers are
#
# ```python
# import xarray
#
# profile = xarray.open_dataarray("my_profile/profile.nc")
# omega = profile.sum("degree").sel(threshold=0.0).mean("image")
# ```

# %% [markdown]
# ## Exercises
#
# ```{exercise} Nearer than its twin
# :label: ex-your-network-1
#
# A network's curve lies nearer to that of another pretrained network than to its own untrained
# twin's. Does this show that both have learned something similar? Name a control that could tell.
# ```
#
# ```{solution} ex-your-network-1
# :label: sol-your-network-1
# :class: dropdown
#
# Not yet. Both have the batch-norm statistics of training, and those alone change the scale of what
# a fixed threshold cuts. A network with random weights whose batch-norm statistics are set to those
# of the images (`calibrate_batch_norm`) has learned nothing and shares them: if it lies as near, the
# distance says little about learning. {doc}`controls` does this for one network.
# ```
