"""A bucket of S3, or of what speaks as it does, which is listed every few seconds."""

from typing import Any

from lambent_frontend.triggers.core.objects import Listing, Object
from lambent_frontend.triggers.sources.aws import Aws
from lambent_frontend.triggers.sources.objects import MOST_OBJECTS, ObjectSource


class Bucket(ObjectSource):
    list_every_s = 5.0

    async def connect(self) -> None:
        self._aws = Aws("s3", self.named.region, self.url)
        self._closing.callback(self._aws.close)

    async def all(self, listing: Listing) -> None:
        """One page more than there may be at the most."""
        asked: dict[str, Any] = {"Bucket": self.named.name, "Prefix": self.named.stream}
        while True:
            page = await self._aws.call("list_objects_v2", **asked)
            for it in page.get("Contents", ()):
                if not it["Key"].endswith("/"):
                    listing.add(_object(it))
            if not page["IsTruncated"] or len(listing.marks) > MOST_OBJECTS:
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]


def _object(said: dict[str, Any]) -> Object:
    """One that was put again with the same bytes has another time."""
    etag, modified_at = said["ETag"].strip('"'), said["LastModified"].timestamp()
    return Object(said["Key"], f"{etag} {modified_at}", said["Size"], modified_at, etag)
