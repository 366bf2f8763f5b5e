"""The store in a bucket; a separate module, because importing dagster-aws takes a second."""

from dagster_aws.s3 import S3Resource

from transcription_assets.defs.resources import StoreResource
from transcription_assets.storage import Store
from transcription_assets.storage.errors import translate_errors


class BucketResource(StoreResource):
    """The store at `s3://bucket/prefix`, with the keys, profile, region and endpoint of dagster-aws's `S3Resource`.

    Unset fields fall back to the usual AWS sources: `AWS_*` variables, profiles, roles.
    """

    s3: S3Resource

    def open(self) -> Store:
        """Open the store.

        Raises:
            PermanentFailure: The bucket or the AWS profile does not exist, or access is refused.
            TransientFailure: The bucket does not answer.

        """
        import boto3

        with translate_errors(self.url):
            session = boto3.Session(
                profile_name=self.s3.profile_name,
                region_name=self.s3.region_name,
                aws_access_key_id=self.s3.aws_access_key_id,
                aws_secret_access_key=self.s3.aws_secret_access_key,
                aws_session_token=self.s3.aws_session_token,
            )
        return Store.open(self.url, s3_session=session, s3_endpoint=self.s3.endpoint_url)
