"""Failures of botocore in our own words, and which of them may pass by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cxrgaze_ray.errors import (
    ConfigError,
    CxrgazeError,
    ObjectDenied,
    StoreDenied,
    StoreNotFound,
    StoreUnavailable,
    UserError,
)
from cxrgaze_ray.storage.retry import Transient

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_DENIED_CODES = {
    "401", "403", "AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized",
}  # fmt: skip
_EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
_TRANSIENT_CODES = {
    "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "OperationAborted",
    "RequestLimitExceeded", "RequestTimeout", "RequestTimeTooSlow", "ServiceUnavailable", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequests",
}  # fmt: skip
_TRANSIENT_STATUS = {408, 429}
_NOT_IMPLEMENTED = 501
_ELSEWHERE_CODES = {
    "301", "307", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect",
}  # fmt: skip
_FULL_CODES = {"QuotaExceeded", "XMinioStorageFull", "507"}
_CLOCK_CODES = {"RequestExpired", "RequestTimeTooSkewed"}
_AGAIN = "Check the endpoint (AWS_ENDPOINT_URL) and run the same command again."
_LATER = "Run the same command again later."
_MOST_WORDS = 200
"""Most characters of a store's own message that are passed on."""


def code(error: ClientError) -> str:
    """Return S3's word for an error, or the HTTP status where the reply had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def told(error: ClientError) -> str:
    """Return S3's word for an error with the store's own message, in one line."""
    words = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())[:_MOST_WORDS].rstrip(". ")
    return ": ".join(part for part in (code(error), words) if part)


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Turn botocore's errors into ours: `retry.Transient` if another attempt may help."""
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
        raise Transient(f"S3 gave half a reply for {uri} ({type(error).__name__}).", _LATER) from error
    except (FileNotFoundError, PermissionError) as error:  # such as a token's file that the AWS configuration names
        cause = f"{error.filename}: {error.strerror}"
        raise StoreDenied(f"No usable AWS credentials for {uri} ({cause}).", "Check the AWS variables.") from error
    except RuntimeError as error:  # botocore has no class for a role, process or file that yields expired credentials
        if "expired" not in str(error):
            raise
        raise _expired(uri) from error


def _answered(error: ClientError, uri: str) -> CxrgazeError:
    name, status = code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if name == "NoSuchBucket":
        return StoreNotFound(f"There is no bucket for {uri}.", "Create it, or check the name.")
    if name in {"NoSuchKey", "404", "NotFound"}:
        return StoreNotFound(f"There is no object {uri}.", "Check the URI.")
    if (known := _named(error, uri)) is not None:
        return known
    if name in _DENIED_CODES or status in {401, 403}:
        hint = "Check the credentials and the bucket's policy."
        return StoreDenied(f"S3 denied {error.operation_name} of {uri} ({name}).", hint)
    if name in _TRANSIENT_CODES or status in _TRANSIENT_STATUS or (status >= 500 and status != _NOT_IMPLEMENTED):
        return Transient(f"S3 answered {name or status} for {uri}.", _LATER)
    hint = "Check that endpoint (AWS_ENDPOINT_URL), region and bucket belong together, and that the store can do it."
    return StoreUnavailable(f"S3 refused {error.operation_name} of {uri} ({told(error) or status}).", hint)


def _named(error: ClientError, uri: str) -> CxrgazeError | None:
    """Return the error for a reply whose code names another cause than its HTTP status does."""
    name = code(error)
    if name in _EXPIRED_CODES:
        return _expired(uri, f" ({name})")
    if name in _CLOCK_CODES:
        return StoreUnavailable(f"This machine's clock and that of S3 differ ({name}).", "Set this machine's clock.")
    if name in _FULL_CODES:
        return StoreUnavailable(f"The store of {uri} is full ({name}).", "Make room, then run the same command again.")
    if name == "InvalidObjectState":  # by definition about this object, unlike AccessDenied, which may concern all
        hint = "Restore it into the bucket, then run the same command again."
        return ObjectDenied(f"{uri} lies in an archive tier, where it can't be read.", hint)
    if name in _ELSEWHERE_CODES:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region", "")
        hint = f"Set AWS_DEFAULT_REGION to {region or 'its region'}, and AWS_ENDPOINT_URL to where it is."
        return StoreUnavailable(f"The bucket of {uri} is in another region ({name}).", hint)
    return None


def _expired(uri: str, word: str = "") -> StoreDenied:
    return StoreDenied(f"The AWS credentials for {uri} have expired{word}.", "Renew them, or log in again.")


def _not_answered(error: Exception, uri: str) -> CxrgazeError:
    from botocore import exceptions as boto

    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        hint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        return StoreDenied(f"No usable AWS credentials for {uri}.", hint)
    if isinstance(error, (boto.CredentialRetrievalError, boto.SSOError, boto.TokenRetrievalError)):
        return StoreDenied(f"No usable AWS credentials for {uri}.", "Log in again, or check AWS_PROFILE.")
    if isinstance(error, boto.ParamValidationError):
        return UserError("The bucket or the key has a name that S3 does not allow.", "Write s3://bucket/prefix.")
    if isinstance(error, boto.SSLError):
        return _no_handshake(str(error.kwargs["error"]), uri)  # without the URL, whose words are not the cause's
    passing = (
        boto.ConnectionError,  # refused, no such host for now
        boto.HTTPClientError,  # reset, timed out, half a body
        boto.IncompleteReadError,
        boto.FlexibleChecksumError,
    )
    if not isinstance(error, passing):  # nothing was sent: the configuration prevents it
        return unusable(error)
    hint = "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY." if isinstance(error, boto.ProxyConnectionError) else _AGAIN
    return Transient(f"S3 is not reachable for {uri} ({type(error).__name__}{_place(error)}).", hint)


def unusable(error: Exception) -> ConfigError:
    """Return the error for AWS variables or a profile from which no client can be made."""
    hint = "Check the AWS variables (AWS_ENDPOINT_URL is https://host:port) and the profile in AWS_CONFIG_FILE."
    return ConfigError(f"The AWS configuration can't be used: {str(error).splitlines()[0].rstrip('.')}.", hint)


def _no_handshake(cause: str, uri: str) -> CxrgazeError:
    """Return the error for a TLS connection that could not be established."""
    if "mismatch" in cause or "doesn't match" in cause:
        hint = "Write the endpoint (AWS_ENDPOINT_URL) with a name that is in its certificate."
        return StoreUnavailable(f"The certificate of the S3 endpoint is for another name ({uri}).", hint)
    if "expired" in cause or "not yet valid" in cause:
        hint = "Have it renewed, or set this machine's clock."
        return StoreUnavailable(f"The certificate of the S3 endpoint is not valid now ({uri}).", hint)
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        hint = "Name its authority's PEM file in CXRGAZE_S3_CA_BUNDLE or AWS_CA_BUNDLE."
        return StoreUnavailable(f"The certificate of the S3 endpoint is not trusted ({uri}).", hint)
    if "NO_CERTIFICATE_OR_CRL_FOUND" in cause or "PEM" in cause:
        hint = "Name another file in CXRGAZE_S3_CA_BUNDLE or AWS_CA_BUNDLE."
        return ConfigError("The CA bundle for S3 holds no certificate in PEM form.", hint)
    hint = "Check that the endpoint (AWS_ENDPOINT_URL) speaks https, and run the same command again."
    return Transient(f"S3 is not reachable for {uri} (no TLS handshake).", hint)


def _place(error: Exception) -> str:
    """Return the host that did not answer, without the object's name."""
    host = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", ""))).hostname
    return f" at {host}" if host else ""
