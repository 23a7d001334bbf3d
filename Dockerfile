# syntax=docker/dockerfile:1
# The service of serkit: what answers, without what trains (no torch, scikit-learn, scipy, pyarrow, pandas).
# Checked by hadolint and by tests/serving/test_http_docker.py; not built where serkit is developed.
#
#   docker build -t serkit .
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp serkit --model default
#   docker build --build-arg WITH_FFMPEG=yes -t serkit .      # M4A, MP4 and other containers too
#   docker build --build-arg EXTRAS=docker/training.txt ...   # bundles whose encoders need torch

FROM python:3.12-slim-bookworm AS build
ARG EXTRAS=""
WORKDIR /build
COPY docker docker
RUN python -m venv /opt/serkit \
    && /opt/serkit/bin/pip install --no-cache-dir --requirement docker/requirements.txt \
    && /opt/serkit/bin/pip install --no-cache-dir --no-deps --requirement docker/weights.txt \
    && if [ -n "$EXTRAS" ]; then /opt/serkit/bin/pip install --no-cache-dir --requirement "$EXTRAS"; fi
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/serkit/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim-bookworm
ARG WITH_FFMPEG=no
# hadolint ignore=DL3008
RUN if [ "$WITH_FFMPEG" = yes ]; then \
        apt-get update && apt-get install -y --no-install-recommends ffmpeg && rm -rf /var/lib/apt/lists/*; \
    fi \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin serkit
COPY --from=build /opt/serkit /opt/serkit
ENV PATH=/opt/serkit/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 HOME=/tmp
USER 10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["serkit", "serve", "--host", "0.0.0.0", "--port", "8000"]
