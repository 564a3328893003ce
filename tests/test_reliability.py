# ruff: noqa: E501 - a row is a line
"""The table of bad inputs: what must happen where other libraries crash, hang or give wrong results.

One case per row of the project's table, by its number, each in a process of its own with a time
limit. Rows of the graph (D) are in `test_graph.py` and `test_hooks.py`, rows of NumPy (E) partly in
`test_numpy.py`, rows of determinism (H) in `test_determinism.py`. Missing numbers are rows of
operations that do not exist yet, or that cannot be helped (E10).
"""

import pytest
from rows import Case, check

GIGABYTE = 1 << 30

LYING = """
class Lying:
    def __init__(self, length): self.length = length
    def __len__(self): return self.length
    def __getitem__(self, i): return 1.0
"""
SHRINKING = """
class Shrinking:
    def __float__(self):
        values.clear()
        import gc; gc.collect()
        return 1.0
values = [1.0] + [Shrinking() for _ in range(1000)]
"""
NESTED = "x = []\nfor _ in range(100_000):\n    x = [x]\n"
READ_ONLY = "a = np.zeros(4, 'u1'); a.setflags(write=False); t = torch.from_numpy(a)"
MEMMAP = """
import tempfile
f = tempfile.NamedTemporaryFile()
f.write(bytes(4096)); f.flush()
t = torch.from_numpy(np.memmap(f.name, dtype='f8', mode='r'))
"""
F = "F = torch.nn.functional\n"
NAN = "nan = float('nan'); inf = float('inf')\n"

