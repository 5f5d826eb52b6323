"""Secrets of AWS Secrets Manager, through boto3 (the extra `aws`).

With `auth` the credential's keys are used, else what boto3 finds on the worker: roles, profiles, its environment.
"""

from __future__ import annotations

import base64
import os
from typing import Any, Final

from executors.actions.secrets.asking import Asked, Secret, extra_missing
from executors.auth import json_object
from executors.contract import ActionFailed, Credential

DEFAULT_REGION: Final = "us-east-1"
CURRENT: Final = "AWSCURRENT"
VERSION_ID_LENGTH: Final = 32
"""Version ids are this long at least, and the names of stages are not."""
NOT_THERE: Final = frozenset({"ResourceNotFoundException"})
FORBIDDEN: Final = frozenset(
    {"AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException"}
)


def fetch(asked: Asked) -> Secret:
    """Get one version of a secret; `latest` is the stage AWSCURRENT. Raises: `ActionFailed`."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise extra_missing("aws", "boto3") from None
    arguments = asked.arguments
    bound = asked.bound()
    keys = _keys(bound.credential) if bound else {}
    region = arguments.region or keys.pop("region", None) or os.environ.get("AWS_REGION") or DEFAULT_REGION
    keys.pop("region", None)
    seconds = asked.seconds_left
    config = Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 2})
    try:
        client: Any = boto3.session.Session().client("secretsmanager", region_name=region, config=config, **keys)
        told = client.get_secret_value(SecretId=arguments.secret_name, **_version(arguments.wanted_version))
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise asked.refused(404 if code in NOT_THERE else 403 if code in FORBIDDEN else 500) from None
    except (BotoCoreError, ValueError) as error:
        message = f"aws: {type(error).__name__}: the secret {arguments.secret_name!r} cannot be had"
        raise ActionFailed("secret_provider_failed", message) from None
    return Secret(_value(asked, told), str(told.get("VersionId") or ""))


def _keys(credential: Credential) -> dict[str, str]:
    fields = credential.data
    if not (fields.get("access_key_id") and fields.get("secret_access_key")):
        message = f"the credential {credential.name!r} lacks access_key_id and secret_access_key"
        raise ActionFailed("credential_invalid", message)
    named = {
        "aws_access_key_id": fields["access_key_id"],
        "aws_secret_access_key": fields["secret_access_key"],
        "aws_session_token": fields.get("session_token"),
        "region": fields.get("region"),
    }
    return {name: value for name, value in named.items() if value}


def _version(wanted: str | None) -> dict[str, str]:
    if wanted is None:
        return {"VersionStage": CURRENT}
    return {"VersionId": wanted} if len(wanted) >= VERSION_ID_LENGTH else {"VersionStage": wanted}


def _value(asked: Asked, told: Any) -> str:
    if (text := told.get("SecretString")) is None:
        raw = bytes(told.get("SecretBinary") or b"")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return base64.b64encode(raw).decode()
    if asked.arguments.field is None:
        return str(text)
    asked.context.keep_secret([text])
    return asked.one_field(json_object(text) or {})
