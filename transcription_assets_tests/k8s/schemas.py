"""Validate objects with the schemas of the package kubernetes-validate."""

from functools import cache
from typing import Any
from unittest import mock

from kubernetes_validate import utils

_contents = cache(utils.schema_contents)


def validate(document: dict[str, Any], version: str) -> None:
    """Validate an object strictly; each schema is read once, where the package reads a megabyte for every object."""
    with mock.patch.object(utils, "schema_contents", _contents):
        utils.validate(document, version, strict=True)
