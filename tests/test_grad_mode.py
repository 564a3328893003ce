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


# ---- tasks of an event loop ----------------------------------------------------------------------


async def seen(times=3):
    found = []
    for _ in range(times):
        found.append((is_grad_enabled(), wengert.is_inference_mode_enabled()))
        await asyncio.sleep(0)
    return found


@pytest.mark.parametrize(
    ("block", "inside"),
    [
        (no_grad, (False, False)),
        (lambda: set_grad_enabled(False), (False, False)),
        (wengert.inference_mode, (False, True)),
    ],
    ids=["no_grad", "set_grad_enabled", "inference_mode"],
)
def test_a_block_belongs_to_its_task(block, inside):
    async def in_block():
        with block():
            found = await seen()
        return found, await seen(1)

    async def all_of_them():
        return await asyncio.gather(seen(), in_block(), seen(), in_block(), seen())

    outside = (True, False)
    found = asyncio.run(all_of_them())
    assert [found[i] for i in (0, 2, 4)] == [[outside] * 3] * 3
    assert [found[i] for i in (1, 3)] == [([inside] * 3, [outside])] * 2
    assert is_grad_enabled()
    assert not wengert.is_inference_mode_enabled()


def test_results_in_tasks():
    x = wengert.ones(2, requires_grad=True)

    async def evaluate():
        with no_grad():
            await asyncio.sleep(0)
            y = x * 2
            await asyncio.sleep(0)
            return y.requires_grad

    async def train():
        found = []
        for _ in range(4):
            found.append((x * 2).requires_grad)
            await asyncio.sleep(0)
        return found

    async def both():
        return await asyncio.gather(evaluate(), train(), evaluate())

    assert asyncio.run(both()) == [False, [True] * 4, False]


def test_tasks_inherit_the_mode_they_are_started_in():
    async def main():
        with no_grad():
            child = asyncio.create_task(seen())
            await asyncio.sleep(0)
        return await child, await seen(1)

    assert asyncio.run(main()) == ([(False, False)] * 3, [(True, False)])


def test_a_loop_inside_a_block():
    async def main():
        with enable_grad():
            first, second = await asyncio.gather(seen(2), seen(2))
        return first, second, await asyncio.gather(seen(1), in_enable())

    async def in_enable():
        with enable_grad():
            await asyncio.sleep(0)
            return is_grad_enabled()

    with no_grad():
        first, second, (third, fourth) = asyncio.run(main())
        assert not is_grad_enabled()
    assert first == second == [(True, False)] * 2
    assert third == [(False, False)]
    assert fourth is True


def test_nested_blocks_in_tasks():
    async def one():
        found = []
        with no_grad():
            found.append(await seen(2))
            with enable_grad():
                found.append(await seen(2))
                with wengert.inference_mode():
                    found.append(await seen(2))
                found.append(await seen(1))
            found.append(await seen(1))
        found.append(await seen(1))
        return found

    async def several():
        return await asyncio.gather(one(), seen(9), one())

    first, between, last = asyncio.run(several())
    off, on, inferring = (False, False), (True, False), (False, True)
    assert first == last == [[off] * 2, [on] * 2, [inferring] * 2, [on], [off], [on]]
    assert between == [on] * 9


def test_a_cancelled_task_leaves_no_mode_behind():
    async def waits():
        with no_grad():
            await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        found = [await seen(1)]
        task.cancel()
        await asyncio.sleep(0)
        return [*found, await seen(1)]

    assert asyncio.run(main()) == [[(True, False)]] * 2
    assert is_grad_enabled()


def test_a_loop_that_is_stopped_in_a_block():
    async def waits():
        with no_grad():
            await asyncio.sleep(60)

    loop = asyncio.new_event_loop()
    task = loop.create_task(waits())
    loop.run_until_complete(asyncio.sleep(0))
    assert is_grad_enabled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert is_grad_enabled()


def test_loops_of_several_threads():
    async def in_block():
        with no_grad():
            return await seen(20)

    async def both():
        return await asyncio.gather(in_block(), seen(20))

    results = []

    def run():
        results.append(asyncio.run(both()))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[[(False, False)] * 20, [(True, False)] * 20]] * 4


def test_the_function_form_in_a_loop_lasts():
    async def main():
        set_grad_enabled(False)
        await asyncio.sleep(0)
        return await seen(1)

    assert asyncio.run(main()) == [(False, False)]
    assert not is_grad_enabled()
