"""Definitions without a configuration: whoever may launch a run cannot choose what it works with.

Dagster lets the person who launches a run set every field of a resource, an executor or an I/O manager, also from an
environment variable. Programs, addresses, folders and secrets are the operator's to choose, in the settings.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg


def resources(values: Mapping[str, dg.ConfigurableResource[Any]]) -> dict[str, dg.ResourceDefinition]:
    """Return these resources, and an I/O manager, none of which takes a configuration."""
    bound = {name: _resource(value) for name, value in values.items()}
    # No asset has a value to store, but the default I/O manager would take a folder at launch.
    return {**bound, "io_manager": dg.fs_io_manager.configured(lambda _config: {}, config_schema={})}


def executor(definition: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """Return this executor with its default configuration, which cannot be changed at launch."""
    return definition.configured(lambda _config: {}, config_schema={})


def _resource(value: dg.ConfigurableResource[Any]) -> dg.ResourceDefinition:
    return dg.ResourceDefinition(lambda _context: value, config_schema={}, description=type(value).__doc__)
