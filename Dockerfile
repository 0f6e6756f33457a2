# docker build --tag netreduce --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU wheels> .
# docker run --rm --volume "$PWD/results:/netreduce/results" netreduce
FROM python:3.11-slim-bookworm

# Without the index, pip takes PyPI's PyTorch, which brings several GB of CUDA libraries.
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /netreduce
COPY requirements.txt requirements-torch.txt ./
RUN pip install --require-hashes --requirement requirements.txt \
    && pip install --requirement requirements-torch.txt

RUN useradd --uid 1000 --create-home netreduce \
    && mkdir results resources logs .snakemake \
    && chown -R netreduce: .
COPY --chown=netreduce: . .

USER netreduce
VOLUME /netreduce/results
CMD ["snakemake", "--cores", "8"]
