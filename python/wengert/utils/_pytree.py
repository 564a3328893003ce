"""Nested containers as flat lists of leaves and a description, and back.

Containers are tuple, list, dict, OrderedDict, defaultdict, deque and named tuples, by their exact
type; everything else, None included, is a leaf. Further types can be registered.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = [
    "TreeSpec",
    "register_pytree_node",
    "tree_flatten",
    "tree_leaves",
    "tree_map",
    "tree_map_",
    "tree_map_only",
    "tree_structure",
    "tree_unflatten",
]

Children = list[Any]


class _Container(NamedTuple):
    flatten: Callable[[Any], tuple[Children, Any]]
    unflatten: Callable[[Iterable[Any], Any], Any]


_CONTAINERS: dict[type, _Container] = {
    tuple: _Container(lambda x: (list(x), None), lambda xs, _: tuple(xs)),
    list: _Container(lambda x: (x, None), lambda xs, _: list(xs)),
    dict: _Container(
        lambda x: (list(x.values()), list(x)), lambda xs, keys: dict(zip(keys, xs, strict=True))
    ),
    OrderedDict: _Container(
        lambda x: (list(x.values()), list(x)),
        lambda xs, keys: OrderedDict(zip(keys, xs, strict=True)),
    ),
    defaultdict: _Container(
        lambda x: (list(x.values()), [x.default_factory, list(x)]),
        lambda xs, known: defaultdict(known[0], zip(known[1], xs, strict=True)),
    ),
    deque: _Container(lambda x: (list(x), x.maxlen), deque),
}


def _make_named(xs: Iterable[Any], cls: Any) -> Any:
    make = getattr(cls, "_make", None)
    return make(xs) if make is not None else cls(tuple(xs))


_NAMED = _Container(lambda x: (list(x), type(x)), _make_named)


def register_pytree_node(
    cls: type,
    flatten_fn: Callable[[Any], tuple[Children, Any]],
    unflatten_fn: Callable[[Iterable[Any], Any], Any],
) -> None:
    """Make instances of exactly `cls` containers.

    Parameters
    ----------
    cls : type
        The class.
    flatten_fn : callable
        From an instance to its children and whatever else describes it.
    unflatten_fn : callable
        From children and that description to an instance.

    Raises
    ------
    ValueError
        If the class is a container already.

    Examples
    --------
    >>> from wengert.utils._pytree import register_pytree_node, tree_map
    >>> class Pair:
    ...     def __init__(self, a, b):
    ...         self.a, self.b = a, b
    >>> register_pytree_node(Pair, lambda p: ([p.a, p.b], None), lambda xs, _: Pair(*xs))
    >>> tree_map(lambda x: x + 1, Pair(1, 2)).b
    3
    """
    if cls in _CONTAINERS:
        raise ValueError(f"{cls} is already registered as pytree node.")
    _CONTAINERS[cls] = _Container(flatten_fn, unflatten_fn)


def _container(x: Any) -> tuple[type | None, _Container | None]:
    cls = type(x)
    found = _CONTAINERS.get(cls)
    if found is not None:
        return cls, found
    if isinstance(x, tuple) and hasattr(cls, "_fields"):
        return tuple, _NAMED
    return None, None


class TreeSpec:
    """How a nest of containers is built: its type, what describes it, and its children's specs."""

    __slots__ = ("children_specs", "container", "context", "num_leaves", "type")

    def __init__(
        self,
        type: type | None,  # noqa: A002 - PyTorch's name
        context: Any,
        children_specs: list[TreeSpec],
        container: _Container | None = None,
    ) -> None:
        self.type = type
        self.context = context
        self.children_specs = children_specs
        self.container = container
        self.num_leaves: int = (
            1 if container is None else sum(child.num_leaves for child in children_specs)
        )

    def is_leaf(self) -> bool:
        """Whether this is a single leaf."""
        return self.container is None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TreeSpec):
            return NotImplemented
        return (
            self.type is other.type
            and self.context == other.context
            and self.children_specs == other.children_specs
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self, indent: int = 0) -> str:
        if self.is_leaf():
            return "*"
        name = "namedtuple" if self.container is _NAMED else getattr(self.type, "__name__", "?")
        inner = f",\n{' ' * (indent + 2)}".join(
            child.__repr__(indent + 2) for child in self.children_specs
        )
        return f"TreeSpec({name}, {self.context}, [{inner}])"


_LEAF = TreeSpec(None, None, [])


