"""Function transforms: derivatives and batches of functions, freely nested.

`grad`, `vjp`, `jacrev`, `jvp`, `jacfwd`, `hessian` and `linearize` make functions that compute
derivatives; `vmap` makes one that works on a batch out of one that works on an example.
`functional_call` and `stack_module_state` apply them to modules, whose parameters are then
arguments.
"""

from ._forward import jvp, linearize
from ._jacobian import hessian, jacfwd, jacrev
from ._module import functional_call, stack_module_state
from ._reverse import grad, grad_and_value, vjp
from ._vmap import debug_unwrap, vmap

__all__ = [
    "debug_unwrap",
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "stack_module_state",
    "vjp",
    "vmap",
]
