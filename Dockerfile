# Two images of one command:
#   model   base + tensorflow + gcs: source, export, optimize, validate, `slipway serve`
#   deploy  base + gcs + kubernetes: publish, deploy, canary, promote, and the init container that pulls a version
#
#   docker build --target deploy --build-arg PYTHON_IMAGE=python:3.13-slim-bookworm@sha256:... -t slipway-deploy .
#
# The base is given by digest and has no default: a tag can be moved, and a digest written here would age into a base
# without security updates. Any Debian-based Python 3.11 to 3.13 will do.
ARG PYTHON_IMAGE

# ---------------------------------------------------------------- tools: uv and the build backend, both by hash
FROM ${PYTHON_IMAGE} AS tools
ARG PYTHON_IMAGE
RUN expr "${PYTHON_IMAGE}" : '.*@sha256:[0-9a-f]\{64\}$' >/dev/null \
    || { echo "PYTHON_IMAGE must end in @sha256:<64 hex digits>, got: ${PYTHON_IMAGE}" >&2; exit 1; }
ENV TOOLS=/opt/tools VENV=/opt/slipway DIST=/opt/dist
WORKDIR /src
COPY requirements/uv.txt requirements/build.txt requirements/
RUN python -m venv "${TOOLS}" \
    && "${TOOLS}/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --require-hashes \
       -r requirements/uv.txt -r requirements/build.txt

# ---------------------------------------------------------------- wheel: the project itself
FROM tools AS wheel
COPY pyproject.toml README.md LICENSE slipway.py ./
COPY components components
COPY manifests manifests
COPY pipelines pipelines
RUN "${TOOLS}/bin/uv" build --wheel --no-build-isolation --python "${TOOLS}/bin/python" --out-dir "${DIST}"

# ---------------------------------------------------------------- one environment a target, without pip
FROM tools AS model-environment
COPY requirements/tensorflow.txt requirements/
RUN python -m venv --without-pip "${VENV}" \
    && "${TOOLS}/bin/uv" pip sync --python "${VENV}/bin/python" --require-hashes --no-build --compile-bytecode \
       requirements/tensorflow.txt
COPY --from=wheel /opt/dist /opt/dist
RUN "${TOOLS}/bin/uv" pip install --python "${VENV}/bin/python" --no-deps --offline --compile-bytecode "${DIST}"/*.whl

FROM tools AS deploy-environment
COPY requirements/deploy.txt requirements/
RUN python -m venv --without-pip "${VENV}" \
    && "${TOOLS}/bin/uv" pip sync --python "${VENV}/bin/python" --require-hashes --no-build --compile-bytecode \
       requirements/deploy.txt
COPY --from=wheel /opt/dist /opt/dist
RUN "${TOOLS}/bin/uv" pip install --python "${VENV}/bin/python" --no-deps --offline --compile-bytecode "${DIST}"/*.whl

# ---------------------------------------------------------------- runtime: the base without its installers
FROM ${PYTHON_IMAGE} AS runtime
ARG REVISION=unknown
LABEL org.opencontainers.image.title="slipway" \
      org.opencontainers.image.description="From a trained TensorFlow model to a proven, promoted rollout" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore setuptools wheel pip \
    && rm -rf "$(python -c 'import ensurepip; print(ensurepip.__path__[0])')"
# HOME: libraries that keep a cache look there, and the user below has no home of its own.
ENV PATH=/opt/slipway/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp

FROM runtime AS model
COPY --from=model-environment /opt/slipway /opt/slipway
USER 10001:10001
ENTRYPOINT ["slipway"]
CMD ["--help"]

FROM runtime AS deploy
COPY --from=deploy-environment /opt/slipway /opt/slipway
USER 10001:10001
ENTRYPOINT ["slipway"]
CMD ["--help"]
