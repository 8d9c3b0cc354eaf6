"""Failures of botocore in our own words, and which of them may pass by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cxrgaze_ray.errors import CxrgazeError, StoreDenied, StoreNotFound, StoreUnavailable, UserError
from cxrgaze_ray.storage.retry import Transient

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_DENIED_CODES = {
    "401", "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId",
    "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired", "Unauthorized",
}  # fmt: skip
_TRANSIENT_CODES = {
    "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "OperationAborted",
    "RequestLimitExceeded", "RequestTimeout", "RequestTimeTooSlow", "ServiceUnavailable", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequests",
}  # fmt: skip
_TRANSIENT_STATUS = {408, 429}
_NOT_IMPLEMENTED = 501
_AGAIN = "Check the endpoint (AWS_ENDPOINT_URL) and run the same command again."


def code(error: ClientError) -> str:
    """Return S3's word for an error, or the HTTP status where the reply had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Raise what botocore raises as an error of ours: `retry.Transient` if another attempt may help."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _answered(error, uri) from error
    except BotoCoreError as error:
        raise _not_answered(error, uri) from error
    except (HTTPError, ResponseParserError) as error:
        raise Transient(f"S3 gave half a reply for {uri} ({type(error).__name__}).", _AGAIN) from error


def _answered(error: ClientError, uri: str) -> CxrgazeError:
    name, status = code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if name == "NoSuchBucket":
        return StoreNotFound(f"There is no bucket for {uri}.", "Create it, or check the name.")
    if name in {"NoSuchKey", "404", "NotFound"}:
        return StoreNotFound(f"There is no object {uri}.", "Check the URI.")
    if name in _DENIED_CODES or status in {401, 403}:
        return StoreDenied(f"S3 denied access to {uri} ({name}).", "Check the credentials and the bucket's policy.")
    passing = status in _TRANSIENT_STATUS or (status >= 500 and status != _NOT_IMPLEMENTED)
    kind = Transient if passing or name in _TRANSIENT_CODES else StoreUnavailable
    return kind(f"S3 answered {name or status} for {uri}.", _AGAIN)


def _not_answered(error: Exception, uri: str) -> CxrgazeError:
    from botocore import exceptions as boto

    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound)):
        hint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        return StoreDenied(f"No usable AWS credentials for {uri}.", hint)
    if isinstance(error, (boto.CredentialRetrievalError, boto.SSOError, boto.TokenRetrievalError)):
        return StoreDenied(f"No usable AWS credentials for {uri}.", "Log in again, or check AWS_PROFILE.")
    if isinstance(error, boto.ParamValidationError):
        return UserError("The bucket or the key has a name that S3 does not allow.", "Write s3://bucket/prefix.")
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint = "Name its authority's PEM file in CXRGAZE_S3_CA_BUNDLE or AWS_CA_BUNDLE."
        return StoreUnavailable(f"The certificate of the S3 endpoint is not trusted ({uri}).", hint)
    passing = (
        boto.ConnectionError,  # refused, no such host for now, a broken handshake
        boto.HTTPClientError,  # reset, timed out, half a body
        boto.IncompleteReadError,
        boto.FlexibleChecksumError,
    )
    kind = Transient if isinstance(error, passing) else StoreUnavailable
    return kind(f"S3 is not reachable for {uri} ({type(error).__name__}).", _AGAIN)
