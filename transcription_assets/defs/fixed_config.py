"""Definitions without run configuration: a person who launches a run cannot change what it works with.

Dagster lets that person set every field of a resource, an executor or an I/O manager, also from an environment
variable. Programs, addresses, folders and secrets must come from the operator's settings only.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg


def resources(values: Mapping[str, dg.ConfigurableResource[Any]]) -> dict[str, dg.ResourceDefinition]:
    """Return these resources and an I/O manager, all without a configuration."""
    bound = {name: _resource(value) for name, value in values.items()}
    # No asset has a value to store, but the default I/O manager would accept a folder in the run configuration.
    return {**bound, "io_manager": dg.fs_io_manager.configured(lambda _config: {}, config_schema={})}


def executor(definition: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """Return this executor with its default configuration, which cannot be changed at launch."""
    return definition.configured(lambda _config: {}, config_schema={})


def _resource(value: dg.ConfigurableResource[Any]) -> dg.ResourceDefinition:
    return dg.ResourceDefinition(lambda _context: value, config_schema={}, description=type(value).__doc__)
