# The example application with this repository's distributions instead of published ones.
FROM python:3.13-slim
WORKDIR /app
COPY docker/application/requirements.txt docker/application/app.py ./
RUN pip install --no-cache-dir -r requirements.txt
COPY . /src
RUN pip install --no-cache-dir /src/configurator /src && opentelemetry-bootstrap -a install
USER 65532:65532
ENTRYPOINT ["opentelemetry-instrument", "python", "app.py"]
