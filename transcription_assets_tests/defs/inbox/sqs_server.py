"""A real SQS server for tests: moto's server mode, over HTTP on a free port."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

numbers = count()


@dataclass(frozen=True, slots=True)
class SqsServer:
    endpoint: str

    def client(self) -> Any:
        import boto3

        return boto3.Session("any", "any", region_name="us-east-1").client("sqs", endpoint_url=self.endpoint)

    def queue(self) -> str:
        """The URL of a new queue."""
        return str(self.client().create_queue(QueueName=f"inbox-{next(numbers)}")["QueueUrl"])

    def waiting(self, url: str) -> tuple[int, int]:
        """How many messages can be received now, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client().get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return int(answer[names[0]]), int(answer[names[1]])


@contextmanager
def serve() -> Iterator[SqsServer]:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield SqsServer(f"http://{host}:{port}")
    finally:
        server.stop()
