"""What a neural network does to the shape of its data: the shared package of the book."""

from topo_utils.complexity import (
    Decay,
    decay,
    depth_decay_verdict,
    relative_depth,
    topological_complexity,
)
from topo_utils.cubical import betti_from_persistence, betti_numbers, persistence
from topo_utils.datasets import (
    dataset_names,
    load_images,
    normalise,
    open_images,
    published_table,
)
from topo_utils.embedding import embedding_profile
from topo_utils.models import load_model, model_blocks, model_names

__version__ = "0.1.0"

__all__ = [
    "Decay",
    "betti_from_persistence",
    "betti_numbers",
    "dataset_names",
    "decay",
    "depth_decay_verdict",
    "embedding_profile",
    "load_images",
    "load_model",
    "model_blocks",
    "model_names",
    "normalise",
    "open_images",
    "persistence",
    "published_table",
    "relative_depth",
    "topological_complexity",
]
