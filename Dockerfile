# Ollama's own image with the daemon as its process 1. It builds on any base that has apt and `ollama` on its PATH.
ARG BASE_IMAGE=docker.io/ollama/ollama:0.34.4

FROM ${BASE_IMAGE} AS runtime
RUN apt-get -o Acquire::Retries=3 update \
    && DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 install -y --no-install-recommends \
        bash ca-certificates curl python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log /var/log/alternatives.log

# All that is needed to build stays in these two stages.
FROM runtime AS dependencies
RUN apt-get -o Acquire::Retries=3 update \
    && DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 install -y --no-install-recommends python3-venv
WORKDIR /build
RUN python3 -m venv tools \
    && tools/bin/python -m pip install --disable-pip-version-check --no-cache-dir 'pip>=23' 'setuptools>=64' wheel \
    && python3 -m venv --without-pip /opt/arasul-supervisor
COPY setup.cfg ./
RUN printf '%s\n' 'from configparser import ConfigParser' 'setup = ConfigParser()' 'setup.read("setup.cfg")' \
        'print(setup["options"]["install_requires"])' | tools/bin/python - >requirements.txt \
    && tools/bin/python -m pip --python /opt/arasul-supervisor/bin/python install \
        --disable-pip-version-check --no-cache-dir --only-binary :all: --requirement requirements.txt

FROM dependencies AS package
COPY pyproject.toml README.md LICENSE ./
COPY arasul_supervisor arasul_supervisor
RUN tools/bin/python -m pip wheel --disable-pip-version-check --no-cache-dir --no-deps --no-build-isolation \
        --wheel-dir wheels . \
    && tools/bin/python -m pip --python /opt/arasul-supervisor/bin/python install \
        --disable-pip-version-check --no-cache-dir --no-deps --no-index --no-warn-script-location \
        --root /package wheels/*.whl

FROM runtime
# The log and the small state lie in the volume, so that a new container goes on where the last one ended; for the
# user arasul (docker run --user arasul) in that of its home. Any other user finds places of its own below HOME.
RUN useradd --uid 10001 --create-home --shell /bin/bash arasul \
    && install -d -o arasul -g arasul /home/arasul/.ollama /home/arasul/.local /home/arasul/.local/state \
    && ln -s ../../.ollama/supervisor /home/arasul/.local/state/arasul-supervisor \
    && ln -s /root/.ollama/logs/ollama.log /var/log/ollama.log \
    && ln -s /root/.ollama/supervisor /var/lib/arasul-supervisor \
    && ln -s /opt/arasul-supervisor/bin/arasul-supervisor /usr/local/bin/arasul-supervisor
COPY --from=dependencies /opt/arasul-supervisor /opt/arasul-supervisor
COPY --from=package /package/ /

# Docker publishes a port only of what listens beyond loopback.
ENV ARASUL_HOST=0.0.0.0
EXPOSE 11434 11436
VOLUME /root/.ollama
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 CMD ["arasul-supervisor", "health"]
# As in Ollama's image the entry point is the program and the command its first word: `docker run IMAGE config`.
ENTRYPOINT ["arasul-supervisor"]
CMD ["run"]
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="arasul-supervisor" \
    org.opencontainers.image.description="Ollama with a daemon over it that starts it, keeps it alive, and tells how it is" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="${BASE_IMAGE}"
