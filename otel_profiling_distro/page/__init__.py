"""The page that shows what a receiver has: services, routes, traces, and the flame graph of any of them."""

from .assets import AssetsError, load_assets
from .export import one_file
from .routes import page_routes

__all__ = ["AssetsError", "load_assets", "one_file", "page_routes"]
