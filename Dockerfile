# The image of `twofold serve`; docs/deploy.md says how to build and run it.

# A digest is better than a tag, because it cannot change: --build-arg PYTHON=python@sha256:…
ARG PYTHON=python:3.13.9-slim-bookworm

# --- The wheel, and an environment with it ---

FROM ${PYTHON} AS build

# uv has its hash in the lock, as every package that it installs.
WORKDIR /build
COPY requirements.lock requirements-runtime.lock ./
RUN sed -n '/^uv==/,/[^\\]$/p' requirements.lock > uv.lock \
    && python -m venv tools \
    && tools/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --requirement uv.lock

# Before the sources, so that a change of those installs no package anew.
RUN python -m venv --without-pip /opt/twofold \
    && tools/bin/uv pip install --no-cache --compile-bytecode --python /opt/twofold/bin/python \
        --require-hashes --requirement requirements-runtime.lock

COPY pyproject.toml LICENSE ./
COPY alembic alembic
COPY api api
COPY graphql_schema graphql_schema
COPY persistence persistence
COPY rest rest
RUN tools/bin/uv build --no-cache --wheel --out-dir wheel \
        --build-constraints requirements.lock --require-build-hashes \
    && tools/bin/uv pip install --no-cache --compile-bytecode --python /opt/twofold/bin/python \
        --no-deps wheel/*.whl

# --- What runs ---

FROM ${PYTHON}

# Everything here belongs to root; the service writes to /tmp alone, and only with METRICS_PORT.
COPY --from=build /opt/twofold /opt/twofold
WORKDIR /opt/twofold

ENV PATH=/opt/twofold/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    PORT=8000

# What /health and the log name as the build.
ARG BUILD_COMMIT=
ENV BUILD_COMMIT=${BUILD_COMMIT}

USER 10001:10001
EXPOSE 8000

# That the process answers. Whether its database does is /health/ready: a restart would not help.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s CMD ["python", "-ISc", "from http.client import HTTPConnection as C; from os import environ as e; c = C('127.0.0.1', int(e['PORT']), timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]

# Stop it with a longer time than Docker's 10 s: docker stop --time 40.
STOPSIGNAL SIGTERM
CMD ["twofold", "serve"]
