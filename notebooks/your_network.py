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
# # What does your network do to your images?
#
# This page measures one network on one set of images. It shows its curve beside its own controls, which
# tell how much of it is architecture and chance, and among this book's networks on the same images.

# %% tags=["remove-input", "summary"]
from topo_utils.book import place

place("summary")

# %% mystnb={"figure": {"caption": "The network beside its own controls. Bands: one standard error over images.", "name": "fig-your-controls"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth: the measured network, the same with all values shuffled and with values shuffled within channels, and untrained where it was trained."}} tags=["remove-input"]
place("fig-your-controls")

# %% [markdown]
# In the book the page is made for one of the book's own networks. For yours, one command makes it again,
# with files to go on with:
#
# ```
# topobook profile --model resnet18 --images ~/Pictures -o my_profile
# ```
#
# What is counted is explained in {doc}`homology_primer`, and why a curve needs controls in
# {doc}`controls`.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.
#
# Each parameter has an option of `topobook profile`, too.

# %% tags=["parameters", "hide-input"]
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
# Every block's output for one image is read as a volume of channels × height × width. A transformer's
# tokens are first put back on their grid, without class and register tokens; networks that keep their
# channels last have them brought to the front. Counted are the components, tunnels and cavities of the
# sublevel set at each threshold; their sum is Ω. The **decay** is the slope of log(1 + mean Ω) on
# relative depth, with a bootstrap over images (95 %).
#
# There are three controls: the same network untrained, its volumes with all values shuffled, and with
# the values shuffled within each channel.

# %% tags=["hide-cell"]
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
from topo_utils.book import fill
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


def complexity(profiles, eta):
    """Omega by image and block of each profile at one threshold."""
    return {
        name: topological_complexity(profile.sel(threshold=eta))
        for name, profile in profiles.items()
    }


def fitted(omega, relative_to=None):
    """The decay; of one image without an interval."""
    if len(pictures) > 1:
        return decay(omega, relative_to=relative_to, seed=seed)
    twice = [
        c if c is None else np.repeat(c.values, 2, 0)
        for c in (omega, relative_to)
    ]
    return replace(decay(twice[0], relative_to=twice[1]), low=None, high=None)


# %%
profile = measure(network, list(shapes))
omega = topological_complexity(profile.sel(threshold=thresholds[0]))
found = fitted(omega)
print("decay:", found)

# %% tags=["hide-cell"]
controls = {
    "all values shuffled": measure(network, list(shapes), null="volume"),
    "shuffled within channels": measure(
        network, list(shapes), null="within_channels"
    ),
}
# Its untrained twin, where there is one: weights that are random have none, nor
# has code of one's own that gives the network as it is.
if checkpoint or (weights == "pretrained" and not is_own(model)):
    twin = load_model(model, weights="random", seed=seed)
    controls["untrained"] = measure(twin, list(shapes))

# The others, at the same size, or where that is too small for one of them, at its own.
others, sizes = (
    {},
    {name: list(shapes.values()) for name in (model, *controls)},
)
for name in compare_with:
    if name == model and weights == "pretrained" and not checkpoint:
        continue
    other, label, other_size = load_model(name), name, size
    try:
        other_shapes, _ = block_shapes(other, size)
    except ValueError:
        other_size = input_size(other)
        other_shapes, _ = block_shapes(other, other_size)
        label += f" ({other_size} pixels)"
    label += " (pretrained)" if name == model else ""
    others[label] = measure(name, list(other_shapes), image_size=other_size)
    sizes[label] = list(other_shapes.values())

mine = {model: profile} | controls
curves = complexity(mine | others, thresholds[0])

# %% [markdown]
# ## Does complexity fall, and by how much more than in the controls?

