"""Writes random.txt: calls of PyTorch's CPU generator and what they returned.

Run with a Python that has PyTorch 2.13, on an x86-64 CPU with AVX2 that is not Intel's (there
`bernoulli_` draws from another generator), from this folder:

    python make_random_golden.py

Every line is `call = result`; the calls form one sequence, in which `seed` starts a new stream.
A result is the memory of the tensor in hex, `#` with its 64-bit FNV-1a hash if that is long, or
`!` with the text of the error. tests/random.rs of the crate replays the file.
"""

import warnings

import torch

torch.set_num_threads(1)
warnings.simplefilter("ignore")

FLOATS = ["float16", "bfloat16", "float32", "float64"]
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", *FLOATS]
SIZES = [1, 5, 15, 16, 17, 31, 100, 1000]
generator = torch.Generator()
lines = []


def memory(tensor):
    dense = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.flatten())
    return bytes(dense.view(torch.uint8).numpy())


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def call(*words, full=False):
    name, *args = words
    try:
        data = memory(CALLS[name](*args))
        result = data.hex() if full or len(data) <= 48 else f"#{fnv1a(data):016x}"
    except (RuntimeError, NotImplementedError) as error:
        result = "!" + str(error)
    text = " ".join(
        "none" if w is None else repr(w) if isinstance(w, float) else str(w) for w in words
    )
    lines.append(f"{text} = {result}")


def empty(dtype, *size):
    return torch.empty(size, dtype=getattr(torch, dtype))


def fill(method):
    return lambda dtype, n, *args: getattr(empty(dtype, n), method)(*args, generator=generator)


def probabilities(dtype, n):
    return torch.tensor([i / n for i in range(n)], dtype=getattr(torch, dtype))


def weights(dtype, rows, columns):
    values = [(7 * i + 3) % 11 * 0.25 for i in range(rows * columns)]
    return torch.tensor(values, dtype=getattr(torch, dtype)).view(rows, columns)


def dropout(dtype, n, p):
    # `dropout` takes no generator; lend it this one's state.
    torch.set_rng_state(generator.get_state())
    mask = torch.nn.functional.dropout(torch.ones(n, dtype=getattr(torch, dtype)), p)
    generator.set_state(torch.get_rng_state())
    return mask


CALLS = {
    "uniform": fill("uniform_"),
    "normal": fill("normal_"),
    "gaps": lambda dtype, n, *args: empty(dtype, n, 2)[:, 0].normal_(*args, generator=generator),
    "random": fill("random_"),
    "between": fill("random_"),
    "bernoulli": fill("bernoulli_"),
    "exponential": fill("exponential_"),
    "cauchy": fill("cauchy_"),
    "log_normal": fill("log_normal_"),
    "geometric": fill("geometric_"),
    "each": lambda out, p, n: empty(out, n).bernoulli_(probabilities(p, n), generator=generator),
    "dropout": dropout,
    "permutation": lambda n: torch.randperm(n, generator=generator),
    "multinomial": lambda dtype, rows, columns, samples, replacement: torch.multinomial(
        weights(dtype, rows, columns), samples, bool(replacement), generator=generator
    ),
    "state": lambda: generator.get_state(),
}


def seed(number):
    generator.manual_seed(number)
    lines.append(f"seed {number} =")


