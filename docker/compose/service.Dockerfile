# The example application with this repository's distributions instead of published ones: wheels of them, made in a stage that
# may have a compiler. The image that runs has none.
ARG PYTHON=python
FROM ${PYTHON}:3.13-slim AS wheels
WORKDIR /src
COPY pyproject.toml ./
RUN pip install --no-cache-dir --upgrade 'pip >= 25.1' && pip install --no-cache-dir --group wheels
COPY . .
RUN python3 release/build.py --output /wheels --platform "manylinux-$(uname -m)" \
    --python "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

FROM ${PYTHON}:3.13-slim
WORKDIR /app
COPY docker/application/requirements.txt docker/application/app.py ./
RUN pip install --no-cache-dir -r requirements.txt
COPY --from=wheels /wheels /wheels
RUN pip install --no-cache-dir --only-binary :all: --find-links /wheels otel-profiling-distro && opentelemetry-bootstrap -a install
USER 65532:65532
ENTRYPOINT ["opentelemetry-instrument", "python", "app.py"]
