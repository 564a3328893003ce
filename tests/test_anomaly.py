"""Anomaly mode: which operation a NaN, or an error of backward, comes from."""

import gc
import threading
import warnings
import weakref

import pytest
import wengert as torch
from wengert.autograd import detect_anomaly, set_detect_anomaly

NAN = "Function 'SqrtBackward0' returned nan values in its 0th output."


@pytest.fixture(autouse=True)
def off_again():
    yield
    assert not torch.is_anomaly_enabled()
    assert torch.is_anomaly_check_nan_enabled()


def caught(function):
    """The error that a function raises in the mode, and the warnings without the first one."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with detect_anomaly(), pytest.raises(Exception) as error:  # noqa: PT011
            function()
    texts = [str(w.message) for w in seen]
    assert texts[0].startswith("Anomaly Detection has been enabled. This mode will increase")
    assert all(w.category is UserWarning for w in seen)
    return error.value, texts[1:]


def zero():
    return torch.zeros(1, requires_grad=True)


# ---- switches ------------------------------------------------------------------------------------


def test_the_block():
    with pytest.warns(UserWarning, match="Anomaly Detection has been enabled"):
        block = detect_anomaly(check_nan=False)
    assert not torch.is_anomaly_enabled()
    with block:
        assert torch.is_anomaly_enabled()
        assert not torch.is_anomaly_check_nan_enabled()


def test_set_detect_anomaly():
    with set_detect_anomaly(True, check_nan=False):
        assert torch.is_anomaly_enabled()
        assert not torch.is_anomaly_check_nan_enabled()
        with set_detect_anomaly(False):
            assert not torch.is_anomaly_enabled()
        assert torch.is_anomaly_enabled()
        assert not torch.is_anomaly_check_nan_enabled()
    set_detect_anomaly(True)
    assert torch.is_anomaly_enabled()
    set_detect_anomaly(False)


def test_an_error_switches_it_off():
    with pytest.raises(ZeroDivisionError), set_detect_anomaly(True):
        raise ZeroDivisionError


def test_it_is_on_in_all_threads():
    seen = []
    with set_detect_anomaly(True):
        thread = threading.Thread(target=lambda: seen.append(torch.is_anomaly_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


# ---- NaN -----------------------------------------------------------------------------------------


def test_nan_with_its_forward_call():
    x = zero()

    def fails():
        y = x.sqrt() * 0  # the line
        y.sum().backward()

    error, texts = caught(fails)
    assert isinstance(error, RuntimeError)
    assert str(error).startswith(NAN)
    assert "Sqrt ran at" in str(error)
    assert "fails: y = x.sqrt() * 0  # the line" in str(error)
    assert len(texts) == 1
    start = "Error detected in SqrtBackward0. Traceback of forward call that caused the error:\n"
    assert texts[0].startswith(start)
    assert "y = x.sqrt() * 0  # the line" in texts[0]
    assert x.grad is None


def test_nan_when_forward_ran_without_the_mode():
    y = zero().sqrt() * 0
    error, texts = caught(y.sum().backward)
    assert str(error).startswith(NAN)
    assert len(texts) == 1
    assert texts[0].startswith(
        "Error detected in SqrtBackward0. No forward pass information available. Enable detect "
        "anomaly during forward pass for more information."
    )


def test_nan_may_be_allowed():
    x = zero()
    with set_detect_anomaly(True, check_nan=False):
        (x.sqrt() * 0).sum().backward()
    assert x.grad.isnan().all()


def test_infinity_is_no_anomaly():
    x = zero()
    with set_detect_anomaly(True):
        x.sqrt().sum().backward()
    assert x.grad.item() == float("inf")


def test_nan_in_another_output():
    a, b = torch.ones(1, requires_grad=True), zero()

    error, _ = caught(lambda: (a / b * 0).sum().backward())
    assert str(error).startswith("Function 'DivBackward0' returned nan values in its 0th output.")
    a.grad = None
    error, _ = caught(lambda: (a.detach() / b * 0).sum().backward())
    assert str(error).startswith("Function 'DivBackward0' returned nan values in its 1th output.")


def test_nan_of_large_parallel_rules():
    torch.set_num_threads(2)
    x = torch.zeros(400_000, requires_grad=True)
    error, _ = caught(lambda: (x.sqrt().sum() * 0 + x.exp().sum()).backward())
    assert str(error).startswith(NAN)


def test_what_came_before_is_told_as_well():
    x = zero()

    def fails():
        y = x**1.5
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        (g * 0).sum().backward()

    error, texts = caught(fails)
    assert "returned nan values" in str(error)
    assert len(texts) == 2
    assert "Error detected in PowBackward0. Traceback of forward call" in texts[0]
    assert "torch.autograd.grad(y, x, create_graph=True)" in texts[0]
    start = "\n\nPrevious calculation was induced by PowBackward0. Traceback of forward call that "
    assert texts[1].startswith(f"{start}induced the previous calculation:\n")
    assert "y = x**1.5" in texts[1]


# ---- other errors --------------------------------------------------------------------------------


def test_a_write_that_spoils_a_saved_value():
    a = torch.ones(3, requires_grad=True)

    def fails():
        b = a + 1
        c = b**2
        b += 1
        c.sum().backward()

    error, texts = caught(fails)
    assert "modified by an inplace operation" in str(error)
    assert "Error detected in PowBackward0." in texts[0]
    assert "c = b**2" in texts[0]


def test_a_hook_that_raises():
    def hook(g):
        raise KeyError("boom")

    def fails():
        y = torch.ones(2, requires_grad=True).exp()
        y.register_hook(hook)
        y.sum().backward()

    error, texts = caught(fails)
    assert isinstance(error, KeyError)
    assert texts[0].startswith("Error detected in ExpBackward0. Traceback of forward call")


def test_where_warnings_are_errors_the_text_goes_to_stderr(capsys):
    x = zero()
    with set_detect_anomaly(True), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="returned nan values"):
            (x.sqrt() * 0).sum().backward()
    assert "UserWarning: Error detected in SqrtBackward0." in capsys.readouterr().err


# ---- what nodes keep -----------------------------------------------------------------------------


def test_what_a_node_keeps():
    x = torch.ones(1, requires_grad=True)
    with set_detect_anomaly(True):
        y = x.exp()
        (g,) = torch.autograd.grad(y, x, create_graph=True)
    assert list(y.grad_fn.metadata) == ["traceback_"]
    assert any("y = x.exp()" in line for line in y.grad_fn.metadata["traceback_"])
    assert g.grad_fn.metadata["parent_"] is y.grad_fn
    with set_detect_anomaly(False):
        assert x.exp().grad_fn.metadata == {}


def test_what_a_node_keeps_dies_with_it():
    class Thing:
        pass

    def graph():
        x = torch.ones(2, requires_grad=True)
        y = x.exp()
        with set_detect_anomaly(True):
            (g,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)
        thing = Thing()
        y.grad_fn.metadata[0] = thing
        return g, weakref.ref(thing)

    g, thing = graph()
    gc.collect()
    assert thing() is not None  # through the parent of the node that made `g`
    del g
    gc.collect()
    assert thing() is None
