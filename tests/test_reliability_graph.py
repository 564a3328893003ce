# ruff: noqa: E501 - a row is a line
"""The table of bad inputs, rows of the graph (D), of threads and signals (G), and of leaks.

As in `test_reliability.py`, each row runs in a process of its own. Fork (G1) and the depth of graphs
(D24) have tests in `test_lifetime.py`; Ctrl-C in long loops (G2, G3) has more in `test_backward.py`. The
words of the messages are tested in `test_error_messages.py`: here it is that both lines are named, by
their numbers.

A cycle through the context of a custom function is collected once nobody else uses its node: a chain of n
such functions takes n collections, as in PyTorch.
"""

import pytest
from rows import Case, check
from test_lifetime import CHAIN, SMALL_STACK, balance

GIGABYTE = 1 << 30
X = "x = torch.ones(3, requires_grad=True)\n"
MODEL = "x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)\nx.grad = torch.full((2,), 5.0)\n"
TRY = """
def attempt(work, error):
    try:
        work()
    except error as e:
        return type(e)
"""
WRONG = """
class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, g): return {gradient}
x = torch.ones(1, requires_grad=True)
Wrong.apply(x).sum().backward()
"""
DOUBLE = """
class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, g): return g
"""
AFTERWARDS = "\nresult.append([g if g is None else g.tolist() for g in (x.grad, w.grad)])"


def line(n):
    """The pattern of line `n` of the row."""
    return rf"<isolated>:{n}\b"


