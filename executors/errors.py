"""What can go wrong in executors, each with a stable code. No HTTP here."""

from __future__ import annotations

from typing import ClassVar


class ExecutorError(Exception):
    """Root of this app's errors."""

    code: ClassVar[str] = "executor_error"


class CredentialNotFound(ExecutorError):
    """No credential has this name."""

    code = "credential_not_found"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no credential is named {name!r}")


class CredentialUnreadable(ExecutorError):
    """A stored credential cannot be decrypted with the keys at hand, or belongs to another row."""

    code = "credential_unreadable"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the credential {name!r} cannot be read with the configured keys")


class CredentialInvalid(ExecutorError):
    """What is to be stored is no credential of its type; nothing was stored. The message quotes no value."""

    code = "credential_invalid"


class CredentialExists(ExecutorError):
    """Credentials of these names are there already; nothing was stored."""

    code = "credential_exists"

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(f"already stored: {', '.join(names)}; say --replace to store them anew")


class CredentialOutOfScope(ExecutorError):
    """The playbook may not use the credential."""

    code = "credential_out_of_scope"

    def __init__(self, name: str, path: str = "") -> None:
        self.name = name
        super().__init__(f"the credential {name!r} may not be used by {f'the playbook {path}' if path else 'this job'}")


class CredentialDataIsWriteOnly(ExecutorError):
    """A credential's data is never given back."""

    code = "credential_data_is_write_only"

    def __init__(self) -> None:
        super().__init__("the data of a credential is never given back: workers get it for the jobs that name it")


class CredentialsUnreadable(ExecutorError):
    """A file of credentials for a run without a server is not what it should be."""

    code = "credentials_unreadable"

    def __init__(self, file: str, problem: str) -> None:
        self.file = file
        self.problem = problem
        super().__init__(f"the credentials in {file} cannot be read: {problem}")


class NotAuthenticated(ExecutorError):
    """The server does not know the token, or the token may not do this."""

    code = "not_authenticated"


class ServerUnreachable(ExecutorError):
    """The server does not answer."""

    code = "server_unreachable"


class PlatformAway(Exception):
    """The platform cannot be asked now. Nobody's fault: a job that needs it is run again once its lease has run out."""


class ComponentTaken(ExecutorError):
    """Somebody else announced a component of this name; nothing was changed."""

    code = "component_taken"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"a component named {name!r} was announced by somebody else: take another name")
