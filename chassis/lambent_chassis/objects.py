"""Object stores: a local folder or any S3-compatible store, by one name."""

from pathlib import Path

from obstore.store import LocalStore, ObjectStore, from_url


def open_store(location: str) -> ObjectStore:
    """A folder's path, made if it is not there, or a URL such as `s3://bucket/prefix`.

    An S3 endpoint, region and credentials come from the usual AWS_ variables. Raises obstore's BaseError for
    a location that cannot be used.
    """
    if "://" in location:
        return from_url(location)
    return LocalStore(Path(location).absolute(), mkdir=True)
