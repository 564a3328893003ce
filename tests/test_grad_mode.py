"""`no_grad`, `enable_grad`, `set_grad_enabled`: as blocks, as decorators, in threads and tasks."""

import asyncio
import threading

import pytest
import wengert
from wengert import enable_grad, is_grad_enabled, no_grad, set_grad_enabled


@pytest.fixture(autouse=True)
def recording():
    set_grad_enabled(True)
    yield
    set_grad_enabled(True)


def test_results_inside_require_no_grad():
    x = wengert.ones(2, requires_grad=True)
    with no_grad():
        y = x * 2
        assert not y.requires_grad
        assert y.grad_fn is None
        # Made from plain data, not computed: the argument is honoured.
        assert wengert.ones(2, requires_grad=True).requires_grad
    assert (x * 2).requires_grad


def test_blocks_nest_and_restore():
    with no_grad():
        with enable_grad():
            assert is_grad_enabled()
            with set_grad_enabled(False):
                assert not is_grad_enabled()
            assert is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_one_object_may_be_entered_twice():
    block = no_grad()
    with block:
        with block:
            assert not is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()


@pytest.mark.parametrize("make", [no_grad, lambda: set_grad_enabled(False)])
def test_an_exception_restores(make):
    with pytest.raises(ZeroDivisionError), make():
        raise ZeroDivisionError
    assert is_grad_enabled()


def test_set_grad_enabled_is_a_function_too():
    set_grad_enabled(False)
    assert not is_grad_enabled()
    set_grad_enabled(True)
    assert is_grad_enabled()


def test_set_grad_enabled_switches_before_its_block():
    mode = set_grad_enabled(False)
    assert not is_grad_enabled()
    with mode:
        assert not is_grad_enabled()
    assert is_grad_enabled()


@pytest.mark.parametrize("wrong", [None, "False", 1.5, []])
def test_set_grad_enabled_wants_a_bool(wrong):
    with pytest.raises(TypeError):
        set_grad_enabled(wrong)
    assert is_grad_enabled()


def test_set_grad_enabled_repr():
    name = "wengert.autograd.grad_mode.set_grad_enabled"
    assert repr(set_grad_enabled(True)) == f"{name}(mode=True)"


@pytest.mark.parametrize("make", [lambda: no_grad, no_grad, lambda: set_grad_enabled(False)])
def test_decorates_functions(make):
    @make()
    def function(a, *, mode):
        """Say something."""
        return a, mode, is_grad_enabled()

    assert is_grad_enabled()
    assert function(1, mode=2) == (1, 2, False)
    assert is_grad_enabled()
    assert function.__name__ == "function"
    assert function.__doc__ == "Say something."


def test_decorates_methods():
    class Model:
        @no_grad()
        def evaluate(self):
            return self, is_grad_enabled()

    model = Model()
    assert model.evaluate() == (model, False)


def test_decorated_functions_recurse():
    @no_grad()
    def countdown(n):
        with enable_grad():
            inside = countdown(n - 1) if n else []
        return [is_grad_enabled(), *inside]

    assert countdown(3) == [False] * 4
    assert is_grad_enabled()


def test_a_decorated_function_that_raises_restores():
    @no_grad()
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert is_grad_enabled()


def test_a_generator_switches_at_every_step():
    seen = []

    @no_grad()
    def steps():
        try:
            while True:
                try:
                    seen.append(is_grad_enabled())
                    sent = yield is_grad_enabled()
                    seen.append((sent, is_grad_enabled()))
                except KeyError:
                    seen.append(("caught", is_grad_enabled()))
        finally:
            seen.append(("closed", is_grad_enabled()))

    generator = steps()
    assert seen == []
    assert next(generator) is False
    assert is_grad_enabled()
    assert generator.send("word") is False
    assert is_grad_enabled()
    assert generator.throw(KeyError()) is False
    assert is_grad_enabled()
    generator.close()
    assert is_grad_enabled()
    assert seen == [
        False,
        ("word", False),
        False,
        ("caught", False),
        False,
        ("closed", False),
    ]


def test_a_generator_returns_and_raises():
    @no_grad()
    def finite(fail):
        yield 1
        if fail:
            raise ZeroDivisionError
        return "result"

    def outer():
        return (yield from finite(False))

    generator = outer()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as finished:
        next(generator)
    assert finished.value.value == "result"
    with pytest.raises(ZeroDivisionError):
        list(finite(True))
    assert is_grad_enabled()


def test_coroutines_do_not_disturb_each_other():
    @no_grad()
    async def silent():
        seen = []
        for _ in range(3):
            seen.append(is_grad_enabled())
            await asyncio.sleep(0)
        return seen

    async def recording():
        seen = []
        for _ in range(3):
            seen.append(is_grad_enabled())
            await asyncio.sleep(0)
        return seen

    async def both():
        return await asyncio.gather(silent(), recording(), silent())

    assert asyncio.run(both()) == [[False] * 3, [True] * 3, [False] * 3]


def test_asynchronous_generators_are_refused():
    async def stream():
        yield 1

    with pytest.raises(TypeError, match="stream is an asynchronous generator"):
        no_grad()(stream)


def test_things_that_cannot_be_called_are_refused():
    with pytest.raises(TypeError, match="decorates functions, not int"):
        no_grad(1)


def test_classes_are_deprecated():
    with pytest.warns(FutureWarning, match="Decorating classes is deprecated"):

        @no_grad()
        class Model:
            def __init__(self):
                self.recorded = is_grad_enabled()

    assert Model().recorded is False


def test_a_mode_belongs_to_its_thread():
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]
