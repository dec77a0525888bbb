# docker build -t honestface .
# The default index gives torch's CUDA build, which also runs on a CPU; --build-arg PIP_EXTRA_INDEX_URL=URL names an index with a
# smaller CPU build.
FROM python:3.11-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/honestface
WORKDIR /src
COPY pyproject.toml README.md LICENSE honestface.py ./
COPY models models
COPY service service
COPY training training
RUN /opt/honestface/bin/pip install .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/honestface /opt/honestface
RUN useradd --system --uid 10001 --no-create-home honestface
USER 10001
ENV PATH=/opt/honestface/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HONESTFACE_HOST=0.0.0.0
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["honestface"]
CMD ["serve"]
