# One image for every process of the platform; the command says which. With DATABASE_URL and REDIS_URL nothing is
# embedded; without them `manage.py standalone` keeps Postgres and Redis in the volume.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /srv/noetl
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock

COPY . .
RUN useradd --system --uid 10001 --home-dir /srv/noetl --shell /usr/sbin/nologin noetl \
    && install -d -m 700 -o noetl -g noetl /var/lib/noetl
USER noetl
ENV NOETL_DATA_DIR=/var/lib/noetl
VOLUME /var/lib/noetl
EXPOSE 8080

CMD ["python", "manage.py", "standalone", "--host", "0.0.0.0"]