CASES = [
    # A: shapes, sizes, memory
    Case("A1", "torch.empty(2**62)", "OverflowError", "4611686018427387904"),
    Case("A1 several", "torch.zeros(2**31, 2**31, 2**31)", "OverflowError", "2147483648"),
    Case("A2", "torch.empty(2**63)", "OverflowError", "9223372036854775808|2\\*\\*63|int64|64", longest=200),
    Case("A3", "result = list(torch.empty(2**32, 2**32, 0).shape)", result=[2**32, 2**32, 0]),
    Case("A4", "torch.zeros(10**12)", "MemoryError", "4000000000000|10{12}", memory=16 * GIGABYTE),
    Case("A5", "torch.zeros(3, -1)", "ValueError", r"-1.*(1|dim)|dim.*1"),
    Case("A6", "torch.ones(6).reshape(4, 2)", "RuntimeError", r"4, 2.*6"),
    Case("A7", "torch.ones(0).reshape(2**32, 2**32)", "RuntimeError", "4294967296"),
    Case("A8", "torch.ones(3).repeat(2**62)", "OverflowError|MemoryError"),
    Case("A9", "torch.arange(0, 1e20)", "RuntimeError", "1e\\+?20|10{20}|count|size"),
    Case("A13", F + "F.max_pool2d(torch.ones(1, 4, 4), 2, padding=2**31)", "RuntimeError", "pad"),
    Case("A14", NESTED + "torch.tensor(x)", "ValueError", "dim|nest|deep"),
    Case("A15", "x = []\nx.append(x)\ntorch.tensor(x)", "ValueError", "dim|nest|deep"),
    Case("A16", SHRINKING + "torch.tensor(values, dtype=torch.float32)", "RuntimeError|TypeError", "changed|Shrinking"),
    Case("A17", LYING + "torch.tensor(Lying(2**40))", "MemoryError|ValueError|TypeError", "", memory=16 * GIGABYTE),
    Case("A18", "torch.ones([1] * 65)", "RuntimeError|ValueError", "64"),
    Case("A18 at the limit", "result = torch.ones([1] * 64).sum().item()", result=1.0),
    Case("A18 by unsqueeze", "x = torch.ones([1] * 64)\nx[None]", "RuntimeError|ValueError|IndexError", "64"),
    Case("A19", "torch.tensor(10**30)", "OverflowError", "10{30}"),
    Case("A20", "torch.full((3,), 300, dtype=torch.uint8)", "RuntimeError", "300|uint8"),
    # B: indexing
    Case("B1", "torch.ones(3)[10]", "IndexError", "10.*0.*3"),
    Case("B1 huge", "torch.ones(3)[2**63]", "IndexError|OverflowError|ValueError"),
    Case("B1 huge slice", "result = torch.ones(3)[-2**70:2**70].tolist()", result=[1.0, 1.0, 1.0]),
    Case("B3", "torch.ones(3)['a']", "IndexError"),
    Case("B4", "result = torch.arange(3)[::-1].tolist()", result=[2, 1, 0]),
    Case("B6", "torch.ones(2, 2).gather(1, torch.tensor([[0, 5]]))", "IndexError", "5.*2"),
    Case("B6 negative", "torch.ones(2, 2).gather(1, torch.tensor([[-1, 0]]))", "IndexError", "-1"),
    Case("B7", "torch.ones(3, 2).index_select(0, torch.tensor([0, 7]))", "IndexError", "7.*3"),
    Case("B7 huge", "torch.ones(3).index_select(0, torch.tensor([2**62]))", "IndexError", "4611686018427387904"),
    Case("B9", F + "F.nll_loss(torch.ones(2, 3), torch.tensor([0, 7]))", "IndexError", "7.*3"),
    Case("B9 fused", F + "F.cross_entropy(torch.ones(2, 3), torch.tensor([0, 7]))", "IndexError", "7.*3"),
    Case("B9 negative", F + "F.cross_entropy(torch.ones(2, 3), torch.tensor([0, -7]))", "IndexError", "-7"),
    # C: arithmetic
    Case("C1", "torch.tensor([1]) // torch.tensor([0])", "ZeroDivisionError"),
    Case("C1 remainder", "torch.tensor([1]) % 0", "ZeroDivisionError"),
    Case("C2", "result = torch.div(torch.tensor([-2**63]), torch.tensor([-1]), rounding_mode='trunc').tolist()", result=[-(2**63)]),
    Case("C2 int32", "m = torch.tensor([-2**31], dtype=torch.int32)\nresult = torch.div(m, torch.tensor([-1], dtype=torch.int32), rounding_mode='trunc').tolist()", result=[-(2**31)]),
    Case("C2 remainder", "result = (torch.tensor([-2**63]) % torch.tensor([-1])).tolist()", result=[0]),
    Case("C3", "result = (torch.tensor([-2**63]) // -1).tolist()", result=[-(2**63)]),
    Case("C3 abs and neg", "m = torch.tensor([-2**63])\nresult = [m.abs().item(), (-m).item()]", result=[-(2**63)] * 2),
    Case("C4", "torch.tensor([2]) ** -1", "RuntimeError", "(?i)negative"),
    Case("C5", "torch.tensor([2, 0]) ** torch.tensor([-1, -1])", "RuntimeError", "(?i)negative"),
    Case("C6", NAN + "result = torch.tensor([nan, inf, -inf, 1e30]).long().tolist()", result=[0, 2**63 - 1, -(2**63), 2**63 - 1]),
    Case("C6 uint8", NAN + "result = torch.tensor([nan, 300.0, -5.0]).to(torch.uint8).tolist()", result=[0, 255, 0]),
    Case("C7", "m = torch.tensor([-2**63])\nresult = [torch.gcd(m, torch.tensor([-1])).item(), torch.gcd(m, torch.tensor([0])).item(), torch.lcm(m, torch.tensor([-1])).item()]", result=[1, -(2**63), -(2**63)]),
    Case("C8", "x = torch.tensor([1])\nx += 1.5", "RuntimeError", "(?i)float.*(long|int64)"),
    Case("C9", "torch.ones(2, 2) @ torch.ones(2, 2, dtype=torch.float64)", "RuntimeError", "(?i)float.*(double|float64)"),
    Case("C10", "torch.ones(3) + torch.ones(4)", "RuntimeError", "3.*4"),
    Case("C10 fused", F + "F.linear(torch.ones(2, 3), torch.ones(4, 5))", "RuntimeError", "3.*5|5.*3"),
    Case("C11", "a = torch.zeros(1).expand(3)\na[0] = 1", "RuntimeError", "memory location"),
    Case("C12", "torch.zeros(1).expand(3).add_(1)", "RuntimeError", "memory location"),
    Case("C13", NAN + "torch.linalg.lstsq(torch.full((3, 2), nan), torch.ones(3))", "RuntimeError", "input has NaN/Inf"),
    Case("C14", "torch.linalg.inv(torch.zeros(2, 2))", "RuntimeError", "The diagonal element 1 is zero, the inversion could not be completed because the input matrix is singular"),
    Case("C15 sort", NAN + "x = torch.tensor([1, nan, 2])\nresult = [str(x.median().item()), x.sort().indices.tolist()]", result=["nan", [0, 2, 1]]),
    Case("C15", NAN + "result = [str(torch.tensor([1, nan, 2]).max().item()), str(torch.tensor([1, nan, 2]).amin().item())]", result=["nan", "nan"]),
    Case("C16", "torch.tensor([1, 2]).mean()", "RuntimeError", "(?i)long|int64"),
    # E: memory of others
    Case("E4", "import math\nx = torch.ones((), requires_grad=True)\nresult = round(math.sin(x), 6)", result=0.841471, warns="UserWarning"),
    Case("E5", READ_ONLY + "\nt.add_(1)", "RuntimeError", "read-only"),
    Case("E5 out", READ_ONLY + "\ntorch.add(t, 1, out=t)", "RuntimeError", "read-only"),
    Case("E5 item", READ_ONLY + "\nt[0] = 1", "RuntimeError", "read-only"),
    Case("E5 view", READ_ONLY + "\nt.view(2, 2)[0].fill_(1)", "RuntimeError", "read-only"),
    Case("E5 array", READ_ONLY + "\nt.numpy()[0] = 1", "ValueError", "read-only"),
    Case("E6", "t = torch.from_numpy(np.frombuffer(b'bytes are immutable', 'u1'))\nt.fill_(65)", "RuntimeError", "read-only"),
    Case("E7", MEMMAP + "t.zero_()", "RuntimeError", "read-only"),
    Case("E7 read", MEMMAP + "result = t.sum().item()", result=0.0),
]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_row(isolated, case):
    check(isolated, case)


