"""The catalog's door: all that other apps may use of it."""

from catalog.domain.codec import split_reference
from catalog.domain.playbook import FORMAT, Action, Loop, Playbook, Step, Target, Transition
from catalog.domain.registered import PinnedVersion, RegisteredPlaybook, Registration
from catalog.domain.template_syntax import (
    ALLOWED_FILTERS,
    ALLOWED_GLOBALS,
    ALLOWED_TESTS,
    is_template,
    names_read,
)
from catalog.errors import CatalogError, PlaybookInvalid, PlaybookNotFound, Problem
from catalog.selectors import (
    find_playbook_version,
    get_playbook_version,
    list_playbook_versions,
    list_playbooks,
    pin_playbook_version,
)
from catalog.services import (
    load_playbook,
    playbook_json_schema,
    register_action_schemas,
    register_playbook,
    validate_text,
)

__all__ = [
    "ALLOWED_FILTERS",
    "ALLOWED_GLOBALS",
    "ALLOWED_TESTS",
    "FORMAT",
    "Action",
    "CatalogError",
    "Loop",
    "PinnedVersion",
    "Playbook",
    "PlaybookInvalid",
    "PlaybookNotFound",
    "Problem",
    "RegisteredPlaybook",
    "Registration",
    "Step",
    "Target",
    "Transition",
    "find_playbook_version",
    "get_playbook_version",
    "is_template",
    "list_playbook_versions",
    "list_playbooks",
    "load_playbook",
    "names_read",
    "pin_playbook_version",
    "playbook_json_schema",
    "register_action_schemas",
    "register_playbook",
    "split_reference",
    "validate_text",
]
