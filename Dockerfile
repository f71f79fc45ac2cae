# Parley's server without embedded Postgres and local model: give it PARLEY_DATABASE_URL and
# PARLEY_AGENT or PARLEY_AGENTS_FILE. docs/production.md says how.

# A tag can be moved. To build from the very same base image again, name its digest as well:
#   docker build --build-arg PYTHON=3.11-slim-bookworm@sha256:DIGEST .
# where DIGEST is what `docker buildx imagetools inspect python:3.11-slim-bookworm` says. Both stages use it.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1 UV_LINK_MODE=copy

COPY requirements/uv.txt requirements/
RUN pip install --require-hashes -r requirements/uv.txt

# Everything that is not Parley's own, in a layer that changes only with the pins.
COPY requirements/server.txt requirements/
RUN python -m venv --without-pip /opt/parley \
 && uv pip install --python /opt/parley/bin/python --compile-bytecode \
        --require-hashes -r requirements/server.txt

# Parley itself. What builds the wheel is pinned with hashes, too, and stays behind.
COPY requirements/all.txt requirements/
COPY pyproject.toml README.md ./
COPY protos protos
COPY server server
COPY clients/python clients/python
RUN uv build --wheel --out-dir dist --require-hashes --build-constraints requirements/all.txt \
 && uv pip install --python /opt/parley/bin/python --compile-bytecode --no-deps dist/*.whl


FROM python:${PYTHON}

# A number, so that an orchestrator can tell that it is not root. The base's own packages go, pip among
# them: Parley's environment has all that it needs, and what can install is of no use to a server.
RUN groupadd --system --gid 10001 parley \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin parley \
 && rm -rf /usr/local/lib/python3.*/site-packages/* /usr/local/lib/python3.*/ensurepip \
        /usr/local/bin/pip* /usr/local/bin/wheel
COPY --from=build /opt/parley /opt/parley
USER 10001:10001
WORKDIR /

ENV PATH=/opt/parley/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PARLEY_LISTEN=0.0.0.0:50051 \
    PARLEY_LOG_FORMAT=json

EXPOSE 50051

# Readiness follows the database: unhealthy means "send no calls here now", not "restart". A check takes a
# second of CPU, which at 10 s would be a tenth of a worker's.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["parley-server", "check"]

# SIGTERM lets open turns end, for up to PARLEY_DRAIN_S: give a stop that much time.
ENTRYPOINT ["parley-server"]
CMD ["serve"]
