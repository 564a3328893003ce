"""What holds for every test: it ends with as many graph nodes as it began with."""

import gc

import numpy as np
import pytest
import wengert
from support import Isolated


@pytest.fixture(autouse=True)
def no_node_is_left_over():
    before = wengert._core.live_nodes()
    yield
    if wengert._core.live_nodes() != before:
        gc.collect()
        assert wengert._core.live_nodes() == before


@pytest.fixture(autouse=True)
def settings_are_restored():
    threads = wengert.get_num_threads()
    wengert.manual_seed(0)
    yield
    wengert.set_num_threads(threads)
    wengert.set_grad_enabled(True)


@pytest.fixture(scope="session")
def isolated():
    server = Isolated()
    yield server
    server.close()


@pytest.fixture
def rng():
    return np.random.default_rng(0)
