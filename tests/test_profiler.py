"""The profiler: what is recorded, sums and tables, schedules, trace files; and nothing when off."""

import gzip
import json
import threading

import pytest
import wengert as torch
from support import leaf
from wengert.autograd.profiler import EventList
from wengert.profiler import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)

FILE = __file__
EVALUATE = "autograd::engine::evaluate_function: "


def names(prof):
    return [event.name for event in prof.events()]


def find(prof, name):
    (event,) = [event for event in prof.events() if event.name == name]
    return event


def test_operations_and_nodes_are_events():
    w, x = leaf(), torch.ones(3)
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        loss = (w * x).tanh().sum()
        loss.backward()
    assert names(prof) == [
        "aten::mul",
        "aten::tanh",
        "aten::sum",
        *(prefix + name for name in ("SumBackward0", "TanhBackward0", "MulBackward0")
          for prefix in (EVALUATE, "")),
        EVALUATE + "torch::autograd::AccumulateGrad",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: x + x, "aten::add"),
        (lambda x: 1 - x, "aten::rsub"),
        (lambda x: 2 / x, "aten::div"),
        (lambda x: x**2, "aten::pow"),
        (lambda x: x @ x, "aten::matmul"),
        (lambda x: x >= 1, "aten::ge"),
        (lambda x: x > 1, "aten::gt"),
        (lambda x: x != 1, "aten::ne"),
        (lambda x: -x, "aten::neg"),
        (lambda x: abs(x), "aten::abs"),
        (lambda x: ~(x > 0), "aten::bitwise_not"),
        (lambda x: x[0], "aten::__getitem__"),
        (lambda x: x.add_(1), "aten::add_"),
        (lambda x: x.__imul__(2), "aten::mul_"),
        (lambda x: x.__setitem__(0, 1.0), "aten::__setitem__"),
        (torch.exp, "aten::exp"),
        (torch.nn.functional.softplus, "aten::softplus"),
    ],
)
def test_names_are_those_of_pytorch(call, name):
    x = torch.ones(3)
    with profile(record_shapes=True) as prof:
        call(x)
    assert names(prof)[-1] == name
    assert prof.events()[-1].input_shapes[0] == [3]


def test_nothing_is_recorded_outside():
    x = torch.ones(3)
    with profile() as prof:
        pass
    _ = x + 1
    with record_function("outside"):
        _ = x + 1
    assert names(prof) == []


def test_times_nest():
    with profile() as prof, record_function("outer"):
        with record_function("inner"):
            torch.ones(1000).exp()
        torch.ones(10)
    outer, inner = find(prof, "outer"), find(prof, "inner")
    assert inner.cpu_parent is outer
    assert [child.name for child in outer.cpu_children] == ["inner", "aten::ones"]
    assert [child.name for child in inner.cpu_children] == ["aten::ones", "aten::exp"]
    assert outer.time_range.start <= inner.time_range.start
    assert inner.time_range.end <= outer.time_range.end
    children = sum(child.cpu_time_total for child in outer.cpu_children)
    assert outer.self_cpu_time_total == pytest.approx(outer.cpu_time_total - children)
    assert outer.is_user_annotation
    assert prof.events().self_cpu_time_total == pytest.approx(outer.cpu_time_total)


def test_a_span_ends_with_an_exception():
    with profile() as prof:
        with pytest.raises(RuntimeError), record_function("fails"):
            torch.ones(3) + torch.ones(4)
        torch.ones(1)
    assert find(prof, "aten::add").cpu_parent.name == "fails"
    assert prof.events()[-1].cpu_parent is None


def test_record_function_decorates():
    @record_function("step")
    def double(x, times=2):
        """Doubles."""
        return x * times

    with profile() as prof:
        assert double(torch.ones(2), times=3).tolist() == [3.0, 3.0]
        double(torch.ones(2))
    assert names(prof).count("step") == 2
    assert double.__doc__ == "Doubles."
    assert double.__name__ == "double"


