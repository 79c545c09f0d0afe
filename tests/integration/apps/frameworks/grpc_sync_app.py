"""A gRPC server on worker threads whose messages are plain bytes, so that it needs no generated code."""

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from routes import chunks, work, work_outside


def unary(route):
    def handle(_request, _context):
        return work(route).encode()

    return grpc.unary_unary_rpc_method_handler(handle)


def delta(_request, _context):
    """The server asks for each message from whichever of its threads is free."""
    for chunk in chunks("delta"):
        yield chunk.encode()


stop = threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
server = grpc.server(ThreadPoolExecutor(8))
handlers = {route.capitalize(): unary(route) for route in ("alpha", "beta", "gamma")}
handlers["Delta"] = grpc.unary_stream_rpc_method_handler(delta)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
work_outside()
stop.wait()
server.stop(2).wait()
