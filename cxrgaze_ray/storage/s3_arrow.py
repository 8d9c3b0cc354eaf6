"""Arrow's S3 filesystem with credentials that stay valid: Arrow alone keeps those it was built with."""

from __future__ import annotations

from typing import Any

import pyarrow.fs as pafs

from cxrgaze_ray.storage.s3_client import arrow_filesystem, frozen_credentials


def refreshing_filesystem() -> pafs.FileSystem:
    """Return a filesystem whose every operation has credentials valid for some minutes at least.

    boto3 renews temporary ones before they expire, wherever they come from. Pickled, the filesystem holds none:
    another process uses its own.
    """
    return pafs.PyFileSystem(_Refreshing())


class _Refreshing(pafs.FileSystemHandler):  # type: ignore[misc]
    """Hands every operation to Arrow's own filesystem, which is rebuilt when the credentials change."""

    def __init__(self) -> None:
        self._built: tuple[Any, pafs.FileSystem] | None = None

    def __reduce__(self) -> tuple[type[_Refreshing], tuple[()]]:
        return _Refreshing, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Refreshing)

    def __hash__(self) -> int:
        return hash(_Refreshing)

    def _now(self) -> pafs.FileSystem:
        credentials, built = frozen_credentials(), self._built
        if built is None or built[0] != credentials:
            built = self._built = credentials, arrow_filesystem(credentials)
        return built[1]

    def get_type_name(self) -> str:
        return "s3"

    def normalize_path(self, path: str) -> str:
        return str(self._now().normalize_path(path))

    def get_file_info(self, paths: list[str]) -> Any:
        return self._now().get_file_info(paths)

    def get_file_info_selector(self, selector: pafs.FileSelector) -> Any:
        return self._now().get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._now().create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._now().delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self._now().delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        self._now().delete_dir_contents("/", accept_root_dir=True)

    def delete_file(self, path: str) -> None:
        self._now().delete_file(path)

    def move(self, src: str, dest: str) -> None:
        self._now().move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        self._now().copy_file(src, dest)

    def open_input_stream(self, path: str) -> Any:
        return self._now().open_input_stream(path, compression=None)

    def open_input_file(self, path: str) -> Any:
        return self._now().open_input_file(path)

    def open_output_stream(self, path: str, metadata: dict[str, str]) -> Any:
        return self._now().open_output_stream(path, compression=None, metadata=metadata)

    def open_append_stream(self, path: str, metadata: dict[str, str]) -> Any:
        return self._now().open_append_stream(path, compression=None, metadata=metadata)