HOSTILE = {
    "index that raises": ("class I:\n    def __index__(self): raise KeyError('mine')\n", "torch.ones(3)[I()]", "KeyError|TypeError|IndexError"),
    "float that raises": ("class N:\n    def __float__(self): raise KeyError('mine')\n", "torch.tensor([N()])", "KeyError|TypeError|ValueError|RuntimeError"),
    "length that raises": ("class L:\n    def __len__(self): raise KeyError('mine')\n    def __getitem__(self, i): return 1.0\n", "torch.tensor(L())", "KeyError|TypeError|ValueError|RuntimeError"),
    "length that is negative": (LYING, "torch.tensor(Lying(-1))", "ValueError|TypeError|RuntimeError"),
    "array that raises": ("class A:\n    def __array__(self, *a, **k): raise KeyError('mine')\n", "torch.as_tensor(A())", "KeyError|TypeError|ValueError|RuntimeError"),
    "shape of floats": ("", "torch.zeros(2.5)", "TypeError"),
    "shape of text": ("", "torch.zeros('3')", "TypeError"),
    "keyword that does not exist": ("", "torch.zeros(3, colour=1)", "TypeError"),
    "too many arguments": ("", "torch.exp(torch.ones(1), 1, 2)", "TypeError"),
    "no argument": ("", "torch.exp()", "TypeError"),
    "another class as self": ("", "torch.Tensor.exp(3)", "TypeError"),
    "argument given twice": ("", "torch.mul(torch.ones(1), 1, other=2)", "TypeError"),
    "dtype that is text": ("", "torch.zeros(3, dtype='float32')", "TypeError"),
    "number that is text": ("", "torch.ones(3) + 'a'", "TypeError"),
    "hook that is no function": ("x = torch.ones(1, requires_grad=True)\n", "(x * 2).register_hook(3).x\n(x * 2).sum().backward()", "TypeError|AttributeError"),
    "dim that is huge": ("", "torch.ones(3).sum(2**70)", "TypeError|OverflowError|ValueError|IndexError"),
    "size that is huge": ("", "torch.ones(3).expand(2**62, 3).contiguous()", "OverflowError|MemoryError|RuntimeError"),
    "product that is huge": ("", "torch.ones(2**20, 1).expand(2**20, 2**40) @ torch.ones(2**40)", "RuntimeError|MemoryError|OverflowError"),
    "steps without end": ("", "torch.linspace(0, 1, 2**62)", "RuntimeError|MemoryError|OverflowError"),
    "permutation without end": ("", "torch.randperm(2**62)", "RuntimeError|MemoryError|OverflowError"),
    "square without end": ("", "torch.eye(2**40)", "RuntimeError|MemoryError|OverflowError"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arguments(isolated, name):
    setup, code, classes = HOSTILE[name]
    answer = isolated(setup + code, 5, 16 * GIGABYTE)
    assert answer["outcome"] == "raised", answer
    assert set(classes.split("|")) & set(answer["classes"]), answer
    assert len(answer["message"]) <= 400
