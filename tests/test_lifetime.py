# ruff: noqa: E501 - a row is a line
"""Graphs come and go without recursion and without leaks, also across threads and forks.

Each case runs in a process of its own: a stack overflow, a hang or a leak is the answer to one test.
"""

import pytest

SMALL_STACK = """
import threading

def on_small_stack(work):
    failures = []
    def guarded():
        try:
            work()
        except BaseException as e:
            failures.append(e)
    threading.stack_size(256 * 1024)
    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
"""

CHAIN = """
def chain(x, n):
    for _ in range(n // 4):
        x = -(-((x + 1) - 1))
    return x
"""


def balance(steps, setup, body):
    """Code that runs `body` many times and gives the growth of nodes and bytes after a warm-up."""
    return f"""
import gc
{setup}
def step(i):
{chr(10).join("    " + line for line in body.strip().splitlines())}
def measure():
    gc.collect()
    return torch._core.live_nodes(), torch._core.memory_stats()["allocated_bytes"]
for i in range({steps} // 10):
    step(i)
before = measure()
for i in range({steps}):
    step(i)
after = measure()
result = [after[0] - before[0], after[1] - before[1]]
"""


# ----------------------------------------------------------------------------------- depth


@pytest.mark.timeout(120)
def test_a_million_nodes_on_a_small_stack(isolated):
    code = SMALL_STACK + CHAIN + """
before = torch._core.live_nodes()
def work():
    global result
    x = torch.ones(1, requires_grad=True)
    y = chain(x, 1_000_000)
    y.backward()
    del y
    result = [x.grad.item(), torch._core.live_nodes() - before]
on_small_stack(work)
"""  # fmt: skip
    gradient, nodes = isolated.value(code, limit=100)
    assert gradient == 1.0
    assert nodes <= 1  # the leaf's own


@pytest.mark.timeout(120)
def test_a_million_nodes_never_walked_are_freed(isolated):
    code = SMALL_STACK + CHAIN + """
before = torch._core.live_nodes()
def work():
    global result
    y = chain(torch.ones(1, requires_grad=True), 1_000_000)
    grown = torch._core.live_nodes() - before
    del y
    result = [grown, torch._core.live_nodes() - before]
on_small_stack(work)
"""  # fmt: skip
    grown, left = isolated.value(code, limit=100)
    assert left == 0
    assert grown == 0 or grown >= 1_000_000


def test_a_chain_dropped_on_another_thread(isolated):
    code = SMALL_STACK + CHAIN + """
box = [chain(torch.ones(1, requires_grad=True), 200_000)]
on_small_stack(box.clear)
result = torch._core.live_nodes()
"""  # fmt: skip
    assert isolated.value(code, limit=60) == 0


def test_a_chain_of_views_and_of_writes(isolated):
    code = SMALL_STACK + """
def work():
    global result
    x = torch.ones(2, 2, requires_grad=True)
    y = x * 1
    for _ in range(20_000):
        y = y.t()
    z = x * 1
    for _ in range(20_000):
        z.mul_(1)
    (y + z).sum().backward()
    del y, z
    result = [x.grad.tolist(), torch._core.live_nodes()]
on_small_stack(work)
"""  # fmt: skip
    gradient, nodes = isolated.value(code, limit=60)
    assert gradient == [[2.0, 2.0], [2.0, 2.0]]
    assert nodes <= 1


def test_wide_fan_in(isolated):
    code = """
x = torch.ones(1, requires_grad=True)
torch.cat([x * 2 for _ in range(50_000)]).sum().backward()
result = x.grad.item()
"""
    assert isolated.value(code, limit=60) == 100_000.0


# ----------------------------------------------------------------------------------- shapes


def test_diamonds_are_walked_once(isolated):
    """Sixty levels that each use the one below twice: 2^60 paths, sixty nodes."""
    code = """
x = torch.ones(1, dtype=torch.float64, requires_grad=True)
y = x
for _ in range(60):
    y = y + y
y.backward()
del y
result = [x.grad.item(), torch._core.live_nodes()]
"""
    gradient, nodes = isolated.value(code)
    assert gradient == 2.0**60
    assert nodes <= 1


def test_siblings_live_on_their_own(isolated):
    code = """
x = torch.ones(3, requires_grad=True)
h = x.exp()
a, b = (h * 2).sum(), (h * 3).sum()
del h
del a
b.backward()
del b
result = [x.grad.tolist(), torch._core.live_nodes()]
"""
    gradient, nodes = isolated.value(code)
    assert gradient == pytest.approx([8.154845] * 3)
    assert nodes <= 1


def test_an_inner_tensor_keeps_only_its_own_history(isolated):
    code = CHAIN + """
x = torch.ones(1, requires_grad=True)
h = x * 2
y = chain(h, 1000)
del y
short = torch._core.live_nodes()
del h
result = [short, torch._core.live_nodes()]
"""  # fmt: skip
    short, left = isolated.value(code)
    assert short <= 3
    assert left <= 1


# ------------------------------------------------------------------------------------ leaks

