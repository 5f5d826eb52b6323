"""The project's own import-linter contract: no module is named after nothing.

It knows names of modules only, never what they import.
"""

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class NoDrawers(Contract):
    """Breaks when a module or package of the graph bears one of the forbidden names.

    Configuration: `forbidden_names`, last parts of module names, such as `utils`.
    """

    type_name = "no_drawers"

    forbidden_names = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Gives the modules that bear a forbidden name."""
        names: Any = self.forbidden_names
        drawers = sorted(
            module
            for module in graph.modules
            if not graph.is_module_squashed(module) and module.rpartition(".")[2] in names
        )
        return ContractCheck(kept=not drawers, metadata={"drawers": drawers})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Prints each drawer and what to do about it."""
        for module in check.metadata["drawers"]:
            output.print_error(f"- {module}: name it after what it knows.")
