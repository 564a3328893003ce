"""`functional_call` and `stack_module_state`: modules as functions of their parameters.

A module is anything that is called, and names its tensors by `named_parameters` and `named_buffers`
(dotted names lead to the tensors of its parts). Its tensors are exchanged for the duration of a
call, in its tables `_parameters` and `_buffers` if it has them and else as attributes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import wengert
from wengert._core import Tensor

_MISSING: Any = object()


def _named(module: Any, kind: str) -> dict[str, Tensor]:
    """The parameters or buffers by all their names, also of tensors that have several."""
    method = getattr(module, kind, None)
    if method is None:
        return {}
    try:
        pairs: Iterable[tuple[str, Tensor]] = method(remove_duplicate=False)
    except TypeError:
        pairs = method()
    return dict(pairs)


def _tables(owner: Any) -> Iterator[dict[str, Any]]:
    for table in ("_parameters", "_buffers"):
        found = owner.__dict__.get(table)
        if isinstance(found, dict):
            yield found


def _swap(module: Any, name: str, tensor: Any) -> Any:
    """Put a tensor in the place of that name, and give back what was there."""
    *path, last = name.split(".")
    owner = module
    for part in path:
        owner = owner[int(part)] if isinstance(owner, (list, tuple)) else getattr(owner, part)
    for table in _tables(owner):
        if last in table:
            old = table[last]
            if tensor is _MISSING:
                del table[last]
            else:
                table[last] = tensor
            return old
    old = getattr(owner, last, _MISSING)
    if old is not _MISSING and old is not None and not isinstance(old, Tensor):
        raise TypeError(f"attribute `{last}`: {old} is not an instance of torch.Tensor")
    if tensor is _MISSING:
        delattr(owner, last)
    else:
        setattr(owner, last, tensor)
    return old


def _untied(module: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The given tensors under all names of the tensors they stand for."""
    names: dict[int, set[str]] = {}
    for name, tensor in (
        _named(module, "named_parameters") | _named(module, "named_buffers")
    ).items():
        names.setdefault(id(tensor), set()).add(name)
    result = dict(given)
    for tied in names.values():
        present = tied & set(given)
        if len(tied) < 2 or not present:
            continue
        if len({id(given[name]) for name in present}) > 1:
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(tied)}, which are tied. "
                "Consider using tie_weights=False"
            )
        value = given[next(iter(present))]
        result |= dict.fromkeys(tied, value)
    return result


def _check_names(module: Any, given: dict[str, Tensor]) -> None:
    known = set(_named(module, "named_parameters")) | set(_named(module, "named_buffers"))
    problems = []
    if unexpected := [name for name in given if name not in known]:
        problems.append(f"Unexpected key(s): {', '.join(map(repr, unexpected))}.")
    if missing := sorted(known - set(given)):
        problems.append(f"Missing key(s): {', '.join(map(repr, missing))}.")
    if problems:
        text = "\n\t".join(problems)
        raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:\n\t{text}")


@contextlib.contextmanager
def _reparametrized(module: Any, given: dict[str, Tensor], tie_weights: bool) -> Iterator[None]:
    tensors = _untied(module, given) if tie_weights else given
    before: dict[str, Any] = {}
    try:
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{tensor} is not an instance of torch.Tensor")
            before[name] = _swap(module, name, tensor)
        yield
    finally:
        after = {name: _swap(module, name, old) for name, old in reversed(before.items())}
        # A module may have put other tensors in the places (running averages).
        given.update({name: after[name] for name in given if name in after})


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other parameters and buffers than its own.

    Parameters
    ----------
    module : callable
        Has `named_parameters` and `named_buffers`.
    parameter_and_buffer_dicts : dict or sequence of dict
        Tensors by name. Those not named stay as they are.
    args : object or tuple, optional
        The arguments of the call; what is no tuple is one argument.
    kwargs : dict, optional
        Its keyword arguments.
    tie_weights : bool
        Whether a tensor that has several names in the module gets them here as well.
    strict : bool
        Whether the names must be exactly the module's.

    Returns
    -------
    object
        What the module gives.

    Raises
    ------
    ValueError
        If a name is given twice, or tied tensors get different values.
    RuntimeError
        With `strict`, if names are missing or unknown.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import functional_call, grad
    >>> class Scale:
    ...     def __init__(self):
    ...         self.factor = wengert.tensor(2.0)
    ...     def named_parameters(self):
    ...         yield "factor", self.factor
    ...     def __call__(self, x):
    ...         return self.factor * x
    >>> x = wengert.tensor(3.0)
    >>> functional_call(Scale(), {"factor": wengert.tensor(5.0)}, x)
    tensor(15.)
    >>> loss = lambda params: functional_call(Scale(), params, x) ** 2
    >>> grad(loss)({"factor": wengert.tensor(5.0)})
    {'factor': tensor(90.)}
    """
    given = _merged(parameter_and_buffer_dicts)
    if strict:
        _check_names(module, _untied(module, given) if tie_weights else given)
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    with _reparametrized(module, given, tie_weights):
        return module(*args, **(kwargs or {}))


def _merged(dicts: Any) -> dict[str, Tensor]:
    if isinstance(dicts, dict):
        return dicts
    if not isinstance(dicts, Sequence):
        raise ValueError(
            "Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, "
            f"but got {type(dicts)}"
        )
    if not all(isinstance(d, dict) for d in dicts):
        raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
    merged: dict[str, Tensor] = {}
    repeated = []
    for d in dicts:
        repeated += [name for name in d if name in merged and name not in repeated]
        merged |= d
    if repeated:
        raise ValueError(
            f"{repeated} appeared in multiple dictionaries; "
            "behavior of functional call is ambiguous"
        )
    return merged


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and buffers of several modules of one class, stacked by name, for `vmap`.

    Parameters
    ----------
    models : sequence of modules
        All of one class, and all in the same mode, training or not.

    Returns
    -------
    params, buffers : dict of Tensor
        With an axis in front that counts the modules. Parameters are new leaves.

    Raises
    ------
    RuntimeError
        If there are no modules, or they differ in class, mode or `requires_grad`.

    Examples
    --------
    >>> import wengert
    >>> from wengert.func import functional_call, stack_module_state, vmap
    >>> class Scale:
    ...     training = True
    ...     def __init__(self, factor):
    ...         self.factor = wengert.tensor(factor, requires_grad=True)
    ...     def named_parameters(self):
    ...         yield "factor", self.factor
    ...     def __call__(self, x):
    ...         return self.factor * x
    >>> models = [Scale(2.0), Scale(3.0)]
    >>> params, buffers = stack_module_state(models)
    >>> call = lambda params, x: functional_call(models[0], params, x)
    >>> vmap(call, (0, None))(params, wengert.tensor(10.0)).detach()
    tensor([20., 30.])
    """
    if len(models) == 0:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({bool(getattr(m, "training", True)) for m in models}) > 1:
        raise RuntimeError(
            "stack_module_state: Expected all models to have the same training/eval mode."
        )
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")

    def stacked(kind: str) -> dict[str, Any]:
        every = [
            dict(method()) if (method := getattr(m, kind, None)) is not None else {} for m in models
        ]
        return {name: _stack([each[name] for each in every], name) for name in every[0]}

    return stacked("named_parameters"), stacked("named_buffers")


def _stack(tensors: list[Tensor], name: str) -> Tensor:
    wanted = {t.requires_grad for t in tensors}
    if len(wanted) > 1:
        raise RuntimeError(f"Expected {name} from each model to have the same .requires_grad")
    result = wengert.stack(tensors)
    return result.detach().requires_grad_() if wanted == {True} else result
