"""Times wengert beside the libraries that are installed next to it.

    python benches/compare.py
    python benches/compare.py --libraries wengert torch --only 'add|matmul' --json times.json

Microseconds per call, least and median. For each function of a tensor there are three rows:

* **forward**: the function alone, nothing recorded;
* **recorded**: the function of tensors that require grad, with the graph built and let go of;
* **backward**: the gradients through a graph that exists.

A **step** is all of a training step: forward, loss, gradients and the update of the weights.

Each library lives in a process of its own, and they take turns: a slow moment of the machine hits
all alike. With one thread, the default, time is that of the processor, not of the wall.
"""

import argparse
import functools
import importlib.util
import json
import math
import operator
import os
import re
import statistics
import subprocess
import sys
import time
import timeit
from importlib import metadata
from pathlib import Path

import numpy as np

LIBRARIES = ("wengert", "torch", "numpy", "autograd", "jax")
PARTS = {"jax": ("jax", "jaxlib")}  # distributions
MODES = ("forward", "recorded", "backward")

# --- What is measured ---------------------------------------------------------------------------

#: A namespace and the arguments come in.
FUNCTIONS = {
    "add": lambda _, a, b: a + b,
    "mul": lambda _, a, b: a * b,
    "mul number": lambda _, a: a * 2.5,
    "exp": lambda m, a: m.exp(a),
    "tanh": lambda m, a: m.tanh(a),
    "sum": lambda m, a: m.sum(a),
    "transpose": lambda _, a: a.T,
    "matmul": lambda _, a, b: a @ b,
    "softmax": lambda m, a: m.softmax(a),
    "chain of 10": lambda _, a: functools.reduce(operator.mul, [a] * 11),
}


def cases():
    """Yield (label, function, shapes, modes)."""
    for name in ("add", "mul"):
        for n in (1, 1_000, 1_000_000):
            yield f"{name} [{n}]", name, [(n,), (n,)], MODES
    for name in ("mul number", "exp", "tanh", "sum"):
        for n in (1, 1_000, 1_000_000):
            yield f"{name} [{n}]", name, [(n,)], MODES
    yield "transpose [32, 32]", "transpose", [(32, 32)], MODES
    yield "chain of 10 [1]", "chain of 10", [(1,)], MODES
    for n in (8, 64, 512):
        yield f"matmul [{n}, {n}]", "matmul", [(n, n), (n, n)], MODES
    yield "matmul [64, 784] @ [784, 256]", "matmul", [(64, 784), (784, 256)], MODES
    for shape in ((1, 10), (64, 10), (64, 1000)):
        yield f"softmax {list(shape)}", "softmax", [shape], MODES
    for batch, width in ((1, 16), (64, 256)):
        sizes = [(batch, 784), (784, width), (width, 10), (batch, 10)]
        yield f"step 784-{width}-10, batch {batch}", "step", sizes, ("step",)


def samples(shapes):
    """Make arrays for a case, the same for every library."""
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(shape) * 0.1).astype(np.float32) for shape in shapes]


# --- How each library does it: every maker prepares a call to be timed ---------------------------


class _Torch:
    """PyTorch and whatever has its interface."""

    def __init__(self, name, threads):
        self.m = importlib.import_module(name)
        self.m.set_num_threads(threads)
        functional = importlib.import_module(f"{name}.nn.functional")
        self.exp, self.tanh, self.sum = self.m.exp, self.m.tanh, self.m.sum
        self.softmax = lambda x: functional.softmax(x, dim=-1)

    def tensors(self, arrays, requires_grad):
        return [self.m.tensor(a, requires_grad=requires_grad) for a in arrays]

    def forward(self, f, arrays):
        args = self.tensors(arrays, requires_grad=False)
        return lambda: f(self, *args)

    def recorded(self, f, arrays):
        args = self.tensors(arrays, requires_grad=True)
        return lambda: f(self, *args)

    def backward(self, f, arrays):
        args = self.tensors(arrays, requires_grad=True)
        y = f(self, *args)
        seed = self.m.ones_like(y)
        return lambda: self.m.autograd.grad(y, args, seed, retain_graph=True)

    def step(self, arrays):
        x, w1, w2, target = self.tensors(arrays, requires_grad=False)
        weights = [w1.requires_grad_(), w2.requires_grad_()]

        def step():
            hidden = self.m.relu(x @ w1)
            loss = ((hidden @ w2 - target) ** 2).mean()
            loss.backward()
            with self.m.no_grad():
                for w in weights:
                    w.sub_(w.grad, alpha=1e-3)
                    w.grad = None

        return step


