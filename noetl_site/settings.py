"""All settings, each from the environment; the table of them is in `docs/operations.md`.

With neither `DATABASE_URL` nor `REDIS_URL` the embedded services of the data folder are used; this file only says
where they will be, and the first connection starts them.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from noetl_site import embedded
from noetl_site.console.theme import UNFOLD as UNFOLD
from noetl_site.environment import (
    ADMIN_TIMEOUTS,
    SESSION_TIMEOUTS,
    boolean,
    database_from_url,
    embedded_database,
    env,
    networks,
    number,
    one_of,
    pools,
    pools_by_kind,
    secret,
    values_for_templates,
    words,
)

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Data folder and secrets: made when they are needed and not given.

NOETL_DATA_DIR = Path(env("NOETL_DATA_DIR", default=str(BASE_DIR / "data"))).absolute()


def _secret_or_kept(name: str, key: str, **make: Any) -> str:
    return secret(name) or embedded.keep_secret(embedded.open_folder(NOETL_DATA_DIR), key, **make)


DEBUG = boolean("NOETL_DEBUG", default=False)
SECRET_KEY = _secret_or_kept("SECRET_KEY", "secret_key", make=lambda: secrets.token_urlsafe(50))
NOETL_CREDENTIAL_KEYS = [
    key.strip()
    for key in _secret_or_kept(
        "NOETL_CREDENTIAL_KEYS", "credential_keys", make=lambda: Fernet.generate_key().decode()
    ).split(",")
]

# --- Database and broker.

_database_url, _redis_url = secret("DATABASE_URL"), secret("REDIS_URL")
if bool(_database_url) != bool(_redis_url):
    raise ImproperlyConfigured("set both DATABASE_URL and REDIS_URL, or neither to use the embedded services")

DATABASES: dict[str, dict[str, Any]]
NOETL_EMBEDDED = not _database_url
if NOETL_EMBEDDED:
    _embedded = embedded.describe(NOETL_DATA_DIR)
    DATABASES = {
        "default": embedded_database(_embedded, _embedded.database, SESSION_TIMEOUTS),
        "admin": embedded_database(_embedded, _embedded.database_admin, ADMIN_TIMEOUTS),
    }
    CELERY_BROKER_URL = _embedded.redis_url
else:
    DATABASES = {
        "default": database_from_url(_database_url, SESSION_TIMEOUTS),
        "admin": database_from_url(secret("DATABASE_ADMIN_URL") or _database_url, ADMIN_TIMEOUTS),
    }
    CELERY_BROKER_URL = _redis_url

# --- Django.

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "noetl_site.console.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "catalog",
    "queueing",
    "executions",
    "executors",
    "noetl_site",
]
MIDDLEWARE = [
    "noetl_site.rest.bodies.ReadTheRest",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the apps', as some of Unfold's are replaced.
        "DIRS": [BASE_DIR / "noetl_site" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "noetl_site.urls"
WSGI_APPLICATION = "noetl_site.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "noetl_site.formats"

STATIC_URL = "static/"
# Files are served from where they are installed: no build step comes before the first start.
WHITENOISE_USE_FINDERS = True

ALLOWED_HOSTS = words("ALLOWED_HOSTS", default="localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = words("CSRF_TRUSTED_ORIGINS")
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Behind TLS; off on one machine, where the console is plain http on the loopback address.
NOETL_HTTPS = boolean("NOETL_HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = NOETL_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(api/)?health"]
SECURE_HSTS_SECONDS = 31536000 if NOETL_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = NOETL_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if boolean("NOETL_BEHIND_PROXY", default=False) else None
# More than the largest output (10 MiB), as JSON may write it longer than it is.
DATA_UPLOAD_MAX_MEMORY_SIZE = int(number("NOETL_MAX_BODY_BYTES", default=16 * 1024 * 1024, least=1024))

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["noetl_site.rest.parsers.BoundedJSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "noetl_site.access.authentication.BearerToken",
        # For those who are logged in to the console and look at the API's pages.
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["noetl_site.access.permissions.NeededPermission"],
    "DEFAULT_PAGINATION_CLASS": "noetl_site.rest.pagination.LinkPagination",
    "DEFAULT_SCHEMA_CLASS": "noetl_site.rest.schema.ProblemSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "noetl_site.errors.handle_exception",
}
KNOX_TOKEN_MODEL = "noetl_site.ApiToken"  # noqa: S105  # the name of a model
REST_KNOX = {
    "TOKEN_PREFIX": "noetl_",
    "AUTH_HEADER_PREFIX": "Bearer",
    # Its own default would end every token after ten hours; the command that makes one says how long it lasts.
    "TOKEN_TTL": None,
}
# Knox's own table is replaced by ours, and would only stand empty beside it.
MIGRATION_MODULES = {"knox": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "NoETL",
    "DESCRIPTION": "Playbooks, executions, and the queue that workers lease their jobs from. See docs/api.md.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {"ComponentTypeEnum": "executors.models.Runtime.ComponentType"},
}
# On a closed network a client of the original works without a token.
NOETL_API_ANONYMOUS = boolean("NOETL_API_ANONYMOUS", default=False)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    # Of every handler: nothing is written that holds a secret.
    "filters": {"secrets": {"()": "executors.redaction.SecretsFilter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["secrets"]}},
    "root": {"handlers": ["stderr"], "level": env("LOG_LEVEL", default="INFO").upper()},
    # Two lines for every message, and a message is only a hint: what came of the jobs is told by events.
    # Libraries that write down what they send and get: a secret among it is not known yet when it comes.
    "loggers": {
        name: {"level": "WARNING"}
        for name in (
            *("celery.worker.strategy", "celery.app.trace"),
            *("boto3", "botocore", "s3transfer", "urllib3", "google", "azure", "msal"),
        )
    },
}

# --- Celery: JSON only, no results, and messages that are nothing but hints (rule R11).

CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED = False
CELERY_TASK_DEFAULT_QUEUE = "noetl.default"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_TIMEOUT = 1
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_POOL_LIMIT = 4
CELERY_BROKER_HEARTBEAT = 0
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # A hint needs no acknowledgement; without the bookkeeping a message costs a third.
    "ack_emulation": False,
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "retry_on_timeout": False,
    "max_retries": 0,
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_DETECT_QUORUM_QUEUES = False

# --- The platform.

NOETL_EVALUATE_INLINE = boolean("NOETL_EVALUATE_INLINE", default=True)
NOETL_INLINE_RESULT_BYTES = int(number("NOETL_INLINE_RESULT_BYTES", default=65536, least=1024))
# What actions print and log: of a job, and of an execution; more is counted and dropped.
NOETL_LOG_BYTES_PER_JOB = int(number("NOETL_LOG_BYTES_PER_JOB", default=256 * 1024))
NOETL_LOG_BYTES_PER_EXECUTION = int(number("NOETL_LOG_BYTES_PER_EXECUTION", default=16 * 1024 * 1024))
NOETL_MAX_CHILD_DEPTH = int(number("NOETL_MAX_CHILD_DEPTH", default=16, least=1))
# Whose workers run an action when neither its step nor its playbook names a pool; what this platform's workers serve.
NOETL_POOLS_BY_KIND = pools_by_kind("NOETL_POOLS_BY_KIND")
NOETL_WORKER_POOLS = pools("NOETL_WORKER_POOLS", default=",".join(["default", *NOETL_POOLS_BY_KIND.values()]))
# Starts are refused when so many jobs wait, or executions run; 0: never.
NOETL_MAX_QUEUED_JOBS = int(number("NOETL_MAX_QUEUED_JOBS", default=1_000_000))
NOETL_MAX_RUNNING_EXECUTIONS = int(number("NOETL_MAX_RUNNING_EXECUTIONS", default=0))
NOETL_LEASE_SECONDS = number("NOETL_LEASE_SECONDS", default=60.0, least=1.0)
NOETL_TEMPLATE_ENV = words("NOETL_TEMPLATE_ENV")
NOETL_TEMPLATE_ENV_VALUES = values_for_templates(NOETL_TEMPLATE_ENV, os.environ)
NOETL_HTTP_ALLOWED_NETWORKS = networks("NOETL_HTTP_ALLOWED_NETWORKS")
NOETL_HTTP_MAX_DOWNLOAD_BYTES = int(number("NOETL_HTTP_MAX_DOWNLOAD_BYTES", default=1024**3, least=1))
# A playbook reads files that are named in its step and lie in one of these folders.
NOETL_DUCKDB_ALLOWED_DIRECTORIES = [
    Path(directory).absolute()
    for directory in words("NOETL_DUCKDB_ALLOWED_DIRECTORIES", default=str(BASE_DIR / "examples"))
]
# What DuckDB may hold in memory for one step, in DuckDB's words; past it, it writes to the data folder.
NOETL_DUCKDB_MEMORY_LIMIT = env("NOETL_DUCKDB_MEMORY_LIMIT", default="1GB")
# The files of the secrets' provider `file`, such as /run/secrets; without it no file is read.
NOETL_SECRETS_DIR = Path(_folder).absolute() if (_folder := env("NOETL_SECRETS_DIR", default="")) else None
# The levels of executors.sandbox, from the weakest to the strongest.
_LEVELS = ("turn", "job", "bwrap")
NOETL_PYTHON_ISOLATION = one_of("NOETL_PYTHON_ISOLATION", _LEVELS, default="turn")
NOETL_PYTHON_ISOLATION_LEAST = one_of("NOETL_PYTHON_ISOLATION_LEAST", _LEVELS, default="turn")
if _LEVELS.index(NOETL_PYTHON_ISOLATION) < _LEVELS.index(NOETL_PYTHON_ISOLATION_LEAST):
    raise ImproperlyConfigured(
        f"NOETL_PYTHON_ISOLATION is {NOETL_PYTHON_ISOLATION}, below "
        f"NOETL_PYTHON_ISOLATION_LEAST, which is {NOETL_PYTHON_ISOLATION_LEAST}"
    )
# Where scripts of python steps may be kept as files; empty: nowhere. What packages steps may ask for; empty: none.
NOETL_PYTHON_SCRIPTS_DIR = (
    Path(_scripts).absolute() if (_scripts := env("NOETL_PYTHON_SCRIPTS_DIR", default="")) else None
)
NOETL_PYTHON_DEPENDENCIES = words("NOETL_PYTHON_DEPENDENCIES")
# A shell step has the whole machine before it that its user may see: somebody has to want that.
NOETL_SHELL = boolean("NOETL_SHELL", default=False)
NOETL_SERVER_NAME = env("NOETL_SERVER_NAME", default="")
NOETL_SERVER_URL = env("NOETL_SERVER_URL", default="http://localhost:8080")
NOETL_WORKER_POOL_NAME = env("NOETL_WORKER_POOL_NAME", default="")
NOETL_WORKER_POOL_RUNTIME = env("NOETL_WORKER_POOL_RUNTIME", default="")
NOETL_WORKER_HEARTBEAT_INTERVAL = number("NOETL_WORKER_HEARTBEAT_INTERVAL", default=15.0, least=1.0)
NOETL_RUNTIME_SWEEP_INTERVAL = number("NOETL_RUNTIME_SWEEP_INTERVAL", default=15.0, least=1.0)
NOETL_RUNTIME_OFFLINE_SECONDS = number("NOETL_RUNTIME_OFFLINE_SECONDS", default=60.0, least=1.0)