def test_record_function_is_balanced():
    with pytest.raises(RuntimeError, match="not entered"):
        record_function("name").__exit__(None, None, None)
    span = record_function("again")
    with profile() as prof, span, span:
        pass
    assert names(prof) == ["again", "again"]


def test_shapes_of_inputs():
    a, b = torch.ones(4, 3, requires_grad=True), torch.ones(3, 2)
    with profile(record_shapes=True) as prof:
        torch.add(a @ b, torch.ones(2), alpha=2).sum().backward()
    assert find(prof, "aten::matmul").input_shapes == [[4, 3], [3, 2]]
    assert find(prof, "aten::add").input_shapes == [[4, 2], [2]]
    assert find(prof, "MmBackward0").input_shapes == [[4, 2]]
    with profile() as prof:
        a.sum()
    assert prof.events()[0].input_shapes == []


def test_bytes():
    x = torch.ones(1 << 16)
    with profile(profile_memory=True) as prof, record_function("all"):
        y = x * 2
        z = x.view(256, 256)
        del y
    made = x.element_size() * x.numel()
    assert made <= find(prof, "aten::mul").cpu_memory_usage < 1.3 * made
    assert find(prof, "aten::view").cpu_memory_usage < 1000
    assert abs(find(prof, "all").cpu_memory_usage) < 1000
    assert find(prof, "all").self_cpu_memory_usage < -made / 2
    assert "CPU Mem" in prof.key_averages().table()
    del z


def test_lines():
    w = leaf()

    def inner():
        return w * 2

    with profile(with_stack=True) as prof:
        inner().sum().backward()
    stack = find(prof, "aten::mul").stack
    number = inner.__code__.co_firstlineno + 1
    assert stack[0] == f"{FILE}({number}): test_lines.<locals>.inner"
    assert stack[1] == f"{FILE}({number + 3}): test_lines"
    assert find(prof, "MulBackward0").stack == stack[:1], "where the operation ran"


def test_threads_have_numbers():
    def work():
        torch.ones(3).exp()

    with profile() as prof:
        work()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    mine, other = [event for event in prof.events() if event.name == "aten::exp"]
    assert mine.thread != other.thread


def test_sums():
    with profile(record_shapes=True, with_stack=True) as prof:
        for n in (2, 2, 3):
            torch.ones(n).exp()
    sums = {e.key: e for e in prof.key_averages()}
    assert sums["aten::exp"].count == 3
    total = sum(e.cpu_time_total for e in prof.events() if e.name == "aten::exp")
    assert sums["aten::exp"].cpu_time_total == pytest.approx(total)
    assert sums["aten::exp"].cpu_time == pytest.approx(total / 3)
    by_shape = prof.key_averages(group_by_input_shape=True)
    counts = {str(e.input_shapes): e.count for e in by_shape if e.key == "aten::exp"}
    assert counts == {"[[2]]": 2, "[[3]]": 1}
    by_line = [e for e in prof.key_averages(group_by_stack_n=1) if e.key == "aten::exp"]
    assert [e.count for e in by_line] == [3]
    assert by_line[0].stack[0].startswith(FILE)
    assert prof.key_averages().total_average().count == len(prof.events())


