"""What a neural network does to the shape of its data: the shared package of the book."""

from importlib import import_module

__version__ = "0.1.0"

# Public names by module. A module is imported when one of its names is first asked for: torch and
# torchvision take seconds, which a count of Betti numbers or `topobook list` need not wait for.
_NAMES = {
    "agreement": ("correlation", "rank_agreement"),
    "complexity": ("Decay", "decay", "relative_depth", "theta_score", "topological_complexity"),
    "cubical": ("betti_curves", "betti_from_persistence", "betti_numbers", "persistence"),
    "datasets": ("dataset_names", "load_images", "normalise", "open_images", "published_table"),
    "distances": (
        "Invariance",
        "invariance",
        "invariance_verdict",
        "profile_distance",
        "profile_distances",
    ),
    "embedding": ("embedding_profile",),
    "blocks": ("block_outputs",),
    "measure": ("block_shapes",),
    "intervals": ("Estimate", "bootstrap", "bootstrap_mean"),
    "models": ("input_size", "load_model", "model_blocks", "model_names"),
    "training": ("calibrate_batch_norm",),
    "transferability": (
        "SCORES",
        "gbc",
        "h_score",
        "knn_score",
        "leep",
        "logme",
        "nce",
        "nleep",
        "parc",
        "regularised_h_score",
        "sfda",
        "transrate",
    ),
    "volumes": ("as_volumes",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
