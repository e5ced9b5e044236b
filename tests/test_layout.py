"""The house: data flows one way, and no module reaches into the private names of another."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "topo_utils"
FILES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}


def imports(module):
    """What a module imports of ours, as (module, name), wherever in it; `name` may be None."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in FILES:
                    yield whole, None, alias.asname or alias.name
                elif node.module in FILES:
                    yield node.module, alias.name, alias.asname or alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in FILES:
                    yield alias.name, None, alias.asname or alias.name


@pytest.mark.parametrize("module", FILES)
def test_no_module_uses_private_names_of_another(module):
    modules = set()
    for source, name, known_as in imports(module):
        assert name is None or not name.startswith("_"), f"{module}: {source}.{name}"
        modules |= {known_as} if name is None else set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            private = node.attr.startswith("_") and not node.attr.startswith("__")
            assert not (private and node.value.id in modules), f"{module}: {ast.unparse(node)}"


def test_the_science_imports_nothing_of_the_press_and_there_are_no_circles():
    graph = {module: {source for source, *_ in imports(module)} - {module} for module in FILES}
    press = {module for module in FILES if module.startswith("topo_utils.book")}
    press |= {"topo_utils.__main__"}
    for module in FILES.keys() - press:
        assert not graph[module] & press, module
    for module in ("topo_utils.cubical", "topo_utils.intervals", "topo_utils.files"):
        used = {s for m, sources in graph.items() if m.startswith(module) for s in sources}
        assert all(source.startswith(module) for source in used), module
    # The list of public names stands above all.
    for module in graph:
        graph[module] -= {"topo_utils", "topo_utils.book", "topo_utils.cubical"} - {module}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_a_private_name_means_one_thing():
    homes = {}
    for module, file in FILES.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and node.name[0] == "_" != node.name[1]
            ):
                homes.setdefault(node.name, []).append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
