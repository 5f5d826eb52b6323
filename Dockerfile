# The server, the workers and the operator's commands: one image, started with different commands.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    NOETL_DATA_DIR=/data

WORKDIR /app

# One lock for everything that runs: what was tested is what is installed.
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

COPY LICENSE manage.py ./
COPY catalog catalog
COPY executions executions
COPY queueing queueing
COPY executors executors
COPY noetl_site noetl_site
COPY examples examples

# /app belongs to root: the platform cannot change its own code.
RUN python -m compileall -q manage.py catalog executions queueing executors noetl_site \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /data noetl \
    && install -d -o noetl -g noetl -m 0750 /data
USER noetl
VOLUME /data
EXPOSE 8080

ENTRYPOINT ["python", "manage.py"]
CMD ["help"]
