# cytosae with its explorer. CPU by default; for CUDA:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t cytosae:cuda .
# A study is mounted at /study, a file of accounts at /accounts (cytosae explore accounts NAME --file accounts.json):
#   docker run -p 8765:8765 -v "$PWD/study:/study" -v "$PWD/accounts:/accounts:ro" cytosae
# Any other command: docker run cytosae doctor

FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
# constraints.txt names torch's versions without the build that the index adds to them
RUN python -m venv /opt/cytosae \
    && grep -v -E '^(torch|torchvision|triton|nvidia)' constraints.txt > /tmp/constraints.txt \
    && /opt/cytosae/bin/pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c /tmp/constraints.txt \
        ".[explorer,onnx,postgres]"

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="cytosae" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/cytosae /opt/cytosae
RUN useradd --create-home --uid 1000 cytosae \
    && mkdir -p /study /accounts /cache \
    && chown cytosae /study /cache
ENV PATH=/opt/cytosae/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONUTF8=1 \
    CYTOSAE_CACHE=/cache
USER cytosae
WORKDIR /study
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/health', timeout=4)"]
ENTRYPOINT ["cytosae"]
CMD ["explore", "/study", "--host", "0.0.0.0", "--accounts", "/accounts/accounts.json", "--no-browser"]
