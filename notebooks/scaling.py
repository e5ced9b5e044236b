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
# # What does it cost when one machine is too slow?

# %% tags=["remove-input"]
from topo_utils.book import place

place("cost")

# %% [markdown]
# This follows from what one image costs on the machine that built this page. What to type is further
# down. {doc}`performance` compares the engine with others.

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
# Two things are timed on one core: the forward pass of an image, and its whole profile. What the
# profile takes beyond the pass is called counting here. Of several images the least time is taken,
# since others may be at work on this machine. An accelerator takes over the forward pass, while the
# counting stays with the cores: it is the least that a run with accelerators costs, however fast they
# are.

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
torch.manual_seed(0)
images = torch.randn(n_measured, 3, image_size, image_size)


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
    settings = {"n_jobs": 1, "cache": False, "progress": False}
    embedding_profile(
        network, image, thresholds=0.0, device="cpu", **settings
    )


with one_thread(), torch.inference_mode():
    pass_seconds = seconds_per_image(network)
    whole_seconds = seconds_per_image(whole_profile)
print(f"one image on one core: {duration(whole_seconds)}")

# %% [markdown]
# ## What if there were more machines?

# %% tags=["hide-input"]
count_seconds = max(whole_seconds - pass_seconds, 0.0)
work = n_images * pd.Series(
    {
        "one machine": whole_seconds,
        "all machines": whole_seconds,
        "all machines, with accelerators": count_seconds,
    }
)
cores = [workers, machines * workers, machines * workers]
times = (work / cores).map(duration)
pd.DataFrame(
    {"cores": cores, "time of one core": work.map(duration), "time": times}
)

# %% tags=["remove-input"]
one, every, least = times
answer = Markdown(f"""
A profile of {n_images:,} images by `{model}` at {image_size} pixels takes **{one}** on one machine
with {workers} cores, and **{every}** on {machines} of them. With an accelerator in each it takes at
least {least}: that is the counting alone.
""")
fill("cost", answer)
Markdown(f"""
For `{model}` at {image_size} pixels, one image takes {duration(pass_seconds)} for the forward pass on
one core of the machine that built this page, and {duration(count_seconds)} for the counting, which is
{count_seconds / whole_seconds:.0%} of the whole. Where the forward pass is the smaller part, more cores
beside each accelerator help more than a faster accelerator.
""")

# %% [markdown]
# ## What this does not show
#
# These figures assume that images are read and sent as fast as they are counted, and that all cores at
# once are as fast as one alone, which the memory of a machine may not allow: {doc}`performance` has the
# measured speed-up of several cores. Multiply by the price of an hour, and leave room.

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
# If a worker dies, another one takes its batch. With `device="cpu"` the integers
# do not depend on where a batch was counted, as long as the processors are of one kind; an
# accelerator sums in a different order, so its integers may differ a little. A network by
# name is loaded by every worker; a module of your own travels with every batch, and if it is large
# `joblib.parallel_config("dask", scatter=[network])` sends it to each worker once.
#
# The same for a chapter: it is run over a grid of parameters, and all verdicts and numbers are put into
# one table.
#
# ```
# topobook sweep depth_decay --grid dataset imagenet_samples cifar10_samples --grid seed 0 1 2 \
#     --grid models '["efficientnet_lite0"]' '["efficientnet_lite1"]' --jobs 2
# ```
#
# With `--scheduler tcp://SCHEDULER:8786` instead of `--jobs` its runs go to the cluster. Runs that
# are done are not run again, and one that fails is a row with its error.