TRAINING = (
    """
x, t = torch.randn(32, 8), torch.randint(0, 4, (32,))
w1, b1 = torch.randn(16, 8, requires_grad=True), torch.zeros(16, requires_grad=True)
w2 = torch.randn(4, 16, requires_grad=True)
""",
    """
h = torch.nn.functional.linear(x, w1, b1).relu()
loss = torch.nn.functional.cross_entropy(h @ w2.t(), t)
loss.backward()
with torch.no_grad():
    for w in (w1, b1, w2):
        w -= 0.01 * w.grad
        w.grad = None
""",
)
LEAKS = {
    "grad kept": ("x = torch.randn(1000, requires_grad=True)", "(x * x).sum().backward(); x.grad.zero_()"),
    "create_graph": ("", "x = torch.randn(1000, requires_grad=True); (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True); g.sum().backward()"),
    "hook never run": ("", "y = torch.randn(1000, requires_grad=True) * 2; y.register_hook(lambda g: y); del y"),
    "retain_grad": ("x = torch.randn(1000, requires_grad=True)", "y = x * 2; y.retain_grad(); y.sum().backward(); x.grad = None"),
    "failed backward": ("x = torch.randn(1000, requires_grad=True)", "y = x.exp(); z = y.sum(); y.add_(1)\ntry:\n    z.backward()\nexcept RuntimeError:\n    pass"),
    "hook that raises": ("x = torch.randn(1000, requires_grad=True)", "y = x * 2; y.register_hook(lambda g: 1 / 0)\ntry:\n    y.sum().backward()\nexcept ZeroDivisionError:\n    pass"),
    "failed forward": ("x = torch.randn(1000, requires_grad=True)", "try:\n    x.exp() @ torch.ones(7)\nexcept RuntimeError:\n    pass"),
    "views and writes": ("x = torch.randn(1000, requires_grad=True)", "y = x * 1; y[::2].mul_(2); y[0] = 3.0; y.view(10, 100).t().sum().backward(); x.grad = None"),
    "grad_fn objects": ("x = torch.randn(1000, requires_grad=True)", "f = (x * x).sum().grad_fn; f.next_functions[0][0].next_functions; repr(f)"),
    "numpy": ("", "a = torch.ones(1000).numpy(); t = torch.from_numpy(a); b = t.numpy(); np.asarray(t[2:])"),
    "never walked": ("x = torch.randn(1000, requires_grad=True)", "y = x\nfor _ in range(10):\n    y = y.sin()"),
    "printing": ("x = torch.randn(1000, requires_grad=True)", "repr(x * 2); (x * 2).tolist()"),
}  # fmt: skip


@pytest.mark.timeout(120)
def test_training_is_flat(isolated):
    """Ten thousand steps leave not one node and not one byte behind."""
    assert isolated.value(balance(10_000, *TRAINING), limit=100) == [0, 0]


@pytest.mark.parametrize("name", LEAKS)
def test_nothing_leaks(isolated, name):
    setup, body = LEAKS[name]
    nodes, size = isolated.value(balance(1000, setup, body.replace("; ", "\n")), limit=30)
    assert (nodes, size) == (0, 0)


# ------------------------------------------------------------------------------------- forks

PARALLEL = """
a, b = torch.ones(400, 400), torch.ones(400, 400)
def work():
    x = torch.ones(300_000, requires_grad=True)
    (x * 2).sum().backward()
    return (a @ b)[0, 0].item() + x.grad[0].item()
torch.set_num_threads(2)
assert work() == 402.0
"""


def test_a_forked_child_works_after_parallel_work(isolated):
    """Row G1: in PyTorch the child hangs for ever."""
    code = PARALLEL + """
import os
statuses = []
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if work() == 402.0 else 1)
    statuses.append(os.waitpid(pid, 0)[1])
result = [statuses, work()]
"""  # fmt: skip
    assert isolated.value(code, limit=30) == [[0] * 10, 402.0]


def test_a_fork_within_a_fork_and_from_a_thread(isolated):
    code = PARALLEL + """
import os, threading
def fork_and_work(depth):
    pid = os.fork()
    if pid == 0:
        ok = work() == 402.0 and (depth == 0 or fork_and_work(depth - 1) == 0)
        os._exit(0 if ok else 1)
    return os.waitpid(pid, 0)[1]
result = [fork_and_work(2)]
t = threading.Thread(target=lambda: result.append(fork_and_work(1)))
t.start(); t.join()
"""  # fmt: skip
    assert isolated.value(code, limit=30) == [0, 0]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(isolated, method):
    code = f"""
import multiprocessing
body = {"import wengert as torch" + PARALLEL!r}
exec(body)
context = multiprocessing.get_context({method!r})
children = [context.Process(target=exec, args=(body, {{}})) for _ in range(2)]
for child in children:
    child.start()
for child in children:
    child.join()
result = [child.exitcode for child in children]
"""
    assert isolated.value(code, limit=40) == [0, 0]


def test_exit_with_work_under_way(isolated):
    code = """
import subprocess, sys
body = '''
import threading, wengert as torch
x = torch.ones(1000, 1000)
threading.Thread(target=lambda: [x @ x for _ in range(1000)], daemon=True).start()
(x @ x).sum().item()
'''
result = subprocess.run([sys.executable, "-c", body], timeout=20, capture_output=True).returncode
"""
    assert isolated.value(code, limit=30) == 0
