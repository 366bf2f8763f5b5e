"""The API tested against its own OpenAPI schema with schemathesis."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode

from transcription_assets.storage import Store
from transcription_assets_tests import served
from transcription_assets_tests.served import TALK

ROUTES = 15
BARE = ["/api/facets", "/api/people", "/api/uploads"]
"""Routes without parameters, which have no invalid requests."""
TOKEN = "schemathesis"
WRITER = {"authorization": f"Bearer {TOKEN}"}
REQUESTS = 25
"""Requests for each route and mode; all of them take less than half a minute."""

# The same requests in every run, so that the result does not depend on chance.
fuzzed = settings(
    max_examples=REQUESTS,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    folder = tmp_path_factory.mktemp("fuzzed")
    store = Store.open(str(folder / "store"))
    served.fill(store, folder)
    with served.listening(served.archive(store, serve_write_token=TOKEN, uploads_dir=folder / "uploads")) as address:
        yield schemathesis.openapi.from_url(f"{address}/api/openapi.json")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_api_answers_conform_to_its_schema(api: schemathesis.BaseSchema, mode: GenerationMode) -> None:
    asked = api.exclude(path="/api/media", method="POST")  # a schema cannot say what a recording is
    if mode is GenerationMode.NEGATIVE:
        asked = asked.exclude(path=BARE, method="GET")
    operations = [result.ok() for result in asked.get_all_operations()]
    assert len(operations) >= ROUTES
    for operation in operations:

        @fuzzed
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: Case) -> None:
            case.call_and_validate(headers=WRITER)

        holds()


def test_any_body_is_handled_as_an_upload(api: schemathesis.BaseSchema) -> None:
    @fuzzed
    @given(case=api["/api/media"]["POST"].as_strategy())
    def holds(case: Case) -> None:
        assert case.call(headers=WRITER).status_code in {411, 413, 415, 422}

    holds()


def test_any_parameters_of_an_existing_recording_are_handled(api: schemathesis.BaseSchema) -> None:
    for result in api.include(path_regex="key").get_all_operations():

        @fuzzed
        @given(case=result.ok().as_strategy())
        def holds(case: Case) -> None:
            case.path_parameters["key"] = TALK
            assert case.call(headers=WRITER).status_code in {200, 206, 400, 404, 416, 422}

        holds()
