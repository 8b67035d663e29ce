"""An S3 in a process of its own: moto's, taught to tell dates as AWS does, and to be strict.

An upload in parts, and the file that comes of it, have the date at which the upload began. moto says
2010 for the one, and for the other when it was put together. An upload that is over is no such upload;
moto takes it for the file, if that is there, or stumbles over it.
"""

from __future__ import annotations

from moto.core.utils import utcnow
from moto.s3 import models, responses
from moto.s3.exceptions import NoSuchUpload
from moto.server import main

BEGUN = {}


def date_begun(begin):
    def begin_and_date(backend, *arguments, **options):
        upload = begin(backend, *arguments, **options)
        BEGUN[upload.id] = utcnow()
        return upload

    return begin_and_date


def refuse_unknown(use):
    def use_known(backend, bucket_name, multipart_id, *arguments, **options):
        if multipart_id not in backend.get_bucket(bucket_name).multiparts:
            raise NoSuchUpload(multipart_id)
        return use(backend, bucket_name, multipart_id, *arguments, **options)

    return use_known


class Result(responses.ActionResult):
    def __init__(self, result):
        for upload in result.get("Uploads", ()) if isinstance(result, dict) else ():
            upload["Initiated"] = f"{BEGUN[upload['UploadId']].isoformat(timespec='seconds')}Z"
        super().__init__(result)


def date_completed(complete):
    def complete_and_date(backend, bucket_name, multipart_id, body):
        key = complete(backend, bucket_name, multipart_id, body)
        key.last_modified = BEGUN[multipart_id]
        key.multipart = None
        return key

    return complete_and_date


if __name__ == "__main__":
    backend = models.S3Backend
    backend.upload_part = refuse_unknown(backend.upload_part)
    backend.complete_multipart_upload = refuse_unknown(
        date_completed(backend.complete_multipart_upload)
    )
    backend.create_multipart_upload = date_begun(backend.create_multipart_upload)
    responses.ActionResult = Result
    main()
