"""Random programs of views and writes have the values and gradients of a twin that never writes.

The twin keeps the memory of the base as a vector. Each view is known to it by the positions it
shows; a write makes a new vector. Where the two differ, autograd lost or invented a dependence.
"""

import numpy as np
import wengert as torch
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = (3, 4)
WHOLE = np.arange(12).reshape(SIZES)


def gapless(x):
    return x * 1.0


def transposed(x):
    return (x.t() * 1.0).t()


def with_gaps(x):
    """A base that shows every second column of a wider tensor; nothing recorded made it."""
    wide = torch.zeros(3, 8, dtype=torch.float64)
    base = wide[:, ::2].detach()
    base[...] = x * 1.0
    return base


def backwards(x):
    base = torch.from_numpy(np.zeros(SIZES)[:, ::-1])
    base.copy_(x * 1.0)
    return base


BASES = {f.__name__: f for f in (gapless, transposed, with_gaps, backwards)}


class Program:
    def __init__(self, base):
        rng = np.random.default_rng(0)
        self.x = torch.tensor(rng.uniform(0.5, 1.5, SIZES), requires_grad=True)
        self.w = torch.tensor(rng.uniform(0.5, 1.5, 12), requires_grad=True)
        base = BASES[base](self.x)
        self.memory = self.x.reshape(-1) * 1.0
        self.views = [(base, WHOLE)]
        self.loss = self.twin_loss = 0.0

    def shown(self, positions):
        """What the twin has at these positions."""
        return self.memory[torch.tensor(positions.reshape(-1))].reshape(positions.shape)

    def look(self, which, how, a, b):
        view, at = self.views[which % len(self.views)]
        if how == "select" and view.ndim:
            dim = a % view.ndim
            i = b % view.shape[dim]
            view, at = view.select(dim, i), np.take(at, i, dim)
        elif how == "slice" and view.ndim:
            dim = a % view.ndim
            key = (slice(None),) * dim + (slice(b % view.shape[dim], None, 1 + a % 2),)
            view, at = view[key], at[key]
        elif how == "flip axes":
            view, at = view.permute(tuple(range(view.ndim))[::-1]), at.T
        elif how == "diagonal" and view.ndim == 2:
            view, at = view.diagonal(), np.diagonal(at)
        elif how == "unsqueeze":
            view, at = view.unsqueeze(0), at[None]
        elif how == "flatten" and view.is_contiguous() and view.ndim:
            view, at = view.view(-1), at.reshape(-1)
        if view.numel() and len(self.views) < 12:
            self.views.append((view, at))

    def write(self, which, how, other, number):
        view, at = self.views[which % len(self.views)]
        old = self.shown(at)
        part = self.w[: at.size].reshape(at.shape)
        source, source_at = self.views[other % len(self.views)]
        fits = source.shape == view.shape
        if how == "mul":
            view.mul_(number)
            new = old * number
        elif how == "mul_w":
            view.mul_(part)
            new = old * part
        elif how == "copy":
            view.copy_(part.sin())
            new = part.sin()
        elif how == "sin":
            view.sin_()
            new = old.sin()
        elif how == "fill":
            view.fill_(number)
            new = torch.full_like(old, number)
        elif how == "add view" and fits:
            view += source.clone()
            new = old + self.shown(source_at)
        elif how == "set" and view.ndim:
            view[0] = part[0] * number
            new = torch.cat([(part[:1] * number), old[1:]])
        elif how == "mask":
            mask = torch.tensor(at % 2 == 0)
            view[mask] = number
            new = torch.where(mask, torch.full_like(old, number), old)
        else:
            return
        places = torch.tensor(at.reshape(-1))
        self.memory = self.memory.index_copy(0, places, new.reshape(-1))

    def read(self, which, number):
        view, at = self.views[which % len(self.views)]
        self.loss = self.loss + (view * view * number).sum()
        shown = self.shown(at)
        self.twin_loss = self.twin_loss + (shown * shown * number).sum()

    def check(self):
        for view, at in self.views:
            assert np.allclose(view.detach().tolist(), self.shown(at).detach().tolist())
        for which in range(len(self.views)):
            self.read(which, 1.0 + which)
        ours, twins = (
            torch.autograd.grad(loss, (self.x, self.w), retain_graph=True, materialize_grads=True)
            for loss in (self.loss, self.twin_loss)
        )
        for mine, twin in zip(ours, twins, strict=True):
            np.testing.assert_allclose(mine.tolist(), twin.tolist(), rtol=1e-10, atol=1e-12)


LOOKS = ["select", "slice", "flip axes", "diagonal", "unsqueeze", "flatten"]
WRITES = ["mul", "mul_w", "copy", "sin", "fill", "add view", "set", "mask"]
SMALL = st.integers(0, 11)
STEPS = st.one_of(
    st.tuples(st.just("look"), SMALL, st.sampled_from(LOOKS), SMALL, SMALL),
    st.tuples(
        st.just("write"), SMALL, st.sampled_from(WRITES), SMALL, st.sampled_from([0.5, -2.0, 3.0])
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(BASES)), st.lists(STEPS, min_size=1, max_size=12))
def test_a_program_of_writes_has_the_gradients_of_its_twin(base, steps):
    program = Program(base)
    for step, *arguments in steps:
        getattr(program, step)(*arguments)
    program.check()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(BASES)), st.lists(STEPS, min_size=1, max_size=6))
def test_and_its_second_derivatives(base, steps):
    program = Program(base)
    for step, *arguments in steps:
        getattr(program, step)(*arguments)
    for which in range(len(program.views)):
        program.read(which, 1.0 + which)
    second = []
    for loss in (program.loss, program.twin_loss):
        options = {"retain_graph": True, "materialize_grads": True}
        (g,) = torch.autograd.grad(loss, program.w, create_graph=True, **options)
        h = torch.zeros_like(g)
        if g.requires_grad:
            (h,) = torch.autograd.grad((g * g).sum(), program.w, **options)
        second.append(h.tolist())
    np.testing.assert_allclose(*second, rtol=1e-9, atol=1e-10)
