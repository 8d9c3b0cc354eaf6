"""What S3 or its configuration says is wrong is what the user is told is wrong."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from cxrgaze_ray.errors import ConfigError, CxrgazeError, ObjectDenied, StoreDenied, StoreNotFound, StoreUnavailable
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.storage.retry import Transient
from cxrgaze_ray.storage.s3_client import forget_clients, frozen_credentials
from cxrgaze_ray.storage.s3_errors import s3_errors

URI = "s3://bucket/key"
Kind = type[CxrgazeError]


def answer(code: str, status: int, message: str = "") -> CxrgazeError:
    """Return what becomes of a reply."""
    reply = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(CxrgazeError) as caught, s3_errors(URI):
        raise ClientError(reply, "PutObject")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("code", "status", "kind", "said"),
    [
        ("NoSuchBucket", 404, StoreNotFound, "no bucket .*check the name"),
        ("AccessDenied", 403, StoreDenied, "denied PutObject of .*policy"),
        ("403", 403, StoreDenied, "denied PutObject of .*policy"),
        ("ExpiredToken", 400, StoreDenied, "credentials .* have expired .*log in again"),
        ("RequestTimeTooSkewed", 403, StoreUnavailable, "clock .*Set this machine's clock"),
        ("InvalidObjectState", 403, ObjectDenied, "archive tier.*Restore it"),
        ("QuotaExceeded", 403, StoreUnavailable, "is full .*Make room"),
        ("507", 507, StoreUnavailable, "is full .*Make room"),
        ("PermanentRedirect", 301, StoreUnavailable, "another region .*AWS_DEFAULT_REGION"),
        ("AuthorizationHeaderMalformed", 400, StoreUnavailable, "another region .*AWS_DEFAULT_REGION"),
        ("SlowDown", 503, Transient, "SlowDown.*later"),
        ("502", 502, Transient, "502.*later"),
        ("InvalidArgument", 400, StoreUnavailable, r"refused PutObject of .*\(InvalidArgument: Two words\)"),
        ("MissingContentLength", 411, StoreUnavailable, r"refused PutObject of .*\(MissingContentLength: Two words\)"),
    ],
)
def test_a_reply_is_told_by_its_cause(code: str, status: int, kind: Kind, said: str) -> None:
    error = answer(code, status, "Two\n  words.")
    assert type(error) is kind
    with pytest.raises(kind, match=said):
        raise error


def test_a_process_that_gives_expired_credentials_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "2020-01-01T00:00:00Z"}
    (tmp_path / "credentials.json").write_text(json.dumps(found))
    command = shlex.join(["cat", str(tmp_path / "credentials.json")])
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {command}\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    forget_clients()
    try:
        for use in (partial(open_store(URI).get, "key"), frozen_credentials):
            with pytest.raises(StoreDenied, match=r"credentials .* have expired.* log in again"):
                use()
    finally:
        forget_clients()


def test_a_buckets_own_region_is_named() -> None:
    headers = {"x-amz-bucket-region": "eu-west-3"}
    reply = {"Error": {"Code": "301"}, "ResponseMetadata": {"HTTPStatusCode": 301, "HTTPHeaders": headers}}
    with pytest.raises(StoreUnavailable, match="AWS_DEFAULT_REGION to eu-west-3"), s3_errors(URI):
        raise ClientError(reply, "HeadObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variables", "kind", "said"),
    [
        ({"AWS_ENDPOINT_URL": "host:9000"}, ConfigError, "Invalid endpoint: host:9000.*https://host:port"),
        ({"AWS_ENDPOINT_URL": "ftp://host"}, ConfigError, "ftp://host.*https://host:port"),
        ({"AWS_DEFAULT_REGION": "us east"}, ConfigError, "us east.*AWS variables"),
        ({"AWS_REQUEST_CHECKSUM_CALCULATION": "never"}, ConfigError, "when_required.*AWS variables"),
        ({"AWS_PROFILE": "nobody"}, ConfigError, "nobody.*AWS_CONFIG_FILE"),
        ({"AWS_CA_BUNDLE": "/no/such"}, ConfigError, "no CA bundle /no/such"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, StoreDenied, "No usable AWS credentials .*AWS_SECRET_ACCESS_KEY"),
        ({"HTTP_PROXY": "http://user:pass@127.0.0.1:9"}, StoreUnavailable, "NO_PROXY"),
        ({"AWS_ENDPOINT_URL": "http://nosuch.invalid"}, StoreUnavailable, r"at nosuch\.invalid.*AWS_ENDPOINT_URL"),
    ],
)  # fmt: skip
def test_a_configuration_that_can_not_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], kind: Kind, said: str
) -> None:
    usual = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "CXRGAZE_S3_RETRY_S": "0",
        "NO_PROXY": "",
    }
    for name, value in (usual | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=said) as caught:
        open_store("s3://bucket/x").get("a")
    assert type(caught.value) is kind
    assert "pass" not in str(caught.value)


def test_a_missing_token_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(StoreDenied, match=r"No usable AWS credentials .*token: No such file"):
        open_store("s3://bucket/x").get("a")
