"""Does at import what code does that protoc 29 has generated, and leaves with code 3."""

import sys

from google.protobuf import runtime_version

runtime_version.ValidateProtobufRuntimeVersion(runtime_version.Domain.PUBLIC, 5, 29, 0, "", "example.proto")
print("imported")
sys.exit(3)