GRAPH = [
    Case("D1", X + "y = x.exp().sum()\ny.backward()\ny.backward()", "RuntimeError", "a second time.*" + line(3), longest=700),
    Case("D1 grad", X + "y = x.exp().sum()\ntorch.autograd.grad(y, x)\ny.backward()", "RuntimeError", "a second time.*" + line(3), longest=700),
    Case("D2", X + "y = (x + 1).sum()\ny.backward()\ny.backward()", "RuntimeError", "a second time.*" + line(3), longest=700),
    Case("D2 retained", X + "y = (x + 1).sum()\ny.backward(retain_graph=True)\ny.backward()\nresult = x.grad.tolist()", result=[2.0] * 3),
    Case("D3", X + "x += 1", "RuntimeError", "leaf Variable.*" + line(2) + ".*no_grad"),
    Case("D3 view", X + "x[0] = 1", "RuntimeError", "leaf Variable.*" + line(2) + ".*no_grad"),
    Case("D3 nothing written", X + "try:\n    x += 1\nexcept RuntimeError:\n    result = [x.tolist(), x._version]", result=[[1.0] * 3, 0]),
    Case("D4", X + "y = x.exp()\ny.add_(1)\ny.sum().backward()", "RuntimeError", "inplace operation.*output 0 of Exp.*" + line(2) + ".*" + line(3), longest=900),
    Case("D4 operand", X + "w = x * 1\ny = w * w\nw[0] = 3\ny.sum().backward()", "RuntimeError", "inplace operation.*" + line(3) + ".*" + line(4), longest=900),
    Case("D4 view", X + "y = x.exp()\ny.view(1, 3)[0][1:].zero_()\ny.sum().backward()", "RuntimeError", "inplace operation.*" + line(2) + ".*" + line(3), longest=900),
    Case("D4 custom", "class F(torch.autograd.Function):\n  @staticmethod\n  def forward(ctx, x):\n    y = x.exp(); ctx.save_for_backward(y); return y\n  @staticmethod\n  def backward(ctx, g):\n    return g * ctx.saved_tensors[0]\n" + X + "y = F.apply(x)\ny.add_(1)\ny.sum().backward()", "RuntimeError", "inplace operation.*" + line(9) + ".*" + line(10), longest=900),
    Case("D5", X + "(x * 2).backward()", "RuntimeError", r"scalar outputs.*\(3,\).*sum\(\).*gradient="),
    Case("D6", "torch.ones(1).backward()", "RuntimeError", "does not require grad.*plain data", longest=700),
    Case("D6 detached", X + "y = x.detach()\n(y * 2).sum().backward()", "RuntimeError", "does not require grad.*" + line(2), longest=700),
    Case("D6 no_grad", X + "with torch.no_grad():\n    y = x * 2\ny.sum().backward()", "RuntimeError", "does not require grad.*" + line(3), longest=700),
    Case("D7", X + "x.grad.zero_()", "AttributeError", "zero_.*None.*zero_grad"),
    Case("D8", "torch.ones(3, dtype=torch.int64).requires_grad_()", "RuntimeError", "floating point.*int64"),
    Case("D9", X + "x.grad = torch.ones(3, dtype=torch.float64)", "RuntimeError|TypeError", "double.*Float"),
    Case("D9 nothing assigned", X + "try:\n    x.grad = torch.ones(3, dtype=torch.float64)\nexcept Exception:\n    result = x.grad is None", result=True),
    Case("D10", X + "import copy\ny = x * 2\ncopy.deepcopy([y])", "RuntimeError", "graph leaves.*Mul.*" + line(3), longest=500),
    Case("D11", X + "import copy\ny = copy.copy(x * 2)\nresult = [y.is_leaf, y.requires_grad]", result=[True, True], warns="UserWarning: copying or pickling a computed tensor drops its graph"),
    Case("D11 pickle", X + "import pickle\ny = pickle.loads(pickle.dumps(x * 2))\nresult = [y.is_leaf, y.requires_grad]", result=[True, True], warns="UserWarning: copying or pickling a computed tensor drops its graph"),
    Case("D12", X + "y = x * 2\ny.register_hook(lambda g: [].pop())\ny.sum().backward()", "IndexError", "^pop from empty list$"),
    Case("D12 afterwards", MODEL + TRY + """
y = x * w
handle = y.register_hook(lambda g: 1 / 0)
s = y.sum()
result = [attempt(s.backward, ZeroDivisionError) is ZeroDivisionError]
handle.remove()
result.append(attempt(s.backward, RuntimeError) is RuntimeError)  # what ran is freed
(x * w).sum().backward()
""" + AFTERWARDS, result=[True, True, [[6.0, 6.0], [1.0, 1.0]]]),
    Case("D13", MODEL + TRY + """
y = x * 2
y.register_hook(lambda g: 1 / 0)
s = y.sum() + (w * 3).sum()  # w is reached before the hook, x after it
result = [attempt(s.backward, ZeroDivisionError) is ZeroDivisionError]
""" + AFTERWARDS, result=[True, [[5.0, 5.0], None]]),
    Case("D13 overwritten", MODEL + TRY + """
y = x.exp()
s = y.sum() + (w * 3).sum()
y.zero_()
result = [attempt(s.backward, RuntimeError) is RuntimeError]
""" + AFTERWARDS, result=[True, [[5.0, 5.0], None]]),
    Case("D13 custom", MODEL + TRY + DOUBLE.replace("return g", "raise KeyError(g)") + """
s = Double.apply(x).sum() + (w * 3).sum()
result = [attempt(s.backward, KeyError) is KeyError]
""" + AFTERWARDS, result=[True, [[5.0, 5.0], None]]),
    Case("D13 leaf hook", MODEL + TRY + """
x.register_hook(lambda g: 1 / 0)
s = (x * w).sum()
result = [attempt(s.backward, ZeroDivisionError) is ZeroDivisionError]
""" + AFTERWARDS, result=[True, [[5.0, 5.0], None]]),
    Case("D14", X + "y = x * 2\ny.register_hook(lambda g: g[:2])\ny.sum().backward()", "RuntimeError", r"hook '<lambda>' has changed the size of value.*\[3\].*\[2\]"),
    Case("D15", X + "y = x * 2\ny.register_hook(lambda g: g.mul_(10))\ny.sum().backward()\nresult = x.grad.tolist()", result=[20.0] * 3),
    Case("D15 others", X + "y, z = x * 2, x * 3\ny.register_hook(lambda g: g.mul_(10))\n(y + z).sum().backward()\nresult = x.grad.tolist()", result=[23.0] * 3),
    Case("D16", """
depth = 0
x = torch.ones(1, requires_grad=True)
def nest(g):
    global depth
    depth += 1
    if depth < 200:
        with torch.enable_grad():
            y = x * 2
            y.register_hook(nest)
            y.sum().backward()
y = x * 2
y.register_hook(nest)
y.sum().backward()
result = [depth, x.grad.item()]
""", result=[200, 400.0]),
    Case("D16 too deep", """
depth = 0
x = torch.ones(1, requires_grad=True)
def nest(g):
    global depth
    depth += 1
    if depth < 20_000:
        with torch.enable_grad():
            y = x * 2
            y.register_hook(nest)
            y.sum().backward()
y = x * 2
y.register_hook(nest)
try:
    y.sum().backward()
    result = [depth, x.grad.item()] == [20_000, 40_000.0]
except RecursionError:
    (x * 2).sum().backward()
    result = x.grad.item() % 2 == 0
""", result=True, limit=30),
    Case("D17", WRONG.format(gradient="g, g"), "RuntimeError", r"function WrongBackward returned an incorrect number of gradients \(expected 1, got 2\)"),
    Case("D18", WRONG.format(gradient="torch.ones(7)"), "RuntimeError", r"WrongBackward.*\[7\].*\[1\]"),
    Case("D18 too few", WRONG.format(gradient="torch.ones(2, 1)[:0]"), "RuntimeError", r"WrongBackward.*\[0, 1\].*\[1\]"),
    Case("D18 broadcast", WRONG.replace("torch.ones(1,", "torch.ones(2, 3,").format(gradient="torch.ones(3)") + "result = x.grad.tolist()", "RuntimeError", r"WrongBackward.*\[3\].*\[2, 3\]"),
    Case("D19", X + "y = x.exp()\ny.data.zero_()\ny.sum().backward()", "RuntimeError", "inplace operation.*" + line(2) + ".*" + line(3), longest=600),
    Case("D19 detach", X + "y = x.exp()\ny.detach().zero_()\ny.sum().backward()", "RuntimeError", "inplace operation.*" + line(2) + ".*" + line(3), longest=600),
    Case("D20", X + "y = x.exp()\ny.detach().numpy()[:] = 0\ny.sum().backward()", "RuntimeError", "inplace operation.*" + line(2) + ".*NumPy", longest=600),
    Case("D21 mode", X + "torch.autograd.set_check_numpy(True)\na = np.ones(3, 'f4')\ny = (torch.from_numpy(a) * x).sum()\na[:] = 0\ny.backward()", "RuntimeError", "inplace operation.*" + line(4) + ".*NumPy", longest=600),
    Case("D21 documented", "result = 'set_check_numpy' in torch.from_numpy.__doc__", result=True),
    Case("D22", "x = torch.tensor([0.0, 4.0], requires_grad=True)\nwith torch.autograd.masked_gradients():\n    torch.where(x > 0, torch.sqrt(x), 0.0).sum().backward()\nresult = x.grad.tolist()", result=[0.0, 0.25]),
    Case("D22 anomaly", X + "with torch.autograd.set_detect_anomaly(True):\n    y = torch.where(x > 1, torch.sqrt(x - 1), 0.0)\n    y.sum().backward()", "RuntimeError", "SqrtBackward0.*nan values.*" + line(3), warns="UserWarning: ", longest=600),
    Case("D23", """
x, y = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
x.norm().backward()
(y * y).sum().sqrt().backward()
result = [x.grad.tolist(), y.grad.isnan().tolist()]
""", result=[[0.0, 0.0], [True, True]]),
    Case("D25", DOUBLE.replace("x * 2", "x.clone()") + SMALL_STACK + """
def work():
    y = x
    for _ in range(1_000_000):
        y = Double.apply(y)
    y.sum().backward()
x = torch.ones(1, requires_grad=True)
on_small_stack(work)
result = [x.grad.item(), torch._core.live_nodes() <= 1]
""", result=[1.0, True], limit=100),
    Case("D25 attributes", SMALL_STACK + """
def work():
    y = x
    for _ in range(100_000):
        z = y * 1
        z.made_from = y
        y = z
    y.sum().backward()
    del z, y
x = torch.ones(1, requires_grad=True)
on_small_stack(work)
import gc; gc.collect()
result = [x.grad.item(), torch._core.live_nodes() <= 1]
""", result=[1.0, True], limit=60),
    Case("D26", """
def numbers():
    with torch.no_grad():
        yield 1
g = numbers(); next(g)
inside = torch.is_grad_enabled()
g.close()
result = [inside, torch.is_grad_enabled()]
""", result=[False, True]),
    Case("D26 decorator", """
@torch.no_grad()
def modes():
    while True:
        yield torch.is_grad_enabled()
g = modes()
result = [next(g), torch.is_grad_enabled(), next(g), torch.is_grad_enabled()]
g.close()
""", result=[False, True, False, True]),
    Case("D26 tasks", """
import asyncio
async def with_mode():
    with torch.no_grad():
        await asyncio.sleep(0.02)
        return torch.is_grad_enabled()
async def without():
    await asyncio.sleep(0.01)
    return torch.is_grad_enabled()
async def both():
    return await asyncio.gather(with_mode(), without())
result = asyncio.run(both())
""", result=[False, True]),
    Case("E4 float", "x = torch.ones((), requires_grad=True)\nresult = float(x)", result=1.0, warns="UserWarning: "),
    Case("E4 tensor", "x = torch.ones((), requires_grad=True)\ny = torch.tensor([x])\nresult = [y.item(), y.requires_grad]", result=[1.0, False], warns="UserWarning: "),
    Case("E4 once", "x = torch.ones((), requires_grad=True)\nimport warnings\nwarnings.simplefilter('default')\nwith warnings.catch_warnings(record=True) as w:\n    for _ in range(10): float(x)\nresult = len(w)", result=1),
]  # fmt: skip


