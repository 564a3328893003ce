"""Tensor objects: their memory is used again, numbers and keys take short ways."""

import gc
import sys
import threading
import weakref

import pytest
import wengert as torch

# Objects. ----------------------------------------------------------------------------------------


def test_what_a_dead_object_had_does_not_come_back():
    for _ in range(300):
        t = torch.ones(2)
        assert not hasattr(t, "note")
        assert t.__dict__ == {}
        t.note = "mine"
        assert t.shape == (2,)
        del t
        assert torch.zeros(3).shape == (3,)


def test_the_class_is_counted_as_often_as_there_are_objects():
    kept = [torch.ones(1) for _ in range(10)]
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(torch.Tensor)
        more = [torch.ones(1) for _ in range(1000)]
        during = sys.getrefcount(torch.Tensor)
        del more
        after = sys.getrefcount(torch.Tensor)
    finally:
        gc.enable()
    assert (during, after) == (before + 1000, before)
    assert len(kept) == 10


def test_weak_references_die_with_their_object():
    called = []
    for _ in range(300):
        t = torch.ones(2)
        ref = weakref.ref(t, called.append)
        assert ref() is t
        del t
        assert ref() is None
    assert len(called) == 300


def test_objects_are_known_to_the_garbage_collector():
    old = torch.ones(2)
    del old
    t = torch.ones(2)
    assert gc.is_tracked(t)
    t.itself = t
    died = weakref.ref(t)
    del t
    gc.collect()
    assert died() is None


def test_objects_of_derived_classes_go_the_usual_way():
    class Named(torch.Tensor):
        pass

    before = sys.getrefcount(Named)
    for _ in range(300):
        t = torch.ones(2).as_subclass(Named)
        t.name = "n"
        assert type(t + 1) is torch.Tensor
        died = weakref.ref(t)
        del t
        assert died() is None
    assert sys.getrefcount(Named) == before


def test_more_objects_than_are_kept_spare():
    for _ in range(3):
        many = [torch.full((1,), float(i)) for i in range(2000)]
        assert sum(t.item() for t in many) == 1999 * 1000
        del many


def test_objects_made_and_freed_by_many_threads():
    def work():
        for i in range(2000):
            x = torch.full((2,), float(i), requires_grad=True)
            assert ((x * 2)[0] - 2.0 * i).item() == 0

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Numbers. ----------------------------------------------------------------------------------------


def test_a_number_that_was_saved_stays():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y, z = x * 3.0, x * 5.0
    assert (x / 7.0).tolist() == pytest.approx([1 / 7, 2 / 7])
    (y * z).sum().backward()
    assert x.grad.tolist() == [30.0, 60.0]


def test_a_number_from_inference_mode_is_not_recorded_outside():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with torch.inference_mode():
        assert (x * 3.0).tolist() == [3.0, 6.0]
    (x * 3.0).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("number", [2, -3, 2.5, 2**62, float("inf")])
def test_numbers_on_either_side(number):
    x = torch.tensor([4.0, 5.0], dtype=torch.float64)
    plain = [4.0, 5.0]
    assert (x + number).tolist() == [v + number for v in plain]
    assert (number + x).tolist() == [number + v for v in plain]
    assert (x - number).tolist() == [v - number for v in plain]
    assert (number - x).tolist() == [number - v for v in plain]
    assert (x * number).tolist() == [v * number for v in plain]
    assert (number * x).tolist() == [number * v for v in plain]
    assert (x / number).tolist() == [v / number for v in plain]
    assert (number / x).tolist() == pytest.approx([number / v for v in plain])


def test_whole_numbers_that_are_too_large_are_refused():
    with pytest.raises(OverflowError):
        torch.ones(1, dtype=torch.int64) + 2**63


# Keys. -------------------------------------------------------------------------------------------


class Two:
    def __index__(self):
        return 2


@pytest.mark.parametrize("key", [
    2, -1, slice(1, 3), slice(None), slice(None, None, 2), slice(10, 20), (1, 2), (1, slice(0, 2)),
    (slice(None), 1), (slice(None), slice(1, None, 2)), (slice(1, 2), -1), (), ..., (..., 0), None,
    (None, 1), (0, None, slice(2)),
])  # fmt: skip
def test_keys_are_numpys(key):
    x = torch.arange(20.0).reshape(4, 5)
    want = x.numpy()[key]
    got = x[key]
    assert got.tolist() == want.tolist()
    assert got.shape == want.shape
    leaf = x.clone().requires_grad_()
    leaf[key].sum().backward()
    counted = torch.zeros(4, 5).numpy()
    counted[key] += 1
    assert leaf.grad.tolist() == counted.tolist()


def test_unusual_keys():
    x = torch.arange(20.0).reshape(4, 5)
    assert x[Two()].tolist() == x[2].tolist()
    assert x[True].shape == (1, 4, 5)
    assert x[Two() : 4].tolist() == x[2:4].tolist()
    for key in (4, -5, (0, 5), (0, 0, 0), "a", 1.5, 2**70):
        with pytest.raises((IndexError, TypeError, OverflowError)):
            x[key]
    with pytest.raises(ValueError, match="step"):
        x[::0]


def test_a_bound_that_replaces_the_tensor_meanwhile():
    x = torch.arange(6.0)

    class Meddler:
        def __index__(self):
            x.data = torch.zeros(1)
            gc.collect()
            return 2

    assert x[Meddler() :].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert x.tolist() == [0.0]
    y = torch.arange(6.0).reshape(2, 3)

    class Other:
        def __index__(self):
            y.data = torch.zeros(1)
            return 1

    assert y[1, Other() :].tolist() == [4.0, 5.0]