# %% tags=["hide-input"]
decays = {}
for eta in thresholds:
    here = complexity(mine, eta)
    at_eta = fitted(here[model])
    decays[f"η = {eta:g}"] = {
        "decay": str(at_eta),
        "first Ω": f"{at_eta.first:,.0f}",
        "last Ω": f"{at_eta.last:,.0f}",
        "depth of minimum": f"{at_eta.minimum_depth:.2f}",
    } | {
        f"decay less that of: {name}": str(fitted(here[model], here[name]))
        for name in controls
    }
pd.DataFrame(decays)


# %% tags=["hide-cell"]
def sign(found):
    """Of an interval as it is shown, with two digits; 0 if that contains 0."""
    low, high = (round(end, 2) for end in (found.low, found.high))
    return (low > 0) - (high < 0)


def draw(name, profiles, dashed, caption):
    """Fill the place of a figure, whose points in the book tell what they are."""
    figure, ax = plt.subplots()
    plot_curves(ax, complexity(profiles, thresholds[0]), dashed=dashed)
    plt.close(figure)
    caption += " Bands: one standard error over images."
    fill(name, figure, caption=caption)
    here = {
        label: one.sel(threshold=thresholds[0])
        for label, one in profiles.items()
    }
    interactive_curves(name, here, sizes, dashed=dashed)
    return figure


if np.ptp(omega.mean("image").values) == 0:
    direction = "does not change with depth"
    if found.first <= 1:
        direction += " (as where η lies beyond all values, and there is nothing to count)"
elif len(pictures) == 1:
    direction = (
        f"has a slope of {found}, for which one image gives no interval"
    )
else:
    direction = {
        -1: f"falls with depth, with a decay of {found}",
        0: f"neither falls nor rises for certain, with a slope of {found}",
        1: f"rises with depth, with a slope of {found}",
    }[sign(found)]

if len(pictures) == 1:
    beside = "Whether it falls more than its controls, one image cannot tell"
else:
    groups = {
        -1: "falls more than",
        1: "falls less than",
        0: "is not told apart from",
    }
    told = {}
    for name in controls:
        how = groups[sign(fitted(omega, curves[name]))]
        told.setdefault(how, []).append(f"`{name}`")
    told = (f"{how} {' and '.join(names)}" for how, names in told.items())
    beside = f"It {', and '.join(told)}"

caption = f"The complexity of `{model}` {direction}."
controls_figure = draw("fig-your-controls", mine, controls, caption)

# %% [markdown]
# ## Which network is it like?

# %% mystnb={"figure": {"caption": "The network among other pretrained networks on the same images. Bands: one standard error over images.", "name": "fig-your-network"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth: the measured network, and other pretrained networks on the same images."}} tags=["remove-input"]
place("fig-your-network")

# %% tags=["hide-cell"]
pairs = [(model, name) for name in (*others, *controls)]
if len(pictures) > 1:
    rows = profile_distances(curves, pairs, seed=seed).set_index("b")
    rows = rows[["distance", "low", "high"]].T
    distances = {name: Estimate(*row) for name, row in rows.items()}
else:
    distances = {
        name: Estimate(profile_distance(omega, curves[name]))
        for _, name in pairs
    }


def nearest(names, group):
    """Which of them has the nearest curve; none is named where all are alike."""
    shown = {name: round(distances[name].value, 2) for name in names}
    if not any(shown.values()):
        return f"Its curve does not differ in shape from those of the {group}"
    name = min(shown, key=shown.get)
    return (
        f"Of the {group}, `{name}` has the curve that is nearest in shape, "
        f"at a distance of {distances[name]}"
    )


closest = "No other network was measured"
if others:
    closest = nearest(others, "other networks")
figure = draw(
    "fig-your-network", {model: profile} | others, others, f"{closest}."
)


# %% tags=["hide-input"]
def theta_or_nan(curve):
    """The score, of a curve that has one."""
    return (
        theta_score(curve)
        if curve.sizes["block"] >= 5 and curve.any()
        else np.nan
    )


everything = [model, *others, *controls]
pd.DataFrame(
    {
        "blocks": [curves[name].sizes["block"] for name in everything],
        "decay": [f"{fitted(curves[name])}" for name in everything],
        f"distance to {model}": ["–", *map(str, distances.values())],
        "θ": [
            f"{Estimate(theta_or_nan(curves[name])):.3f}"
            for name in everything
        ],
    },
    everything,
)