def tree_flatten(tree: Any) -> tuple[list[Any], TreeSpec]:
    """Leaves in order, and the spec that puts them together again.

    Examples
    --------
    >>> from wengert.utils._pytree import tree_flatten
    >>> tree_flatten({"a": 1, "b": (2, [3])})[0]
    [1, 2, 3]
    """
    leaves: list[Any] = []
    return leaves, _flatten_into(tree, leaves)


def _flatten_into(tree: Any, leaves: list[Any]) -> TreeSpec:
    cls, container = _container(tree)
    if container is None:
        leaves.append(tree)
        return _LEAF
    children, context = container.flatten(tree)
    return TreeSpec(cls, context, [_flatten_into(child, leaves) for child in children], container)


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    """The nest of containers that a spec describes, with the given leaves.

    Raises
    ------
    ValueError
        If the number of leaves is wrong.

    Examples
    --------
    >>> from wengert.utils._pytree import tree_flatten, tree_unflatten
    >>> _, spec = tree_flatten((0, [0]))
    >>> tree_unflatten("ab", spec)
    ('a', ['b'])
    """
    leaves = list(leaves)
    if len(leaves) != treespec.num_leaves:
        raise ValueError(
            f"treespec.unflatten(leaves): `leaves` has length {len(leaves)} but the spec refers to "
            f"a pytree that holds {treespec.num_leaves} items ({treespec})."
        )
    return _unflatten_from(iter(leaves), treespec)


def _unflatten_from(leaves: Any, spec: TreeSpec) -> Any:
    if spec.container is None:
        return next(leaves)
    children = [_unflatten_from(leaves, child) for child in spec.children_specs]
    return spec.container.unflatten(children, spec.context)


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of a nest of containers, in order."""
    return tree_flatten(tree)[0]


def tree_structure(tree: Any) -> TreeSpec:
    """The spec of a nest of containers."""
    return tree_flatten(tree)[1]


def tree_map(function: Callable[..., Any], tree: Any, *rests: Any) -> Any:
    """`function` applied to each leaf (and to the leaves at the same places of other trees).

    Examples
    --------
    >>> from wengert.utils._pytree import tree_map
    >>> tree_map(lambda a, b: a + b, [1, (2,)], [10, (20,)])
    [11, (22,)]
    """
    leaves, spec = tree_flatten(tree)
    others = [_flatten_up_to(rest, spec) for rest in rests]
    return tree_unflatten(map(function, leaves, *others), spec)


def tree_map_(function: Callable[..., Any], tree: Any, *rests: Any) -> Any:
    """`function` called with each leaf for its effect; gives `tree` back."""
    leaves, spec = tree_flatten(tree)
    others = [_flatten_up_to(rest, spec) for rest in rests]
    for _ in map(function, leaves, *others):
        pass
    return tree


def tree_map_only(kind: Any, function: Callable[..., Any], tree: Any) -> Any:
    """`function` applied to each leaf that is of the type `kind`, or of one of several.

    Examples
    --------
    >>> from wengert.utils._pytree import tree_map_only
    >>> tree_map_only(int, lambda x: -x, [1, ("a", 2)])
    [-1, ('a', -2)]
    """
    return tree_map(lambda x: function(x) if isinstance(x, kind) else x, tree)


def _flatten_up_to(tree: Any, spec: TreeSpec) -> list[Any]:
    """What stands in `tree` where `spec` has leaves."""
    if spec.container is None:
        return [tree]
    cls, container = _container(tree)
    children, context = container.flatten(tree) if container is not None else ([], None)
    if cls is not spec.type or len(children) != len(spec.children_specs):
        raise ValueError(f"Node type mismatch; expected {spec}, but got {tree_structure(tree)}.")
    if isinstance(tree, dict) and set(tree) == set(spec.context):
        children = [tree[key] for key in spec.context]
    elif context != spec.context:
        raise ValueError(f"Node context mismatch; expected {spec.context}, but got {context}.")
    return [
        leaf
        for child, below in zip(children, spec.children_specs, strict=True)
        for leaf in _flatten_up_to(child, below)
    ]


def _broadcast_to_and_flatten(tree: Any, spec: TreeSpec) -> list[Any] | None:
    """One leaf of `tree` for each leaf of `spec`: a leaf stands for all below it.

    None if the two are built differently.
    """
    cls, container = _container(tree)
    if container is None:
        return [tree] * spec.num_leaves
    if spec.container is None or cls is not spec.type:
        return None
    children, context = container.flatten(tree)
    if context != spec.context or len(children) != len(spec.children_specs):
        return None
    result: list[Any] = []
    for child, below in zip(children, spec.children_specs, strict=True):
        flat = _broadcast_to_and_flatten(child, below)
        if flat is None:
            return None
        result += flat
    return result
