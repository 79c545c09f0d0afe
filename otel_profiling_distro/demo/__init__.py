"""What `otel-profiling demo` profiles: a small web shop, the process it runs in, and its customers."""
