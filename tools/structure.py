"""Measure the structure of the package, as a Markdown table: `python tools/structure.py`.

All figures come from the syntax trees; nothing is imported. Calls are resolved by name (imports, `self.`, functions of
the module), so the call chain is a lower bound: nested functions and functions that are passed as values are
not followed.
"""

import ast
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "transcription_assets"
SHORT_LINES = 40
RIDDLES = ("What", "Whether", "Where", "As")
KEY_NAMES = {"key", "keys", "media_key", "media_keys"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Module:
    """A module with its functions by qualified name (`Class.method` or `function`) and the targets of its imports."""

    name: str
    lines: int
    tree: ast.Module
    functions: dict[str, Function] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    """Dotted names, by local name, of modules of the package and of their members."""


def modules(root: Path) -> list[Module]:
    """Return every module of the package that has more than a docstring.

    Raises:
        OSError: a module cannot be read.
        SyntaxError: a module cannot be parsed.

    """
    found = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if len(tree.body) > 1:
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(_module(name, len(text.splitlines()), tree))
    origins = {f"{module.name}.{name}": origin for module in found for name, origin in module.imports.items()}
    for module in found:  # a name that a package re-exports is followed to where it is defined
        module.imports = {name: origins.get(origin, origin) for name, origin in module.imports.items()}
    return found


def _module(name: str, lines: int, tree: ast.Module) -> Module:
    module = Module(name, lines, tree)
    for node in tree.body:
        if isinstance(node, Function):
            module.functions[node.name] = node
        elif isinstance(node, ast.ClassDef):
            module.functions |= {f"{node.name}.{item.name}": item for item in node.body if isinstance(item, Function)}
    for inner in ast.walk(tree):
        if isinstance(inner, ast.ImportFrom) and (inner.module or "").startswith(PACKAGE):
            module.imports |= {item.asname or item.name: f"{inner.module}.{item.name}" for item in inner.names}
    return module


def raises(module: Module) -> set[str]:
    """Return the functions that raise an error directly or through functions of the same module."""
    direct = {name for name, node in module.functions.items() if _raises_itself(node)}
    while True:
        more = {
            name
            for name, node in module.functions.items()
            if name not in direct and any(called in direct for called in _called_here(module, name, node))
        }
        if not more:
            return direct
        direct |= more


def _raises_itself(node: Function) -> bool:
    return any(isinstance(item, ast.Raise) and item.exc is not None for item in _inner(node))


def _calls(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what the node calls."""
    return (item.func for item in _inner(node) if isinstance(item, ast.Call))


def _inner(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes inside a node, leaving out lambdas and nested functions: these run elsewhere."""
    for item in ast.iter_child_nodes(node):
        if not isinstance(item, Function | ast.Lambda):
            yield item
            yield from _inner(item)


def _called_here(module: Module, name: str, node: Function) -> Iterator[str]:
    owner = name.rpartition(".")[0]
    for call in _calls(node):
        if isinstance(call, ast.Name):
            yield call.id if call.id in module.functions else f"{call.id}.__init__"
        elif isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id == "self":
            yield f"{owner}.{call.attr}"


def deepest_chain(found: list[Module]) -> list[str]:
    """Return the longest chain of calls between functions of the package, as dotted names, without recursion."""
    graph = _call_graph(found)
    longest: dict[str, list[str]] = {}
    active: set[str] = set()

    def follow(name: str) -> list[str]:
        if name in longest:
            return longest[name]
        active.add(name)
        chains = [follow(called) for called in sorted(graph[name]) if called not in active]
        active.remove(name)
        longest[name] = [name, *max(chains, key=len, default=[])]
        return longest[name]

    return max((follow(name) for name in sorted(graph)), key=len)


def _call_graph(found: list[Module]) -> dict[str, set[str]]:
    known = {f"{module.name}.{name}" for module in found for name in module.functions}
    graph: dict[str, set[str]] = {name: set() for name in known}
    for module in found:
        for name, node in module.functions.items():
            here = {f"{module.name}.{called}" for called in _called_here(module, name, node)}
            graph[f"{module.name}.{name}"] |= (here | set(_called_elsewhere(module, node))) & known
    return graph


def _called_elsewhere(module: Module, node: Function) -> Iterator[str]:
    for call in _calls(node):
        if isinstance(call, ast.Name) and call.id in module.imports:
            yield module.imports[call.id]
            yield f"{module.imports[call.id]}.__init__"
        elif isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id in module.imports:
            yield f"{module.imports[call.value.id]}.{call.attr}"


@dataclass(frozen=True)
class Structure:
    """Figures of a package."""

    found: list[Module]

    @cached_property
    def functions(self) -> list[Function]:
        """Every function and method, also those inside functions."""
        return [node for module in self.found for node in ast.walk(module.tree) if isinstance(node, Function)]

    @cached_property
    def short(self) -> list[str]:
        """Modules under SHORT_LINES lines."""
        return [f"{module.name} ({module.lines})" for module in self.found if module.lines < SHORT_LINES]

    @cached_property
    def riddles(self) -> float:
        """Share of function docstrings that begin with one of RIDDLES."""
        said = [text for node in self.functions if (text := ast.get_docstring(node))]
        return sum(text.split()[0].rstrip(",:;.") in RIDDLES for text in said) / len(said)

    @cached_property
    def silent(self) -> tuple[list[str], int]:
        """Public functions that raise without a `Raises:` section, and the number of public functions that raise."""
        silent, count = [], 0
        for module in self.found:
            for name in sorted(raises(module)):
                if any(part.startswith("_") for part in (*name.split("."), *module.name.split("."))):
                    continue
                if any(_is_shown(decorator) for decorator in module.functions[name].decorator_list):
                    continue
                count += 1
                if "Raises:" not in (ast.get_docstring(module.functions[name]) or ""):
                    silent.append(f"{module.name}.{name}")
        return silent, count

    @cached_property
    def with_key(self) -> list[str]:
        """Modules with a function that takes a media key."""
        return [
            module.name
            for module in self.found
            if any(
                argument.arg in KEY_NAMES
                for node in ast.walk(module.tree)
                if isinstance(node, Function)
                for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            )
        ]

    @cached_property
    def ambiguous(self) -> dict[str, list[str]]:
        """Class names that two or more packages define."""
        places = defaultdict(set)
        for module in self.found:
            package = module.name.split(".")[1] if module.name.count(".") > 1 else module.name
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].add(package)
        return {name: sorted(where) for name, where in sorted(places.items()) if len(where) > 1}

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """Median and 90th percentile of the lines of a function, without signature and docstring."""
        lines = [_body_lines(node) for node in self.functions]
        return statistics.median(lines), statistics.quantiles(lines, n=10)[-1]


def _is_shown(decorator: ast.expr) -> bool:
    """Return whether users see the docstring (of a command or an asset), so that it should have no `Raises:`."""
    name = ast.unparse(decorator)
    return ".command(" in name or name.startswith("dg.asset")


def _body_lines(node: Function) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def main() -> None:
    """Print the table; with `--details` also the names that were counted."""
    structure = Structure(modules(ROOT))
    chain = deepest_chain(structure.found)
    silent, raising = structure.silent
    median, long = structure.lengths
    rows = [
        (
            "modules (without empty `__init__.py`)",
            f"{len(structure.found)}, {len(structure.short)} under {SHORT_LINES} lines",
            "≤ 95",
        ),
        (f"docstrings that begin with {'/'.join(RIDDLES)}", f"{structure.riddles:.1%}", "≤ 2 %"),
        ("public functions that raise and say so", f"{raising - len(silent)} of {raising}", "all"),
        ("modules that take a media key", f"{len(structure.with_key)}", "≤ 50"),
        ("deepest call chain", f"{len(chain)}", "≤ 14"),
        ("class names in two packages", f"{len(structure.ambiguous)}", "0"),
        ("function length, median / 90th percentile", f"{median:.0f} / {long:.0f} lines", "≤ 8 / ≤ 20"),
    ]
    print("| measure | value | bar |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    if "--details" in sys.argv[1:]:
        packages = Counter(module.name.split(".")[1] if "." in module.name else "" for module in structure.found)
        for title, items in (
            ("modules by package", [f"{name}: {count}" for name, count in packages.most_common()]),
            ("short modules", structure.short),
            ("raise without saying so", silent),
            ("deepest chain", chain),
            ("class names in two packages", [f"{name}: {', '.join(at)}" for name, at in structure.ambiguous.items()]),
        ):
            print(f"\n{title}:", *items, sep="\n- ")


if __name__ == "__main__":
    main()
