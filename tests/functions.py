"""Functions with a derivative of their own, for the tests of those."""

from wengert.autograd import Function


class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class SquareLater(Function):
    """The same in the other style."""

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class MulAdd(Function):
    """x + number * y + x * y."""

    @staticmethod
    def forward(ctx, x, number, y):
        ctx.number = number
        ctx.save_for_backward(x, y)
        return x + number * y + x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g + g * y, None, g * ctx.number + g * x


def function(forward, backward=None, **members):
    """A Function class of two plain functions."""
    members["forward"] = staticmethod(forward)
    if backward is not None:
        members["backward"] = staticmethod(backward)
    return type("Custom", (Function,), members)


def returning(gradient):
    """A Function of one tensor whose backward gives `gradient`."""
    return function(lambda ctx, x: x * 2, lambda ctx, g: gradient)
