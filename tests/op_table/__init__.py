"""One row per operation: what it computes, where it is defined, how it may be called, how it fails.

`test_ops.py` walks this table and derives from each row the forward, gradient, layout, in-place,
`out=`, thread and error tests; the benches walk it for their inputs. Nothing here imports the
package, so the table says what must be true, not what is.

The columns are those of `Op` in `columns`, the rows lie in one file per family. What NumPy has no
function for is computed in `op_reference`.
"""

from . import (
    casts,
    creation,
    criteria,
    indexing,
    linear,
    matrices,
    nn,
    order,
    pointwise,
    reductions,
    shape,
    views,
    writing,
)
from .columns import ALL as ALL
from .columns import FLOATS as FLOATS
from .columns import INTS as INTS
from .columns import NUMBERS as NUMBERS
from .columns import Gen as Gen
from .columns import Op as Op
from .columns import S as S
from .columns import Sample as Sample

FAMILIES = (
    creation,
    casts,
    pointwise,
    reductions,
    matrices,
    linear,
    shape,
    views,
    indexing,
    nn,
    criteria,
    order,
    writing,
)
OPS = [row for family in FAMILIES for row in family.ROWS]
