"""What live graphs hold, and which lines made them."""

import threading

import wengert as torch
from support import leaf

FILE = __file__
NODE = 192
FLOAT = 4


def held_in_this_file():
    """Nodes and saved bytes by function."""
    found = {}
    for held in torch.graph_memory():
        if held.file == FILE:
            nodes, saved = found.get(held.function, (0, 0))
            found[held.function] = (nodes + held.nodes, saved + held.saved_bytes)
    return found


def held_by(test):
    return held_in_this_file()[test.__name__]


def test_nothing_is_held_at_first():
    assert held_in_this_file() == {}


def add_up_losses(w, rounds):
    total = torch.zeros(())
    for _ in range(rounds):
        total += (w * 2).exp().sum()
    return total


def test_a_sum_of_losses_is_named_by_its_line():
    w = torch.ones(1000, requires_grad=True)
    total = add_up_losses(w, 50)
    held = torch.graph_memory()
    assert held[0].file == FILE
    assert held[0].line == add_up_losses.__code__.co_firstlineno + 3
    assert held[0].function == "add_up_losses"
    assert held[0].operations["ExpBackward0"] == 50
    assert held[0].nodes == 200
    saved = held[0].saved_bytes - 50 * 1000 * FLOAT
    assert 0 <= saved <= 50 * 32, "the results of exp, and the number two"
    assert held[0].total_bytes == held[0].saved_bytes + 200 * NODE
    more = add_up_losses(w, 10)
    assert held_by(add_up_losses)[0] == 240
    del total, more
    assert held_in_this_file() == {}


def test_a_sum_of_numbers_holds_nothing():
    w = torch.ones(1000, requires_grad=True)
    total = 0.0
    for _ in range(50):
        total += (w * 2).exp().sum().item()
    assert held_in_this_file() == {}


def test_lines_that_hold_most_come_first():
    def small(w):
        return w.exp()

    def large(w):
        return w.exp()

    kept = small(torch.ones(100, requires_grad=True)), large(torch.ones(10_000, requires_grad=True))
    held = [h for h in torch.graph_memory() if h.file == FILE]
    assert [h.function.rpartition(".")[2] for h in held] == ["large", "small"]
    assert [h.saved_bytes for h in held] == [40_000, 400]
    del kept


def test_shared_memory_counts_once():
    x = torch.ones(1000, requires_grad=True)
    h = x * 2
    squares = [h.view(10, 100) * h.view(10, 100), h * h, h.sin()]
    _, saved = held_by(test_shared_memory_counts_once)
    assert 0 <= saved - 1000 * FLOAT <= 32, "and the number two"
    del squares


def test_leaves_do_not_count():
    """They live with or without a graph."""
    w = torch.ones(1000, requires_grad=True)
    y = w * w
    assert held_by(test_leaves_do_not_count) == (1, 0)
    data = torch.ones(1000)
    z = w * data
    assert held_by(test_leaves_do_not_count) == (2, 1000 * FLOAT)
    del y, z


def test_backward_frees_what_was_saved():
    loss = leaf().exp().sum()
    assert held_by(test_backward_frees_what_was_saved) == (2, 3 * FLOAT)
    loss.backward()
    assert held_by(test_backward_frees_what_was_saved) == (2, 0)


def test_graphs_of_all_threads_are_counted():
    kept = []
    thread = threading.Thread(target=lambda: kept.append(leaf().exp()))
    thread.start()
    thread.join()
    assert list(held_in_this_file().values()) == [(1, 3 * FLOAT)]


def test_counting_while_others_work():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            x = torch.ones(10, requires_grad=True)
            for _ in range(20):
                x = (x * 2).exp()
            x.sum().backward(retain_graph=True)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        held = torch.graph_memory()
        assert held.nodes >= 0
    stop.set()
    for thread in threads:
        thread.join()
    assert held_in_this_file() == {}


def test_the_table_is_readable():
    w = torch.ones(1000, requires_grad=True)
    total = add_up_losses(w, 50)
    held = torch.graph_memory()
    titles, first, *_, last = str(held).splitlines()
    assert titles.split() == ["bytes", "saved", "nodes", "made", "at", "operations"]
    place = f"{FILE}:{held[0].line} (add_up_losses)"
    assert place in first
    assert "and 2 more" in first
    assert f"in all, {len(held)} lines" in last
    assert repr(held) == str(held)
    assert held.total_bytes == sum(h.total_bytes for h in held)
    assert len(held.table(row_limit=0).splitlines()) == 2
    del total


def test_it_is_in_autograd_too():
    assert torch.autograd.graph.graph_memory is torch.graph_memory
