"""An inbox on the S3 server, as people fill it."""

from itertools import count

from transcription_assets_tests import seaweed

numbers = count()


class Archive:
    """A prefix of its own in the server's bucket, written to without our code."""

    def __init__(self, server: seaweed.S3Server) -> None:
        self.client, self.bucket = server.client(), server.bucket
        self.prefix = f"archive {next(numbers)}"

    def put(self, *names: str, data: bytes = b"x") -> None:
        for name in names:
            self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=data)

    def remove(self, *names: str) -> None:
        for name in names:
            self.client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")

    def place(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{name}"}


def names(count: int, start: int = 0) -> list[str]:
    return [f"video/{number:03}.mp4" for number in range(start, start + count)]
