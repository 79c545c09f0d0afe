"""The goods and customers of the demo shop, made up the same way at every start."""

from __future__ import annotations

import random
from dataclasses import dataclass

CATEGORIES = ("garden", "kitchen", "office", "music", "sports", "travel")
REGIONS = ("north", "east", "south", "west")

_ADJECTIVES = ("blue", "folding", "heavy", "light", "quiet", "round", "small", "steel", "warm", "wooden")
_NOUNS = ("bag", "bench", "chair", "desk", "drum", "kettle", "lamp", "radio", "shelf", "table", "tent", "watch")


@dataclass(frozen=True, slots=True)
class Product:
    """Something for sale; the price is in cents."""

    number: int
    title: str
    category: str
    price: int


@dataclass(frozen=True, slots=True)
class Order:
    """One line of the shop's books; the amount is in cents."""

    region: str
    category: str
    amount: int


_random = random.Random(1)  # noqa: S311 - plausible goods, no secrets

PRODUCTS = tuple(
    Product(
        number,
        f"{_random.choice(_ADJECTIVES)} {_random.choice(_ADJECTIVES)} {_random.choice(_NOUNS)}",
        _random.choice(CATEGORIES),
        _random.randrange(500, 50_000),
    )
    for number in range(400)
)

TASTES = tuple(tuple(_random.random() for _ in range(24)) for _ in range(4_000))
"""For each customer, how much each of 24 topics appeals."""

ORDERS = tuple(
    Order(_random.choice(REGIONS), _random.choice(CATEGORIES), _random.randrange(500, 50_000)) for _ in range(40_000)
)
