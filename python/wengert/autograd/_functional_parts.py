"""What the functions of `functional` have in common: arguments, results, and strict mode."""

from __future__ import annotations

from wengert._core import Tensor, grad, zeros_like

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    Tensors: TypeAlias = tuple[Tensor, ...]
    Given: TypeAlias = Tensor | Tensors
    Found: TypeAlias = tuple[Tensor | None, ...]

RESULT = "outputs of the user-provided function"


def tensors_of(value: Any, what: str, name: str) -> tuple[bool, Tensors]:
    """Whether there are several tensors, and a tuple of them."""
    several = isinstance(value, tuple)
    values = value if several else (value,)
    for place, x in enumerate(values):
        if not isinstance(x, Tensor):
            which = f"value at index {place}" if several else f"given {what}"
            raise TypeError(
                f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the "
                f"{which} has type {type(x)}."
            )
    return several, values


def single_element(y: Any, name: str, strict: bool) -> Tensor:
    several, ys = tensors_of(y, RESULT, name)
    check_connected(ys, "outputs", strict)
    if several:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if ys[0].numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {name} should contain a single element"
        )
    return ys[0]


def vector(v: Given, like: Tensors, several: bool, create_graph: bool, name: str) -> Tensors:
    vs = own(tensors_of(v, "v", name)[1], create_graph, differentiable=False)
    if len(vs) != len(like):
        if several:
            raise RuntimeError(
                f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}."
            )
        raise RuntimeError("The given v should contain a single Tensor.")
    for place, (a, b) in enumerate(zip(vs, like, strict=True)):
        if a.shape != b.shape:
            which = f"Entry {place} in " if several else ""
            raise RuntimeError(f"{which}v has invalid size: should be {b.shape} but got {a.shape}.")
    return vs


def input_vector(
    v: Given | None, xs: Tensors, several: bool, create_graph: bool, name: str, what: str
) -> Tensors | None:
    if v is not None:
        return vector(v, xs, several, create_graph, name)
    if len(xs) == 1 and xs[0].numel() == 1:
        return None
    raise RuntimeError(
        f"The vector v can only be None if the {what} is a single Tensor with a single element."
    )


_INDEPENDENT = {
    "outputs": (
        "Output {} of the user-provided function does not require gradients. The outputs must be "
        "computed in a differentiable manner from the input when running in strict mode."
    ),
    "grad_inputs": (
        "The gradient with respect to input {} is independent of the inputs of the user-provided "
        "function. This is not allowed in strict mode."
    ),
    "jacobian": (
        "While computing the hessian, found that the jacobian of the user-provided function with "
        "respect to input {} is independent of the input. This is not allowed in strict mode. You "
        "should ensure that your function is twice differentiable and that the jacobian depends on "
        "the inputs (this would be violated by a linear function for example)."
    ),
}


def check_connected(found: Iterable[Tensor | None], what: str, strict: bool) -> None:
    """In strict mode, refuse what does not depend on the inputs."""
    if not strict:
        return
    for place, t in enumerate(found):
        if t is None:
            raise RuntimeError(
                f"The output of the user-provided function is independent of input {place}. This "
                "is not allowed in strict mode."
            )
        if not t.requires_grad:
            raise RuntimeError(_INDEPENDENT[what].format(place))


_MISSING = {
    "back": "The output of the user-provided function is independent of input {}. This is not "
    "allowed in strict mode.",
    "back_trick": "The gradient with respect to the input is independent of entry {} in the "
    "grad_outputs when using the double backward trick to compute forward mode gradients. This is "
    "not allowed in strict mode.",
    "double_back": "The jacobian of the user-provided function is independent of input {}. This is "
    "not allowed in strict mode.",
    "double_back_trick": "The hessian of the user-provided function is independent of entry {} in "
    "the grad_jacobian. This is not allowed in strict mode as it prevents from using the double "
    "backward trick to replace forward mode AD.",
}


def filled(found: Found, like: Tensors, strict: bool, create_graph: bool, stage: str) -> Tensors:
    """The gradients with zeros for what is missing, or in strict mode an error."""
    result = []
    for place, (g, x) in enumerate(zip(found, like, strict=True)):
        if g is None and strict:
            raise RuntimeError(_MISSING[stage].format(place))
        if g is not None and strict and create_graph and not g.requires_grad:
            which = "hessian" if stage.startswith("double") else "jacobian"
            raise RuntimeError(
                f"The {which} of the user-provided function is independent of input {place}. This "
                "is not allowed in strict mode when create_graph=True."
            )
        result.append(zeros_like(x) if g is None else g)
    return tuple(result)


# ---- small parts ---------------------------------------------------------------------------------


def own(tensors: Tensors, create_graph: bool, *, differentiable: bool) -> Tensors:
    """Tensors of our own with the same data; with `create_graph` connected to the given ones."""
    return tuple(
        x.view_as(x)
        if create_graph and x.requires_grad
        else x.detach().requires_grad_(differentiable)
        for x in tensors
    )


def gradients(
    outputs: Sequence[Tensor | None],
    inputs: Tensors,
    vectors: Sequence[Tensor] | None,
    create_graph: bool,
    retain_graph: bool | None = None,
    is_grads_batched: bool = False,
) -> Found:
    """`grad`, where outputs that are missing or have no history contribute nothing."""
    chosen = [(i, y) for i, y in enumerate(outputs) if y is not None and y.requires_grad]
    if not chosen:
        return (None,) * len(inputs)
    return grad(
        [y for _, y in chosen],
        inputs,
        None if vectors is None else [vectors[i] for i, _ in chosen],
        allow_unused=True,
        create_graph=create_graph,
        retain_graph=retain_graph,
        is_grads_batched=is_grads_batched,
    )


def result(tensors: Tensors, several: bool, create_graph: bool) -> Given:
    if not create_graph:
        tensors = tuple(x.detach() for x in tensors)
    return tensors if several else tensors[0]
