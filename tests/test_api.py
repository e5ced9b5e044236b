"""The page of the package, `api.md`, against the public names."""

import importlib
import pkgutil
import re
from pathlib import Path

import topo_utils

PAGE = Path(__file__).parents[1] / "notebooks" / "api.md"


def test_the_page_has_every_public_name_and_none_that_is_not_there():
    listed, module = [], None
    for directive, name in re.findall(r"^\.\. (\w+):: (\S+)$", PAGE.read_text(), re.M):
        if directive in ("module", "currentmodule"):
            module = name
        elif directive in ("autofunction", "autoclass", "autodata", "autoexception"):
            full = name if name.startswith("topo_utils.") else f"{module}.{name}"
            place, _, name = full.rpartition(".")
            assert getattr(importlib.import_module(place), name).__doc__, full
            listed.append(name)
    assert len(listed) == len(set(listed))
    assert set(topo_utils.__all__) <= set(listed)


def test_no_module_has_the_name_of_something_public():
    # Imported, it would be what `from topo_utils import NAME` gives from then on.
    modules = {module.name for module in pkgutil.iter_modules(topo_utils.__path__)}
    assert not modules & set(topo_utils.__all__)
