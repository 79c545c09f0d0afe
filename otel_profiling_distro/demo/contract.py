"""What the shop and the program that starts it must agree on, importable where Flask is not installed."""

SHOP_MODULE = "otel_profiling_distro.demo.shop"
SERVICE_NAME = "demo-shop"

LISTENING = "listening on "
"""The shop prints one line of this and its URL, on standard output, once it accepts connections."""

STOP_AT_EOF = "--stop-at-eof"
"""Makes the shop end once its standard input does, so that it never outlives the program that holds the other end."""
