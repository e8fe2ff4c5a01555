"""The service: what both protocols share, the server, and the command `twofold`."""

import os

# FastAPI imports OpenTelemetry's API, which loads the propagators that this variable names and ends
# the process if one is not installed. A platform may set it for all that runs there. Our traces
# have the W3C's propagator alone (``api.telemetry.traces``).
os.environ["OTEL_PROPAGATORS"] = "none"