def test_the_table():
    with profile(record_shapes=True) as prof, record_function("a name that is very long " * 4):
        for _ in range(3):
            torch.ones(2, 2).exp()
        torch.ones(2, 2) @ torch.ones(2, 2)
    table = prof.key_averages(group_by_input_shape=True).table(sort_by="count", row_limit=2)
    dashes, titles, _, *rows, _, total = table.splitlines()
    assert titles.split()[0] == "Name"
    for title in ("Self CPU %", "Self CPU", "CPU total %", "CPU time avg", "# of Calls"):
        assert title in titles
    assert "Input Shapes" in titles
    assert len(rows) == 2
    assert rows[0].split()[0] == "aten::ones"
    assert rows[1].split()[0] == "aten::exp"
    assert len(set(map(len, (dashes, titles, *rows)))) == 1, "columns stand below each other"
    assert total.startswith("Self CPU time total: ")
    whole = prof.key_averages()
    assert "..." in whole.table(max_name_column_width=20)
    assert "exp" not in whole.table(sort_by="self_cpu_time_total", row_limit=0)
    assert whole.table(header="HEADER").startswith("HEADER\n")
    assert "exp" not in prof.events().table(top_level_events_only=True)
    assert "ms" in whole.table(time_unit="ms")
    assert str(whole) == whole.table()
    rows = whole.table(sort_by="cpu_time_total", time_unit="us", row_limit=3).splitlines()[4:6]
    times = [float(row.split()[4].removesuffix("us")) for row in rows]
    assert times == sorted(times, reverse=True)
    with pytest.raises(AttributeError, match="cannot sort by 'colour'"):
        whole.table(sort_by="colour")
    whole.table(sort_by="cuda_time_total")  # there is none; scripts ask all the same


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_the_trace_file(tmp_path, name):
    w = leaf()
    with profile(record_shapes=True, with_stack=True) as prof:
        with record_function("forward"):
            loss = (w * 2).exp().sum()
        loss.backward()
    prof.add_metadata("run", "7")
    prof.add_metadata_json("lr", "[0.1, 0.2]")
    prof.export_chrome_trace(str(tmp_path / name))
    open_file = gzip.open if name.endswith("gz") else open
    with open_file(tmp_path / name, "rt") as file:
        trace = json.load(file)
    assert (trace["run"], trace["lr"]) == ("7", [0.1, 0.2])
    events = trace["traceEvents"]
    spans = {e["name"]: e for e in events if e["ph"] == "X"}
    assert len(spans) == len(prof.events())
    for event in spans.values():
        assert {"ts", "dur", "pid", "tid", "cat", "name"} <= set(event)
        assert event["dur"] >= 0
    assert spans["forward"]["cat"] == "user_annotation"
    assert spans["aten::exp"]["args"]["Input Dims"] == [[3]]
    assert "test_the_trace_file" in spans["aten::exp"]["args"]["Call stack"]
    ends = spans["forward"]["ts"] + spans["forward"]["dur"]
    assert ends <= spans["SumBackward0"]["ts"], "forward and backward on one axis"
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    arrows = {e["id"]: e for e in events if e["ph"] == "f"}
    assert len(arrows) == 3
    number = spans["ExpBackward0"]["args"]["Sequence number"]
    assert starts[number]["ts"] == spans["aten::exp"]["ts"]
    assert arrows[number]["ts"] == spans["ExpBackward0"]["ts"]


def test_stacks_for_flame_graphs(tmp_path):
    with profile(with_stack=True) as prof:
        torch.ones(1000, 1000).exp()
    prof.export_stacks(str(tmp_path / "stacks"), "self_cpu_time_total")
    lines = (tmp_path / "stacks").read_text().splitlines()
    assert any("test_stacks_for_flame_graphs;aten::exp " in line for line in lines)
    assert all(int(line.rsplit(" ", 1)[1]) > 0 for line in lines)
    with profile() as prof:
        pass
    with pytest.raises(RuntimeError, match="with_stack"):
        prof.export_stacks(str(tmp_path / "stacks"))


# ---------------------------------------------------------------------------------- schedules


def test_a_schedule_counts_steps():
    plan = schedule(wait=1, warmup=1, active=2, repeat=2, skip_first=1)
    none, warm, record, save = ProfilerAction
    cycle = [none, warm, record, save]
    assert [plan(step) for step in range(11)] == [none, *cycle, *cycle, none, none]
    plan = schedule(wait=2, warmup=1, active=1, skip_first_wait=1)
    assert [plan(step) for step in range(6)] == [warm, save, none, none, warm, save]
    with pytest.raises(AssertionError, match="Invalid profiler schedule"):
        schedule(wait=1, warmup=1, active=0)
    with pytest.warns(UserWarning, match="warmup"):
        schedule(wait=0, warmup=0, active=1)