for number in [0, 42, 2**32 + 7, -1]:
    for name in ["uniform", "normal", "gaps"]:
        for dtype in FLOATS:
            for n in SIZES:
                seed(number)
                call(name, dtype, n, 0.0, 1.0)
    seed(number)
    call("state", full=True)
    # From here on one stream: positions and the cached normal carry over.
    for dtype in FLOATS:
        for n in SIZES:
            call("uniform", dtype, n, -2.1, 3.3)
            call("normal", dtype, n, 0.3, 1.7)
            call("gaps", dtype, n, 0.3, 1.7)
            call("exponential", dtype, n, 1.7)
            call("cauchy", dtype, n, 0.3, 1.7)
            call("log_normal", dtype, n, 0.3, 0.7)
            call("dropout", dtype, n, 0.1)
            call("dropout", dtype, n, 0.5)
            call("each", "bool", dtype, n)
            call("each", dtype, "float32", n)
            call("state")
        call("dropout", dtype, 5, 0.0)
        call("dropout", dtype, 5, 1.0)
        call("uniform", dtype, 5, 1.0, 1.0)
        call("normal", dtype, 17, 1.0, 0.0)
        call("uniform", dtype, 0, 0.0, 1.0)
        call("normal", dtype, 0, 0.0, 1.0)
        for rows, columns, samples, replacement in [
            (1, 5, 1, 0),
            (3, 7, 1, 1),
            (3, 7, 9, 1),
            (2, 100, 300, 1),
            (2, 10, 8, 0),
        ]:
            call("multinomial", dtype, rows, columns, samples, replacement)
    call("state", full=True)
    for dtype in DTYPES:
        for n in [5, 1000]:
            call("random", dtype, n)
            call("between", dtype, n, 0, 2)
            call("between", dtype, n, 0, None)
            call("bernoulli", dtype, n, 0.3)
            if dtype != "bool":
                call("between", dtype, n, 3, 100)
                call("geometric", dtype, n, 0.25)
            if dtype in ("int32", "int64", *FLOATS[1:]):
                for to in [2**28 - 1, 2**28, 2**31 - 1]:
                    call("between", dtype, n, -17, to)
            if dtype in ("int64", *FLOATS[1:]):
                call("between", dtype, n, -(2**63), None)
                call("between", dtype, n, -(2**63), 2**63 - 1)
                call("between", dtype, n, -5, 2**60 + 1)
                call("between", dtype, n, 2**40 + 1, 2**41 + 1)
        if dtype not in ("bool", "float64"):
            call("geometric", dtype, 100, 0.001)
    call("between", "float16", 1000, -2049, 4097)
    call("between", "float16", 1000, 2049, 65504)
    call("bernoulli", "float32", 100, 0.0)
    call("bernoulli", "float32", 100, 1.0)
    for n in [0, 1, 2, 8, 257, 30000]:
        call("permutation", n)
    call("state")

assert not any("= !" in line for line in lines)

NAN, INFINITY = float("nan"), float("inf")
seed(1)
for words in [
    *(
        ("uniform", "float32", 3, *b)
        for b in [(2.0, 1.0), (NAN, 1.0), (0.0, INFINITY), (-3e38, 3e38)]
    ),
    ("uniform", "float16", 3, 0.0, 1e5),
    ("uniform", "bfloat16", 3, 1.25e-5, 1e-7),
    ("uniform", "float64", 3, 1234567.0, 123456.7),
    ("normal", "float32", 20, 0.0, -1.5),
    ("normal", "float32", 3, 0.0, NAN),
    ("exponential", "float32", 3, 0.0),
    ("exponential", "float32", 3, NAN),
    ("log_normal", "float32", 3, 0.0, 0.0),
    ("cauchy", "float32", 3, 0.0, -1.0),
    ("geometric", "int32", 3, 1.0),
    ("geometric", "bool", 3, 0.5),
    ("bernoulli", "bool", 3, 1.5),
    ("bernoulli", "bool", 3, NAN),
    ("multinomial", "float32", 1, 3, 4, 0),
    ("multinomial", "float32", 1, 3, 0, 1),
    ("multinomial", "int64", 1, 3, 1, 1),
    ("between", "int64", 3, 3, 3),
    ("between", "int64", 3, 5, 3),
    ("between", "bool", 3, 0, 3),
    ("between", "uint8", 3, 0, 257),
    ("between", "uint8", 3, -3, 20),
    ("between", "float16", 3, 0, 100000),
    ("between", "float16", 3, 100000, 100001),
    ("between", "float32", 3, 2**25, None),
    ("between", "float32", 3, 2**60 - 1, 2**60),
    ("between", "int16", 3, -(2**63), None),
    ("between", "float16", 3, -(2**63), None),
    *(("uniform", d, 3, 0.0, 1.0) for d in ["bool", "int64"]),
    *(("normal", d, 3, 0.0, 1.0) for d in ["uint8", "int32"]),
    *((f, d, 3, 1.0) for f in ["exponential"] for d in DTYPES[:6]),
    *(("cauchy", d, 3, 0.0, 1.0) for d in DTYPES[:6]),
    ("log_normal", "int16", 3, 0.0, 1.0),
    ("each", "bool", "int64", 3),
]:
    call(*words)
    assert "= !" in lines[-1], lines[-1]
call("state")

with open("random.txt", "w") as file:
    file.write("\n".join(lines) + "\n")