# Ctrl-C comes 0.3 s after the work began. Whether it was answered in a tenth of a second is for a quiet
# machine to say; here it must come before a tenth of what the work would have taken.
INTERRUPT = """
import os, signal, threading, time
def interrupted(work):
    sent = []
    def send():
        time.sleep(0.3)
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        work()
    except KeyboardInterrupt:
        late = time.monotonic() - sent[0]
    else:
        raise RuntimeError("it was over before the signal came")
    sender.join()
    return late < 2
"""

THREADS = [
    Case("G2", INTERRUPT + "a = torch.ones(7000, 7000)\nresult = [interrupted(lambda: [a @ a for _ in range(10**6)]), torch.ones(2).sum().item()]", result=[True, 2.0], limit=60),
    Case("G2 out", INTERRUPT + "a = torch.ones(10**6).view(1000, 1000)\ndef work():\n    while True: torch.exp(a, out=a)\nresult = interrupted(work)", result=True, limit=60),
    Case("G3", INTERRUPT + "result = interrupted(lambda: torch.zeros(1).expand(10**13).sum())", result=True, limit=60),
    Case("G3 recorded", INTERRUPT + "x = torch.zeros(1, requires_grad=True)\nresult = [interrupted(lambda: x.expand(10**13).sum()), torch._core.live_nodes() <= 1]", result=[True, True], limit=60),
    Case("G4", INTERRUPT + CHAIN + """
x, w = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
x.grad = torch.full((1,), 5.0)
kept = x.grad
y = chain(x * w, 3_000_000).sum()
passes = 0
def work():  # one pass may be over before the signal comes
    global passes
    while True:
        y.backward(retain_graph=True)
        passes += 1
result = [interrupted(work)]
result.append(x.grad is kept and x.grad.item() in (5.0 + passes, 6.0 + passes))
result.append(passes == 0 and w.grad is None or w.grad.item() == x.grad.item() - 5)
""", result=[True, True, True], limit=100),
    Case("G4 one long rule", INTERRUPT + """
x = torch.ones(1, requires_grad=True)
w = torch.ones(1, requires_grad=True)
g = torch.ones(1).expand(10**5, 10**8)
root = (w * 2).expand(10**5, 10**8)
result = [interrupted(lambda: root.backward(g)), x.grad is None, w.grad is None]
(w * 2).sum().backward()
result.append(w.grad.item())
""", result=[True, True, True, 2.0], limit=60),
    Case("G4 in a hook", INTERRUPT + """
x = torch.ones(1, requires_grad=True)
y = x * 2
y.register_hook(lambda g: time.sleep(20))
result = [interrupted(lambda: (y + x).sum().backward()), x.grad is None]
""", result=[True, True], limit=60),
    Case("G5", "torch.set_num_threads(10**6)\nresult = torch.ones(1000, 1000).sum().item()", "ValueError", "1000000|thread"),
    Case("G6", "torch.set_num_threads(0)", "RuntimeError", "positive|0"),
    Case("G6 negative", "torch.set_num_threads(-1)", "RuntimeError", "positive|-1"),
    Case("G7", """
import threading
x = torch.zeros(1000, requires_grad=True)
def work():
    for _ in range(50):
        (x * 2).sum().backward()
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
result = [x.grad.amin().item(), x.grad.amax().item()]
""", result=[800.0, 800.0], limit=20),
    Case("G8", """
import threading
x = torch.zeros(1000)
threads = [threading.Thread(target=lambda: [x.add_(1) for _ in range(300)]) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
result = 300 <= x[0].item() <= 2400
""", result=True, limit=20),
    Case("G9", """
import threading
x = torch.ones(1000, requires_grad=True)
y = x.exp().sum()
outcomes = []
def walk():
    try:
        y.backward()
        outcomes.append("done")
    except RuntimeError as e:
        outcomes.append("refused" if "second time" in str(e) or "thread" in str(e) else str(e))
threads = [threading.Thread(target=walk) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
result = sorted(outcomes)
""", result=["done"] + ["refused"] * 3, limit=20),
    Case("G10", """
before = torch._core.live_nodes()
x = torch.ones(1000, requires_grad=True)
try:
    (x.view(1000, 1) * torch.ones(10**9).view(1, -1)).sum().backward()
    result = "no error"
except MemoryError:
    (x * 2).sum().backward()
    result = [x.grad[0].item(), torch._core.live_nodes() - before <= 1]
""", result=[2.0, True], memory=3 * GIGABYTE, limit=20),
    Case("G10 in backward", """
before = torch._core.live_nodes()
x = torch.ones(1000, 1, requires_grad=True)
w = torch.ones(1, requires_grad=True)
y = (x * w).expand(1000, 10**9)
try:
    y.backward(torch.ones(1, 1).expand(1000, 10**9).contiguous())
    result = "no error"
except MemoryError:
    nothing = x.grad is None and w.grad is None
    del y
    (x * 2).sum().backward()
    result = [nothing, x.grad[0].item(), torch._core.live_nodes() - before <= 1]
""", result=[True, 2.0, True], memory=3 * GIGABYTE, limit=20),
    Case("G10 no leak", """
def attempt():
    try:
        torch.ones(10**5, requires_grad=True).view(-1, 1).exp() * torch.ones(10**6)
    except MemoryError:
        return 1
attempt()
before = torch._core.live_nodes(), torch._core.memory_stats()["allocated_bytes"]
count = sum(attempt() for _ in range(100))
result = [count, (torch._core.live_nodes(), torch._core.memory_stats()["allocated_bytes"]) == before]
""", result=[100, True], memory=3 * GIGABYTE, limit=20),
]  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", GRAPH + THREADS, ids=lambda case: case.row)
def test_row(isolated, case):
    check(isolated, case)


