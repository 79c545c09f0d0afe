"""Works in children made in the way that its first argument names; prints what each of them did."""

import concurrent.futures
import json
import multiprocessing
import os
import subprocess
import sys

from busy import busy_function, identity, tracer


def work(seconds=0.25):
    function = f"busy_{os.getpid()}"
    with tracer.start_as_current_span(f"GET {function}") as span:
        busy_function(function)(seconds)
    return {"pid": os.getpid(), "function": function, **identity(span)}


def work_and_put(queue):
    queue.put(work())


def work_and_fail(queue):
    queue.put(work())
    queue.close()
    queue.join_thread()
    raise RuntimeError("the child's own")


def work_once(_number):
    return {**work(), "function": f"busy_{os.getpid()}"}


def processes(method, target=work_and_put):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=target, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    told = [queue.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    return told


def pool(method):
    """Used up and closed, as one that is left by `with` alone is not."""
    with multiprocessing.get_context(method).Pool(2) as workers:
        told = workers.map(work_once, range(4), chunksize=1)
        workers.close()
        workers.join()
    return told


def executor(method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as workers:
        return list(workers.map(work_once, range(4)))


def forked(leave):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(work()).encode())
        leave()
    told = json.loads(os.read(read, 1000))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return [told, work()]


def daemon():
    """Fork, become a session's leader, fork again; the grandchild is the daemon. Its parents leave at once."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, json.dumps(work()).encode())
            os.close(write)
            sys.exit(0)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        return [json.loads(pipe.read())]  # until the daemon has ended: that is when the pipe ends


def python_children():
    done = subprocess.run([sys.executable, __file__, "itself"], capture_output=True, text=True, check=True)
    return [*json.loads(done.stdout), work()]


if __name__ == "__main__":
    kind, _, method = sys.argv[1].partition("-")
    match kind:
        case "itself":
            told = [work()]
        case "process":
            told = processes(method)
        case "failing":
            told = processes(method, work_and_fail)
        case "pool":
            told = pool(method)
        case "executor":
            told = executor(method)
        case "fork":
            told = forked(sys.exit)
        case "daemon":
            told = daemon()
        case "subprocess":
            told = python_children()
    print(json.dumps(told))