# %% tags=["hide-cell"]
many = "s" if len(pictures) > 1 else ""
images_name = Path(dataset).name if dataset.startswith("folder:") else dataset
mark = "``" if "`" in images_name else "`"
summary = f"""
`{model}` ({network.weights_name}) was measured on {len(pictures)} image{many} of
{mark}{images_name}{mark} at {size} × {size} pixels and η = {thresholds[0]:g}.

Complexity {direction}, from {found.first:,.0f} at the first block to {found.last:,.0f} at the
last. {beside}. {closest}. {nearest(controls, "controls")}.
"""
fill("summary", Markdown(summary))

# %% [markdown]
# The distance is the root mean square difference of the two curves log(1 + Ω) over relative depth,
# each less its own mean: at 0.1, the ratio of the curves varies by about a tenth. {doc}`depth_invariance`
# and {doc}`controls` have the distances between the book's networks, and to their untrained twins.
#
# θ is the score by which the paper ranks networks for transfer, the lower the better. Whether that
# works is another matter: see {doc}`transfer_score` and {doc}`ranking`.

# %% [markdown]
# ## What was measured

# %% tags=["hide-input"]
sides = pd.DataFrame(shapes, ["channels", "height", "width"]).T


def table_at(eta):
    """All that was counted at one threshold, by block."""
    here = {
        name: curve.to_pandas()
        for name, curve in complexity(mine, eta).items()
    }
    beta = (
        profile.sel(threshold=eta)
        .mean("image")
        .to_pandas()
        .add_prefix("beta")
    )
    columns = {
        "Omega": here[model].mean(),
        "standard error": here[model].sem(),
    }
    columns |= {f"Omega, {name}": here[name].mean() for name in controls}
    depth = {"threshold": eta, "relative depth": relative_depth(len(shapes))}
    parts = (
        pd.DataFrame(depth, sides.index),
        sides,
        beta,
        pd.DataFrame(columns),
    )
    return pd.concat(parts, axis=1).rename_axis("block")


shown = table_at(thresholds[0])
counts = shown[["beta0", "beta1", "beta2", "Omega"]].map("{:,.1f}".format)
counts.columns = ["β₀", "β₁", "β₂", "Ω"]
counts.insert(
    0, "volume", [" × ".join(map(str, shape)) for shape in shapes.values()]
)
counts.rename_axis(None)


# %% tags=["remove-input"]
def listed(names):
    """Names in prose: up to five, and how many more."""
    first, more = ", ".join(names[:5]), len(names) - 5
    return f"{first} and {more} more" if more > 0 else first


reasons = {}
for name, why in left_out.items():
    reasons.setdefault(why.partition(";")[0], []).append(f"`{name}`")
notes = [
    f"Left out, since it {why}: {listed(names)}."
    for why, names in reasons.items()
]
if pictures.skipped:
    told = [f"`` {name} `` ({why})" for name, why in pictures.skipped.items()]
    notes.append(f"Skipped of the folder: {listed(told)}.")
Markdown(f"""
Means over images at η = {thresholds[0]:g}, in the order in which the blocks run.
{" ".join(notes) or "Nothing was left out."}
""")

# %% tags=["hide-cell"]
if save_to:
    about = {side: ("block", sides[side]) for side in sides}
    if pictures.files:
        about["file"] = ("image", pictures.files)
    named_profile = profile.assign_coords(about).assign_attrs(model=model)
    with replacing(folder / "profile.nc") as part:
        named_profile.to_netcdf(part, engine="scipy")
    table = pd.concat(map(table_at, thresholds)).reset_index()
    with replacing(folder / "profile.csv") as part:
        table.to_csv(part, index=False, float_format="%.6g")
    for name, drawn in (("profile", figure), ("controls", controls_figure)):
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
