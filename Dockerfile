# docker build -t honestface .
#
# One image for CPU and GPU: torch's own wheels bring CUDA, the driver comes from the host. For a CPU-only image of a quarter of the
# size name an index with torch's CPU build: --build-arg PIP_EXTRA_INDEX_URL=URL.
# EXTRAS: fast (OpenVINO, what runs the tiny bundle best on a CPU) by default; fast,facetools adds what bundles with ArcFace or FAN need.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
ARG PIP_EXTRA_INDEX_URL
ARG EXTRAS=fast
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PATH=/opt/honestface/bin:$PATH
RUN apt-get update && apt-get install --yes --no-install-recommends tini
RUN python3 -m venv /opt/honestface
WORKDIR /src
COPY pyproject.toml ./
# What an empty package needs: changed sources neither fetch nor ship it again.
RUN mkdir models service training && touch README.md LICENSE honestface.py && \
    pip install ".${EXTRAS:+[$EXTRAS]}" && pip uninstall --yes honestface
# The face libraries ask for opencv-python, which needs X libraries; the headless build is the same without windows.
RUN if pip show --quiet opencv-python 2>/dev/null; then \
        rm -r /opt/honestface/lib/python3*/site-packages/opencv_python.libs /opt/honestface/lib/python3*/site-packages/cv2 && \
        pip install --force-reinstall --no-deps opencv-python-headless==5.0.0.93; \
    fi
RUN pip check && pip uninstall --yes pip

FROM dependencies AS build
RUN python3 -m ensurepip
COPY pyproject.toml README.md LICENSE honestface.py ./
COPY models models
COPY service service
COPY training training
RUN python3 -m pip install --no-deps --root=/package .

FROM ${BASE}
# Debian packages beside Python's: "gcc libc6-dev" where torch compiles for a GPU.
ARG PACKAGES
RUN if [ -n "$PACKAGES" ]; then \
        apt-get update && apt-get install --yes --no-install-recommends $PACKAGES && rm -r /var/lib/apt/lists/*; \
    fi
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="HonestFace" \
      org.opencontainers.image.description="Face restoration that stays true to the person: POST /restore" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=dependencies /usr/bin/tini-static /usr/bin/tini
COPY --from=dependencies /opt/honestface /opt/honestface
# The only places that are written to: compiled kernels, kept from start to start by a volume, and /tmp.
RUN useradd --uid 10001 --user-group --home-dir /var/cache/honestface --no-create-home --shell /usr/sbin/nologin honestface && \
    install --directory --owner honestface --group honestface /var/cache/honestface && \
    mkdir /bundles
COPY --from=build /package/opt/honestface /opt/honestface
USER 10001:10001
WORKDIR /var/cache/honestface
ENV PATH=/opt/honestface/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/honestface/inductor TRITON_CACHE_DIR=/var/cache/honestface/triton \
    HF_HUB_OFFLINE=1 \
    HONESTFACE_HOST=0.0.0.0 HONESTFACE_PORT=8000
VOLUME ["/bundles", "/var/cache/honestface"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=120s --interval=10s --timeout=3s \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"HONESTFACE_PORT\"] or 8000}/readyz', timeout=2)"]
ENTRYPOINT ["tini", "--", "honestface"]
CMD ["serve"]