class _Numpy:
    """NumPy, which has no gradients."""

    def __init__(self, name, _threads):
        self.m = importlib.import_module(name)
        self.exp, self.tanh, self.sum = self.m.exp, self.m.tanh, self.m.sum

    def softmax(self, x):
        e = self.m.exp(x - self.m.max(x, axis=-1, keepdims=True))
        return e / self.m.sum(e, axis=-1, keepdims=True)

    def forward(self, f, arrays):
        return lambda: f(self, *arrays)


class _Autograd(_Numpy):
    """HIPS autograd."""

    def __init__(self, _name, threads):
        super().__init__("autograd.numpy", threads)
        self.vjp = importlib.import_module("autograd.core").make_vjp

    def recorded(self, f, arrays):
        return lambda: self.vjp(lambda args: f(self, *args), tuple(arrays))

    def backward(self, f, arrays):
        pull, y = self.recorded(f, arrays)()
        seed = self.m.ones_like(y)
        return lambda: pull(seed)

    def step(self, arrays):
        x, *weights, target = arrays
        grad = importlib.import_module("autograd").grad

        def loss(weights):
            w1, w2 = weights
            return self.m.mean((self.m.maximum(x @ w1, 0) @ w2 - target) ** 2)

        def step():
            for w, g in zip(weights, grad(loss)(weights), strict=True):
                w[...] -= 1e-3 * g

        return step


class _Jax:
    """JAX, function by function; the step is compiled, as users would."""

    def __init__(self, _name, _threads):
        self.jax = importlib.import_module("jax")
        self.m = importlib.import_module("jax.numpy")
        self.exp, self.tanh, self.sum = self.m.exp, self.m.tanh, self.m.sum
        self.softmax = self.jax.nn.softmax

    def forward(self, f, arrays):
        args = [self.m.asarray(a) for a in arrays]
        return lambda: self.jax.block_until_ready(f(self, *args))

    def recorded(self, f, arrays):
        args = [self.m.asarray(a) for a in arrays]
        return lambda: self.jax.block_until_ready(self.jax.vjp(lambda *a: f(self, *a), *args)[0])

    def backward(self, f, arrays):
        y, pull = self.jax.vjp(lambda *a: f(self, *a), *map(self.m.asarray, arrays))
        seed = self.m.ones_like(y)
        return lambda: self.jax.block_until_ready(pull(seed))

    def step(self, arrays):
        x, *weights, target = map(self.m.asarray, arrays)

        def loss(weights):
            w1, w2 = weights
            return self.m.mean((self.jax.nn.relu(x @ w1) @ w2 - target) ** 2)

        @self.jax.jit
        def updated(weights):
            pairs = zip(weights, self.jax.grad(loss)(weights), strict=True)
            return [w - 1e-3 * g for w, g in pairs]

        def step():
            weights[:] = self.jax.block_until_ready(updated(weights))

        return step


ADAPTERS = {
    "wengert": _Torch,
    "torch": _Torch,
    "numpy": _Numpy,
    "autograd": _Autograd,
    "jax": _Jax,
}


# --- One library's process ----------------------------------------------------------------------


