"""Runs pieces of Python, each in a process of its own: `support.Isolated` is the other end.

The package is imported once; every piece runs in a fork of this process, in which nothing has run
yet (no thread, no tensor). So a crash or a hang is the answer to one question, not the end of all,
and a question costs milliseconds. A line of JSON comes in, a line of JSON goes out:

    {"code": "...", "limit": seconds, "memory": bytes of address space or null}
    {"outcome": "value", "value": result, "warnings": [...]}
    {"outcome": "raised", "classes": [...], "message": "...", "warnings": [...]}
    {"outcome": "timeout"}  or  {"outcome": "died", "status": "SIGSEGV"}
"""

import json
import os
import resource
import select
import signal
import sys
import time
import warnings

import numpy as np
import wengert


def run(code):
    names = {"torch": wengert, "np": np, "__name__": "isolated"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(compile(code, "<isolated>", "exec"), names)
            result = names.get("result")
            answer = {"outcome": "value", "value": result}
            json.dumps(result)
        except BaseException as e:
            classes = [c.__name__ for c in type(e).__mro__]
            answer = {"outcome": "raised", "classes": classes, "message": str(e)}
    answer["warnings"] = [f"{w.category.__name__}: {w.message}" for w in caught]
    return answer


def child(question, pipe):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    usual = resource.getrlimit(resource.RLIMIT_AS)
    if question["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (question["memory"], usual[1]))
    os.dup2(2, 1)  # what the code prints must not mix with the answers
    answer = run(question["code"])
    resource.setrlimit(resource.RLIMIT_AS, usual)
    with os.fdopen(pipe, "w") as f:
        json.dump(answer, f)
    os._exit(0)


def read_all(fd, limit):
    """Everything written to `fd`, or None if that takes longer than `limit` seconds."""
    end, parts = time.monotonic() + limit, []
    while select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
        part = os.read(fd, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None


def ask(question):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setpgid(0, 0)
        child(question, writing)
    os.close(writing)
    text = read_all(reading, question["limit"])
    os.close(reading)
    if text is None:
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if text is None:
        return {"outcome": "timeout"}
    if os.WIFSIGNALED(status):
        return {"outcome": "died", "status": signal.Signals(os.WTERMSIG(status)).name}
    return json.loads(text) if text else {"outcome": "died", "status": str(os.WEXITSTATUS(status))}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(ask(json.loads(line))) + "\n")
        sys.stdout.flush()