def test_scheduled_steps_are_recorded():
    ready = []
    plan = schedule(wait=1, warmup=1, active=2, repeat=2)
    with profile(schedule=plan, on_trace_ready=lambda p: ready.append(names(p))) as prof:
        for step in range(12):
            torch.full((1,), float(step)).exp()
            prof.step()
    span = ["aten::full", "aten::exp"]
    assert ready == [
        ["ProfilerStep#2", *span, "ProfilerStep#3", *span],
        ["ProfilerStep#6", *span, "ProfilerStep#7", *span],
    ]
    assert prof.step_num == 12
    assert names(prof) == ready[-1]


def test_a_recording_that_is_cut_short_is_ready_too():
    ready = []
    plan = schedule(wait=0, warmup=1, active=5)
    with profile(schedule=plan, on_trace_ready=lambda p: ready.append(names(p))) as prof:
        prof.step()
        torch.ones(1)
    assert ready == [["ProfilerStep#1", "aten::ones"]]


def test_events_of_all_cycles():
    plan = schedule(wait=0, warmup=1, active=1)
    with profile(schedule=plan, acc_events=True) as prof:
        for _ in range(4):
            torch.ones(1)
            prof.step()
    assert names(prof) == ["ProfilerStep#1", "aten::ones", "ProfilerStep#3", "aten::ones"]


def test_trace_handler(tmp_path):
    handler = tensorboard_trace_handler(str(tmp_path / "logs"), "worker")
    with profile(on_trace_ready=handler):
        torch.ones(1)
    (file,) = (tmp_path / "logs").iterdir()
    assert file.name.startswith("worker.")
    assert file.name.endswith(".pt.trace.json")
    assert any(e["name"] == "aten::ones" for e in json.loads(file.read_text())["traceEvents"])


def test_start_and_stop():
    prof = profile()
    with pytest.raises(AssertionError, match="Expected profiler to be set"):
        prof.events()
    prof.start()
    torch.ones(1)
    prof.stop()
    torch.ones(1)
    assert names(prof) == ["aten::ones"]


# ------------------------------------------------------------------------------- what is refused


def test_activities():
    assert supported_activities() == {ProfilerActivity.CPU}
    with pytest.warns(UserWarning, match="CUDA is not available, disabling CUDA profiling"):
        profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
    with (
        pytest.warns(UserWarning, match="CUDA"),
        pytest.raises(AssertionError, match="No valid profiler activities"),
    ):
        profile(activities=[ProfilerActivity.CUDA])
    with pytest.raises(NotImplementedError, match="with_flops"):
        profile(with_flops=True)


def test_one_recording_at_a_time():
    with profile() as prof:
        with pytest.raises(RuntimeError, match="already enabled"), profile():
            pass
        torch.ones(1)
    assert names(prof) == ["aten::ones"]


# --------------------------------------------------------------------------------- older names


def test_the_autograd_profiler():
    w = leaf()
    with torch.autograd.profiler.profile(use_cpu=True, record_shapes=True) as prof:
        with torch.autograd.profiler.record_function("forward"):
            y = (w * 2).sum()
        y.backward()
    assert isinstance(prof.function_events, EventList)
    assert prof.function_events[0].name == "forward"
    assert {e.key for e in prof.key_averages()} >= {"aten::mul", "MulBackward0"}
    assert "aten::mul" in prof.table(sort_by="cpu_time_total")
    assert str(prof) == prof.function_events.table()
    assert prof.total_average().count == len(prof.function_events)
    assert prof.self_cpu_time_total > 0
    with torch.autograd.profiler.profile(enabled=False) as off:
        w.exp()
    assert str(off) == "<unfinished profile>"
    with pytest.raises(RuntimeError, match="didn't finish running"):
        _ = off.function_events
    with pytest.raises(ValueError, match="only the CPU"):
        torch.autograd.profiler.profile(use_cpu=False)


def test_a_profile_of_many_events_is_quick():
    x = torch.ones(1)
    with profile() as prof:
        for _ in range(20_000):
            x = x * 1
    assert len(prof.events()) == 20_000
    assert prof.key_averages()[0].count == 20_000
