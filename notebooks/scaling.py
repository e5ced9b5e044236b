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
# # What if one machine is too slow?

# %% tags=["remove-input"]
from topo_utils.book import place

place("cost")

# %% [markdown]
# The cost is computed on this page, from what one image costs on the machine that built it; below is
# what to type. {doc}`performance` compares the engine with others.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast

# The network whose profile is wanted, with random weights: the time does not depend on them much.
model: str = "resnet18"
# Height and width of the images in pixels.
image_size: AtLeast[1] = 224
# How many images the profile is to have.
n_images: AtLeast[1] = 100_000
# How many machines, each with one accelerator.
machines: AtLeast[1] = 10
# How many cores of each machine count.
workers: AtLeast[1] = 16
# How many images are measured here, at least 2.
n_measured: AtLeast[2] = 8

# %% [markdown]
# ## Method
#
# One image is measured on one core: the forward pass, and everything that the profile does, which is
# mostly counting in all blocks' outputs. Of several images the least time is taken, since others may be
# at work on this machine. An accelerator takes over the forward pass, while the counting stays with the
# cores: its share is the least that a run with accelerators costs, however fast these are.

# %% tags=["hide-cell"]
import time

import pandas as pd
import torch
from IPython.display import Markdown

from topo_utils import embedding_profile, load_model
from topo_utils.book import fill
from topo_utils.book.findings import duration
from topo_utils.training import one_thread

network = load_model(model, weights="random")
images = torch.randn(
    n_measured,
    3,
    image_size,
    image_size,
    generator=torch.Generator().manual_seed(0),
)


def seconds_per_image(measure):
    """The least of several; the first compiles and allocates."""
    times = []
    for image in images:
        start = time.perf_counter()
        measure(image[None])
        times.append(time.perf_counter() - start)
    return min(times[1:])


# %%
def whole_profile(image):
    settings = {"device": "cpu", "n_jobs": 1, "cache": False}
    embedding_profile(
        network, image, thresholds=0.0, progress=False, **settings
    )


with one_thread(), torch.inference_mode():
    pass_seconds = seconds_per_image(network)
    whole_seconds = seconds_per_image(whole_profile)
print("seconds an image:", round(whole_seconds, 3))

# %% [markdown]
# ## What does it cost?

# %% tags=["hide-input"]
count_seconds = max(whole_seconds - pass_seconds, 0.0)
cores = machines * workers
costs = {
    "one machine": (n_images * whole_seconds, workers),
    "all machines": (n_images * whole_seconds, cores),
    "all machines, accelerators for the forward pass": (
        n_images * count_seconds,
        cores,
    ),
}
pd.DataFrame(
    {
        name: {
            "cores": count,
            "time of one core": duration(one),
            "time": duration(one / count),
        }
        for name, (one, count) in costs.items()
    }
).T

# %% tags=["remove-input"]
one, every, least = (
    duration(seconds / count) for seconds, count in costs.values()
)
fill(
    "cost",
    Markdown(f"""
A profile of {n_images:,} images by `{model}` at {image_size} pixels takes **{one}** on one machine with
{workers} cores, and **{every}** on {machines} of them. With an accelerator in each it takes no less
than {least}: that is the counting alone.
"""),
)
Markdown(f"""
For `{model}` at {image_size} pixels one image takes {1000 * pass_seconds:.1f} ms for the forward pass
on one core of the machine that built this page, and {1000 * count_seconds:.1f} ms for everything else,
which is {100 * count_seconds / whole_seconds:.0f} % of the whole. Where the forward pass is the smaller
part, more cores beside each accelerator help more than a faster accelerator.

These figures assume that images are read and sent as fast as they are counted, and that all cores at
once are as fast as one alone, which the memory of a machine may not allow: {{doc}}`performance` has the
measured speed-up of several cores. Multiply by the price of an hour, and leave room.
""")

# %% [markdown]
# ## What to type on one machine
#
# All cores work at once, each on an image of its own, and what is measured is kept batch by batch. A
# run that was stopped, by whatever means, is started again by the same line and goes on where it
# was; the same profile a second time is read from disk.
#
# ```python
# profile = embedding_profile("resnet18", "folder:~/Pictures", thresholds=0.0)
# ```
#
# `topobook cache list` shows what is kept, `topobook cache prune 5GB` removes what was not used for
# longest, `topobook cache clear` everything; `TOPO_UTILS_CACHE=off` keeps nothing.
#
# ## What to type on many
#
# The scheduling is Dask's and joblib's. With `pip install -e ".[cluster]"` on every machine, and the
# images under the same path on all of them, start the scheduler on one machine
#
# ```
# dask scheduler
# ```
#
# and on every machine a worker, with a thread for each core that is to count:
#
# ```
# dask worker tcp://SCHEDULER:8786 --nworkers 1 --nthreads 16
# ```
#
# Then the same call goes to all of them. The machine that calls it needs no accelerator:
#
# ```python
# import joblib
# from dask.distributed import Client
#
# client = Client("tcp://SCHEDULER:8786")
# with joblib.parallel_config("dask"):
#     profile = embedding_profile(
#         "resnet18", "folder:/shared/pictures", thresholds=0.0, device="cuda"
#     )
# ```
#
# A worker that dies gives its batch back, and another one takes it. With `device="cpu"` the integers
# do not depend on where a batch was counted, as long as the processors are of one kind; an
# accelerator sums in a different order, so its integers may differ a little. A network by
# name is loaded by every worker; a module of your own travels with every batch, and if it is large
# `joblib.parallel_config("dask", scatter=[network])` sends it to each worker once.
#
# A chapter over a grid of parameters, one table of all verdicts and numbers:
#
# ```
# topobook sweep depth_decay --grid dataset imagenet_samples cifar10_samples --grid seed 0 1 2 \
#     --grid models '["efficientnet_lite0"]' '["efficientnet_lite1"]' --jobs 2
# ```
#
# With `--scheduler tcp://SCHEDULER:8786` instead of `--jobs` its runs go to the cluster. Runs that
# are done are not run again, and one that fails is a row with its error.