# What is left behind by each iteration after a garbage collection: no node, no byte.
LEAKS = {
    "create_graph cycle": ("", "x = torch.randn(1000, requires_grad=True)\n(x**3).sum().backward(create_graph=True)"),
    "create_graph cycle, twice": ("", "x = torch.randn(1000, requires_grad=True)\n(x**3).sum().backward(create_graph=True)\nx.grad.sum().backward(create_graph=True)"),
    "create_graph cycle of two leaves": ("", "x, w = torch.randn(1000, requires_grad=True), torch.randn(1000, requires_grad=True)\n(x * w).exp().sum().backward(create_graph=True)"),
    "hook that holds its tensor": ("", "y = torch.randn(10_000, requires_grad=True) * 2\ny.register_hook(lambda g, y=y: g * y)"),
    "hook that holds its tensor, run": ("", "y = torch.randn(10_000, requires_grad=True) * 2\ny.register_hook(lambda g, y=y: g * y.detach())\ny.sum().backward()"),
    "hook that holds its leaf": ("", "x = torch.randn(10_000, requires_grad=True)\nx.register_hook(lambda g, x=x: g * x)"),
    "pre-hook of a node, that holds the tensor": ("", "y = torch.randn(10_000, requires_grad=True).exp()\ny.grad_fn.register_prehook(lambda o, y=y: None)"),
    "hook after accumulation that holds its leaf": ("", "x = torch.randn(10_000, requires_grad=True)\nx.register_post_accumulate_grad_hook(lambda p, x=x: None)\n(x * 2).sum().backward()"),
    "attribute that is the tensor": ("", "y = torch.randn(10_000, requires_grad=True) * 2\ny.me = y"),
    "attribute that is the node": ("", "y = torch.randn(10_000, requires_grad=True).exp()\ny.f = y.grad_fn"),
    "note that is the tensor": ("", "y = torch.randn(10_000, requires_grad=True).exp()\ny.grad_fn.metadata['y'] = y"),
    "ctx.y = output": ("""
class Keep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = x.exp()
        return ctx.y
    @staticmethod
    def backward(ctx, g): return g * ctx.y
""", "x = torch.randn(10_000, requires_grad=True)\ny = Keep.apply(x)"),
    "ctx.y = output, run": ("""
class Keep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = x.exp()
        return ctx.y
    @staticmethod
    def backward(ctx, g): return g * ctx.y
""", "x = torch.randn(10_000, requires_grad=True)\nKeep.apply(x).sum().backward()"),
    "saved output": ("""
class Keep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(x, y)
        return y
    @staticmethod
    def backward(ctx, g): return g * ctx.saved_tensors[1]
""", "x = torch.randn(10_000, requires_grad=True)\ny = Keep.apply(x)\ny.sum().backward(create_graph=True)"),
    "saved_tensors_hooks that hold tensors": ("", "x = torch.randn(10_000, requires_grad=True)\nbox = []\nwith torch.autograd.graph.saved_tensors_hooks(lambda t: (box, t), lambda p: p[1]):\n    y = x.exp()\nbox.append(y)"),
    "checkpoint": ("from wengert.utils.checkpoint import checkpoint", "x = torch.randn(1000, requires_grad=True)\ny = checkpoint(lambda x: x.exp().sin(), x, use_reentrant=False)\ny.sum().backward()"),
    "checkpoint never walked": ("from wengert.utils.checkpoint import checkpoint", "x = torch.randn(1000, requires_grad=True)\ny = checkpoint(lambda x: x.exp().sin(), x, use_reentrant=False)\ny.me = y"),
    "exception that holds frames": ("", "def fail():\n    y = torch.randn(1000, requires_grad=True).exp()\n    y.add_(1)\n    y.sum().backward()\ntry:\n    fail()\nexcept RuntimeError as e:\n    kept = e"),
    "anomaly mode": ("import warnings; warnings.simplefilter('ignore')", "with torch.autograd.detect_anomaly():\n    x = torch.randn(1000, requires_grad=True)\n    (x.exp() * 2).sum().backward()"),
    "grad mode, threads": ("import threading", "def work():\n    x = torch.randn(1000, requires_grad=True)\n    (x * 2).sum().backward()\nt = threading.Thread(target=work)\nt.start(); t.join()"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", LEAKS)
def test_leak(isolated, name):
    setup, body = LEAKS[name]
    assert isolated.value(balance(200, setup, body), limit=50) == [0, 0]


def test_a_sum_of_losses_is_named_by_its_line(isolated):
    """It grows by design, but one can ask which line made it grow."""
    code = """
w = torch.ones(1000, requires_grad=True)
total = 0
for _ in range(100):
    loss = (w * w).exp().sum()
    total += loss
held = torch.graph_memory()
result = [held[0].file, held[0].line, held[1].line, held[0].saved_bytes >= 100 * 4000]
"""
    assert isolated.value(code) == ["<isolated>", 5, 6, True]
