"""A web shop to be profiled: ordinary Flask code that knows nothing of profiling.

Each route keeps the CPU busy in functions of its own name, so that a profile's stacks tell at a glance whether the
labels on them are right. Between them the routes do what makes that hard: threads side by side, a request that hops to
pool threads, an async view whose tasks take turns on one thread, and child spans made with the OpenTelemetry API.

Run as a module, it takes a free port, says on standard output which, and exits normally on SIGINT and SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, request
from opentelemetry import trace
from werkzeug.serving import make_server

from .catalogue import ORDERS, PRODUCTS, REGIONS, TASTES, Product
from .contract import LISTENING, STOP_AT_EOF

app = Flask(__name__)
tracer = trace.get_tracer(__name__)
workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="recommender")


@app.get("/search")
def search() -> dict[str, object]:
    """Find products whose titles look like the query, typing errors forgiven."""
    query = request.args.get("q", "")
    scores = {product: score_title(query, product.title) for product in PRODUCTS}
    return {"found": [product.title for product in rank_results(scores)[:5]]}


def score_title(query: str, title: str) -> float:
    """Return how alike two texts are, from 0 to 1: Levenshtein's distance over the longer length."""
    previous = list(range(len(title) + 1))
    for row, typed in enumerate(query, start=1):
        current = [row]
        for column, letter in enumerate(title, start=1):
            substituted = previous[column - 1] + (typed != letter)
            current.append(min(previous[column] + 1, current[column - 1] + 1, substituted))
        previous = current
    return 1 - previous[-1] / max(len(query), len(title), 1)


def rank_results(scores: dict[Product, float]) -> list[Product]:
    """Return the products, best first; of equals the cheaper."""
    return sorted(scores, key=lambda product: (-scores[product], product.price))


@app.get("/recommend/<int:customer>")
def recommend(customer: int) -> dict[str, object]:
    """Find customers of like taste, one half of them on each of two pool threads."""
    middle = len(TASTES) // 2
    halves = [workers.submit(compare_tastes, customer, part) for part in (range(middle), range(middle, len(TASTES)))]
    likeness = {other: score for half in halves for other, score in half.result().items()}
    return {"similar": sorted(likeness, key=likeness.__getitem__, reverse=True)[:5]}


def compare_tastes(customer: int, others: range) -> dict[int, float]:
    """Return the cosine similarity of a customer's taste to that of each of the others."""
    mine = TASTES[customer % len(TASTES)]
    result = {}
    for other in others:
        product = mine_squared = theirs_squared = 0.0
        for ours, theirs in zip(mine, TASTES[other], strict=True):
            product += ours * theirs
            mine_squared += ours * ours
            theirs_squared += theirs * theirs
        result[other] = product / math.sqrt(mine_squared * theirs_squared)
    return result


@app.post("/checkout")
def checkout() -> dict[str, object]:
    """Sell a basket, in three steps that have spans of their own."""
    basket = PRODUCTS[: request.args.get("items", 20, type=int)]
    with tracer.start_as_current_span("price basket") as span:
        total = price_basket(basket)
        span.set_attribute("shop.basket.cents", total)
    with tracer.start_as_current_span("assess fraud"):
        risk = assess_fraud(total)
    with tracer.start_as_current_span("write invoice"):
        invoice = write_invoice(basket, total)
    return {"total": total, "risk": risk, "invoice": len(invoice)}


def price_basket(basket: tuple[Product, ...]) -> int:
    """Return the lowest price in cents that any mix of vouchers gives."""
    vouchers = [percent for product in basket if (percent := product.price % 7)]
    total = sum(product.price for product in basket)
    best = total
    for mix in range(1 << 14):
        reduced = total
        for position, percent in enumerate(vouchers[:14]):
            if mix >> position & 1:
                reduced -= reduced * percent // 100
        best = min(best, reduced)
    return best


def assess_fraud(total: int) -> float:
    """Return how far the amount lies from what customers usually spend, in standard deviations."""
    count = mean = squares = 0.0
    for order in ORDERS:  # Welford's algorithm
        count += 1
        change = order.amount - mean
        mean += change / count
        squares += change * (order.amount - mean)
    return abs(total - mean) / math.sqrt(squares / count)


def write_invoice(basket: tuple[Product, ...], total: int) -> str:
    """Return the invoice's text, with check digits that every line goes into, slowly."""
    lines = [f"{product.number:06} {product.title:<40} {product.price / 100:>10.2f}" for product in basket]
    check = 0
    for line in lines:
        for letter in line * 100:
            check = (check * 31 + ord(letter)) % 97
    return "\n".join([*lines, f"{total / 100:.2f}", str(check)])


@app.get("/report")
async def report() -> dict[str, object]:
    """Add up each region's sales, in tasks that take turns on one event loop."""
    totals = await asyncio.gather(*(summarise_region(region) for region in REGIONS))
    return dict(zip(REGIONS, totals, strict=True))


async def summarise_region(region: str) -> dict[str, int]:
    """Return a region's sales by category; give way to the other regions after each part of the books."""
    totals: Counter[str] = Counter()
    part = 4_000
    with tracer.start_as_current_span(f"summarise {region}"):
        for start in range(0, len(ORDERS), part):
            add_up_orders(region, start, start + part, totals)
            await asyncio.sleep(0)
    return dict(totals)


def add_up_orders(region: str, start: int, end: int, totals: Counter[str]) -> None:
    """Add to `totals`, by category, what one region earned in one part of the books, less taxes and fees."""
    for order in ORDERS[start:end]:
        if order.region == region:
            taxed = order.category != "office"
            net = round(order.amount / 1.2) if taxed else order.amount
            totals[order.category] += net - net * 3 // 100


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
    server = make_server("127.0.0.1", 0, app, threaded=True)
    # serve_forever ends at KeyboardInterrupt, and then the interpreter exits normally, so that exporters flush.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if STOP_AT_EOF in sys.argv:
        threading.Thread(target=_stop_at_eof, daemon=True).start()
    print(f"{LISTENING}http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


def _stop_at_eof() -> None:
    # Not through sys.stdin: its lock, held here while the interpreter shuts down, would be a fatal error.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