def serve(name, threads, seconds):
    """Answer each line `[label, mode]` of standard input with the time of a call in seconds."""
    library = ADAPTERS[name](name, threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    table = {label: (function, shapes) for label, function, shapes, _ in cases()}

    @functools.lru_cache(maxsize=1)
    def prepare(label, mode):
        function, shapes = table[label]
        maker = getattr(library, mode, None)
        if maker is None:
            return None
        arrays = samples(shapes)
        call = maker(arrays) if mode == "step" else maker(FUNCTIONS[function], arrays)
        timer = timeit.Timer(call, timer=clock)
        timer.timeit(3)
        number = 1
        while (elapsed := timer.timeit(number)) < seconds / 4:
            number *= 2
        return timer, max(1, round(number * seconds / elapsed))

    for line in sys.stdin:
        prepared = prepare(*json.loads(line))
        if prepared:
            timer, number = prepared
            print(timer.timeit(number) / number, flush=True)
        else:
            print("null", flush=True)


# --- The process that asks ----------------------------------------------------------------------


def environment(threads):
    """Hold every library to the same number of threads."""
    names = ("WENGERT", "OMP", "MKL", "OPENBLAS", "VECLIB_MAXIMUM", "NUMEXPR")
    limits = {f"{name}_NUM_THREADS": str(threads) for name in names}
    if threads == 1:
        limits["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return os.environ | limits | {"JAX_PLATFORMS": "cpu"}


def ask(process, label, mode):
    """One turn of one library, in microseconds."""
    process.stdin.write(json.dumps([label, mode]) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit(f"{process.args[-1]} ended during {label} {mode}")
    seconds = json.loads(answer)
    return None if seconds is None else seconds * 1e6


def measure(libraries, options):
    """Yield (label, mode, {library: (least, median)})."""
    common = [__file__, "--seconds", str(options.seconds), "--threads", str(options.threads)]
    processes = {
        name: subprocess.Popen(
            [sys.executable, *common, "--serve", name],
            env=environment(options.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in libraries
    }
    for label, _, _, modes in cases():
        if not re.search(options.only, label):
            continue
        for mode in modes:
            turns = {name: [] for name in libraries}
            for _ in range(options.rounds):
                for name, process in processes.items():
                    turns[name].append(ask(process, label, mode))
            known = {name: times for name, times in turns.items() if None not in times}
            yield label, mode, {n: (min(t), statistics.median(t)) for n, t in known.items()}
    for process in processes.values():
        process.communicate()


#: Prints the most memory held so far in KiB. On Linux `ru_maxrss` begins with the parent's.
LOOK = """
import pathlib, resource
status = pathlib.Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peaks = [line.split()[1] for line in lines if line.startswith("VmHWM")]
print(*peaks or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024])
"""


def imports(name, options):
    """Seconds to import, MiB held after it (both beyond bare Python), MiB installed."""

    def start(code):
        begin = time.perf_counter()
        command = [sys.executable, "-c", code + LOOK]
        text = subprocess.check_output(command, env=environment(options.threads), text=True)
        return time.perf_counter() - begin, int(text)

    bare = [start("") for _ in range(options.rounds)]
    full = [start(f"import {name}") for _ in range(options.rounds)]
    seconds, kib = (min(f[k] for f in full) - min(b[k] for b in bare) for k in (0, 1))
    return {
        "seconds": seconds,
        "resident_mib": kib / 1024,
        "installed_mib": sum(map(installed, PARTS.get(name, (name,)))) / (1 << 20),
    }


def installed(name):
    """Bytes of a distribution, or of the package's folder where it was not installed."""
    try:
        paths = [file.locate() for file in metadata.files(name) or []]
    except metadata.PackageNotFoundError:
        paths = Path(importlib.util.find_spec(name).origin).parent.rglob("*")
    return sum(path.stat().st_size for path in map(Path, paths) if path.is_file())


def show(rows, libraries):
    """Print rows as they come, and the mean ratios by mode."""
    first, *others = libraries
    print(f"{'µs: least (median)':42}{first:>20}" + "".join(f"{o:>29}" for o in others))
    ratios = {}
    for label, mode, times in rows:
        text = f"{label:32}{mode:10}"
        for name in libraries:
            cell = "-"
            if name in times:
                least, median = times[name]
                cell = f"{least:.4g} ({median:.4g})"
            text += f"{cell:>20}"
            if name != first:
                ratio = times[name][0] / times[first][0] if {name, first} <= times.keys() else None
                text += f"{f'{ratio:.2f}x' if ratio else '':>9}"
                if ratio:
                    ratios.setdefault((mode, name), []).append(ratio)
        print(text, flush=True)
        yield {"case": label, "mode": mode, "microseconds": times}
    for mode in (*MODES, "step"):
        means = [
            f"{name} {math.exp(statistics.fmean(map(math.log, ratios[mode, name]))):.2f}x"
            for name in others
            if (mode, name) in ratios
        ]
        if means:
            print(f"{mode}: time of the others over {first}, geometric mean: {', '.join(means)}")


def main():
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, help="default: what is there")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose label matches")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each library")
    parser.add_argument("--seconds", type=float, default=0.02, help="length of a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--serve", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.threads, options.seconds)
        return
    libraries = options.libraries or [n for n in LIBRARIES if importlib.util.find_spec(n)]
    figures = {"times": list(show(measure(libraries, options), libraries)), "imports": {}}
    print(f"\n{'import':12}{'seconds':>10}{'MiB held':>10}{'MiB on disk':>13}")
    for name in libraries:
        cost = figures["imports"][name] = imports(name, options)
        held, disk = cost["resident_mib"], cost["installed_mib"]
        print(f"{name:12}{cost['seconds']:10.3f}{held:10.1f}{disk:13.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
