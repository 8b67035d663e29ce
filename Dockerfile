# syntax=docker/dockerfile:1
# One image for every role: the command decides (see compose.yaml).
ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /app/.venv
WORKDIR /app
# Dependencies come before the code, so that a change of code rebuilds one small layer.
COPY requirements.lock ./
RUN .venv/bin/python -m pip install --require-hashes --only-binary :all: -r requirements.lock
COPY postlude ./postlude
COPY actors ./actors
COPY api ./api
COPY scheduler ./scheduler
RUN .venv/bin/python -m compileall -q postlude actors api scheduler

FROM python:${PYTHON}
RUN useradd --system --uid 10001 --no-create-home postlude \
 && install -d -o postlude -g postlude /data
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    POSTLUDE_DATA_DIR=/data \
    POSTLUDE_LOG_FORMAT=json
USER postlude
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["python", "-m", "postlude.cli", "run"]
